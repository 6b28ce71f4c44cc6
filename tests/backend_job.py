"""One backend's share of `test_backends.py`: builds, predicts, trains a step, saves and reloads a seeded network.

A segmentation network predicts and trains a step. A detector predicts.

    KERAS_BACKEND=jax python tests/backend_job.py FOLDER networks
    KERAS_BACKEND=jax python tests/backend_job.py FOLDER detector

does so for each of `SIZES`, and writes FOLDER/<network>.npz and FOLDER/deeplabv3.npz, or FOLDER/detector.npz; the test
judges what is in them.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras.initializers import VarianceScaling
from oracle.seeded import pixels, segmentation_state_dict, state_dict
from oracle.seeded_detectors import CASES
from safetensors.numpy import save_file

from keras_resnet.models import BUILDERS
from keras_resnet.segmentation import DeepLabV3

sys.path.append(str(Path(__file__).with_name("detection")))
from detectors import batch, build, file_of

CLASSES = 10
SEGMENTATION_SIZE = (49, 66)
DETECTOR = "maskrcnn_v1"
SIZES = {"resnet18": 64, "resnet20": 32}  # pixels a side; one network with projections, one with padded shortcuts
RELOADED = "resnet20"  # the network that is saved and loaded again


def answers(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """As `model.predict`, layer by layer: compiling each of many equal models takes longer than all the rest."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def no_draw(_: VarianceScaling, shape: tuple[int, ...], dtype: str | None = None) -> Any:
    """Kernels of zeros, which those of a file take the place of: JAX compiles the draw of each shape for itself."""
    return keras.ops.zeros(shape, dtype)


def compile_model(model: keras.Model) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(1e-3), loss=loss)


def measure(network: str, folder: Path) -> dict[str, np.ndarray]:
    size = SIZES[network]

    def build(weights: Path | None) -> keras.Model:
        return BUILDERS[network](
            weights=weights, classes=CLASSES, classifier_activation=None, input_shape=(size, size, 3)
        )

    save_file(state_dict(network, CLASSES), folder / "seeded.safetensors")
    model = build(folder / "seeded.safetensors")
    images, labels = pixels(3, size, size), np.array([1, 7, 4])
    compile_model(model)  # before the first prediction, or it would be traced a second time
    results = {"backend": np.array(keras.backend.backend()), "logits": model.predict(images, verbose=0)}
    results["logits_of_one"] = answers(model, images[1:2])

    before = [keras.ops.convert_to_numpy(variable).copy() for variable in model.variables]
    results["loss"] = np.array(model.train_on_batch(images, labels), dtype=np.float32)
    results["change"] = np.array(
        [
            np.abs(keras.ops.convert_to_numpy(variable) - start).max()
            for variable, start in zip(model.variables, before, strict=True)
        ]
    )
    results["change_names"] = np.array([variable.path for variable in model.variables])
    results["trained_logits"] = model.predict(images, verbose=0)

    return results | (measure_files(model, build, images[1:2], folder) if network == RELOADED else {})


def measure_files(
    model: keras.Model, build: Callable[[Path | None], keras.Model], one: np.ndarray, folder: Path
) -> dict[str, np.ndarray]:
    results = {"called_logits": answers(model, one)}  # of one image, for which the kernels are compiled
    model.save(folder / "model.keras")
    results["reloaded_keras"] = answers(keras.models.load_model(folder / "model.keras"), one)
    model.save_weights(folder / "model.weights.h5")
    rebuilt = build(weights=None)
    rebuilt.load_weights(folder / "model.weights.h5")
    results["reloaded_weights_h5"] = answers(rebuilt, one)
    results["built_from_weights_h5"] = answers(build(folder / "model.weights.h5"), one)
    results["built_from_keras"] = answers(build(folder / "model.keras"), one)
    return results


def measure_segmentation(folder: Path) -> dict[str, np.ndarray]:
    save_file(segmentation_state_dict("deeplabv3", "resnet18", CLASSES), folder / "seeded.safetensors")
    model = DeepLabV3("resnet18", CLASSES, weights=folder / "seeded.safetensors", classifier_activation=None)
    images = pixels(2, *SEGMENTATION_SIZE)
    masks = np.arange(images[..., 0].size).reshape(images.shape[:3]) % CLASSES
    model.get_layer("aspp_dropout").rate = 0  # its random numbers are the backend's own
    compile_model(model)
    results = {"logits": model.predict(images, verbose=0)}
    results["loss"] = np.array(model.train_on_batch(images, masks), dtype=np.float32)
    results["trained_logits"] = model.predict(images, verbose=0)
    return results


def measure_detector(folder: Path) -> dict[str, np.ndarray]:
    model = build(DETECTOR, file_of(DETECTOR, folder))
    return model.predict(batch(CASES[DETECTOR]), verbose=0)


def main(folder: Path, part: str) -> None:
    with mock.patch.object(VarianceScaling, "__call__", no_draw):
        if part == "detector":
            np.savez(folder / "detector.npz", **measure_detector(folder))
            return
        np.savez(folder / "deeplabv3.npz", **measure_segmentation(folder))
        for network in SIZES:
            np.savez(folder / f"{network}.npz", **measure(network, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
