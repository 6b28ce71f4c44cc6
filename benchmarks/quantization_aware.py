"""ResNet-20 on CIFAR-10: float, int8 after training, int8 after quantization-aware training (ours, tfmot's).

The float network of each seed is the published one, trained on with that seed. From there, four ways go on, with the
same images in the same order: int8 at once; float for the same number of epochs, and int8 from that; our quantization-
aware training; tensorflow-model-optimization's. All int8 figures are of the TFLite file in LiteRT.

The case `uneven` is the same float network, written so that 8 bits fit it badly: channels between the two convolutions
of each block are scaled by 1/16 to 16, and the second convolution scales them back.

    python benchmarks/quantization_aware.py --train train.npz --test test.zip --weights resnet20.th --work runs/qat \
        --out benchmarks/results/quantization_aware.json
"""

import json
import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import typer
from cifar10 import CLASSES, Images, augmented, read_images
from shared import finish, int8_file, litert_answers

from keras_resnet import ResNet20, layer_names
from keras_resnet.backbone import resnet_backbone
from keras_resnet.blocks import BATCH_NORM_EPSILON
from keras_resnet.compress.legacy import legacy_packages, legacy_twin
from keras_resnet.compress.quantization import quantize_aware
from keras_resnet.errors import VerificationError
from keras_resnet.export import export
from keras_resnet.export.formats import FORMATS, UNVERIFIED
from keras_resnet.heads.classification import classification_head
from keras_resnet.inference import predict
from keras_resnet.preprocessing import normalisation_layer
from keras_resnet.untuned import batches_of_arrays
from keras_resnet.variants import VARIANTS

BATCH_SIZE = 64
FLOAT_LEARNING_RATE = 1e-3
TUNING_LEARNING_RATE = 3e-4  # of Adam, falling to zero along a cosine
CALIBRATION_IMAGES = 200
UNEVEN_OCTAVES = 4.0
TFMOT_MOMENTUM = 0.999


def main(
    train: Annotated[Path, typer.Option(help="NumPy archive with x, uint8 [N, 32, 32, 3], and y.")],
    test: Annotated[Path, typer.Option(help="Zip archive of images, each in the folder of its class.")],
    weights: Annotated[Path, typer.Option(help="ResNet-20 for CIFAR-10 as a PyTorch state dict, option A.")],
    work: Annotated[Path, typer.Option(help="Folder of intermediate results: what is there is not done again.")],
    out: Annotated[Path, typer.Option()],
    seeds: Annotated[int, typer.Option()] = 3,
    epochs: Annotated[int, typer.Option(help="Of each stage of training.")] = 2,
) -> None:
    """Trains, exports and measures; the record holds every figure by seed."""
    pool, held_out = read_images(train), read_images(test)
    work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        path = work / f"float-{seed}.keras"
        if not path.exists():
            keras.utils.set_random_seed(seed)
            model = published(weights, pool[0])
            fit(keras, model, epochs_of(pool, epochs, seed), FLOAT_LEARNING_RATE)
            model.save(path)
        for case in ("resnet20", "uneven"):
            model = keras.saving.load_model(path)
            if case == "uneven":
                make_uneven(model, seed)
            for name, percent in measure(model, pool, held_out, epochs, seed, work / f"{case}-{seed}").items():
                figures.setdefault(case, {}).setdefault(name, []).append(percent)
    settings = {
        "train_images": len(pool[0]),
        "test_images": len(held_out[0]),
        "calibration_images": CALIBRATION_IMAGES,
        "seeds": seeds,
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "learning_rate": TUNING_LEARNING_RATE,
        "weights": weights.name,
    }
    finish(out, "quantization_aware", settings, {case: summary(runs) for case, runs in figures.items()})


def measure(model: keras.Model, pool: Images, test: Images, epochs: int, seed: int, folder: Path) -> dict[str, float]:
    """Float network -> top-1 in percent on the test images, by the way that was gone."""
    folder.mkdir(exist_ok=True)
    tuning = epochs_of(pool, epochs, seed + 1000)
    calibration = np.random.default_rng(seed).permutation(pool[0])[:CALIBRATION_IMAGES]

    def in_keras(network: keras.Model) -> float:
        return top1_percent(predict(network, test[0], 100), test)

    def in_int8(network: keras.Model, name: str) -> float:
        return top1_percent(litert_answers(exported(network, calibration, folder / name), test[0]), test)

    def tuned(network: keras.Model, key_in_keras: str, key: str) -> dict[str, float]:
        fit(keras, network, tuning, TUNING_LEARNING_RATE)
        return {key_in_keras: in_keras(network), key: in_int8(network, key)}

    ways: dict[str, Callable[[], dict[str, float]]] = {
        "float": lambda: {"float": in_keras(model)},
        "int8": lambda: {"int8": in_int8(model, "int8")},
        "float-longer": lambda: tuned(copy_of(model), "float_longer", "int8_after_float_longer"),
        "quantize-aware": lambda: tuned(quantize_aware(copy_of(model)), "quantize_aware_in_keras", "quantize_aware"),
        "tfmot": lambda: {"tfmot": tfmot_top1_percent(model, tuning, test)},
    }
    runs: dict[str, float] = {}
    for name, way in ways.items():
        path = folder / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(way()))
            print(folder.name, path.read_text(), flush=True)
        runs |= json.loads(path.read_text())
    return runs


def summary(runs: dict[str, list[float]]) -> dict[str, Any]:
    """Top-1 in percent by way and seed -> also means, standard deviations, and differences by seed."""

    def figures(values: list[float]) -> dict[str, Any]:
        spread = statistics.stdev(values) if len(values) > 1 else None
        return {"by_seed": values, "mean": statistics.mean(values), "standard_deviation": spread}

    pairs = (("int8", "float"), ("quantize_aware", "int8"), ("quantize_aware", "float"), ("quantize_aware", "tfmot"))
    differences = {f"{a} - {b}": figures([x - y for x, y in zip(runs[a], runs[b], strict=True)]) for a, b in pairs}
    return {
        "top1_percent": {name: figures(values) for name, values in runs.items()},
        "difference_points": differences,
    }


# The network.


def resnet20() -> keras.Model:
    """-> ResNet-20 for CIFAR with projections in place of padded shortcuts: pixels `[N, 32, 32, 3]` -> logits."""
    variant = VARIANTS["resnet20"]
    projecting = replace(variant, design=replace(variant.design, shortcut="projection"))
    image = keras.Input((32, 32, 3), name=layer_names.IMAGE)
    x = resnet_backbone(normalisation_layer(3)(image), projecting, variant.design.output_stride)["C4"]
    return keras.Model(image, classification_head(x, len(CLASSES), None), name="resnet20")


def published(path: Path, images: np.ndarray) -> keras.Model:
    """File of ResNet-20's published weights, whose shortcuts pad channels -> the same function with projections.

    The BatchNorm of each projection gets the statistics of `images`, so that it is the identity in training as well.
    """
    source, model = ResNet20(weights=path), resnet20()
    for layer in source.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    for stage in (3, 4):
        shortcut = layer_names.shortcut(layer_names.block(stage, 1))
        projection = model.get_layer(layer_names.conv(shortcut))
        channels = projection.kernel.shape[2]
        kernel = np.eye(channels, 2 * channels, k=channels // 2, dtype="float32")  # a quarter of zeros on either side
        projection.set_weights([kernel[None, None]])
        values = predict(keras.Model(model.input, projection.output), images[:500])
        mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
        norm = model.get_layer(layer_names.bn(shortcut))
        norm.set_weights([np.sqrt(variance + BATCH_NORM_EPSILON), mean, mean, variance])
    return model


def make_uneven(model: keras.Model, seed: int) -> None:
    """Scales the channels between the two convolutions of each block, without changing what the network computes."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name.startswith("stage") and layer.name.endswith("_1_bn"):
            following = model.get_layer(layer.name.replace("_1_bn", "_2_conv"))
            scale = 2.0 ** generator.uniform(-UNEVEN_OCTAVES, UNEVEN_OCTAVES, layer.gamma.shape)
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma * scale, beta * scale, mean, variance])
            following.set_weights([following.get_weights()[0] / scale[:, None]])


def copy_of(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


# Training, the same for both Keras.


def epochs_of(images: Images, epochs: int, seed: int) -> Images:
    """`[N, 32, 32, 3]` -> `[epochs * N, 32, 32, 3]`, augmented anew for each epoch."""
    pixels, classes = zip(*(augmented(images, seed, epoch) for epoch in range(epochs)), strict=True)
    return np.concatenate(pixels), np.concatenate(classes)


def fit(package: Any, model: Any, images: Images, learning_rate: float) -> None:
    """Trains a model of either Keras on the images in their order; Adam, its rate falling along a cosine."""
    steps = -(-len(images[0]) // BATCH_SIZE)
    schedule = package.optimizers.schedules.CosineDecay(learning_rate, steps)
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    model.fit(batches_of_arrays(*images, BATCH_SIZE), shuffle=False, verbose=2)


def normalised(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(normalisation_layer(3)(pixels.astype("float32")))


def tfmot_top1_percent(model: keras.Model, tuning: Images, test: Images) -> float:
    """Float network, images to tune on -> top-1 of tensorflow-model-optimization's integer file.

    It knows no normalisation layer, so that it gets normalised pixels.
    """
    import tensorflow as tf

    legacy, tfmot = legacy_packages()
    body = keras.Model(model.get_layer(layer_names.PREPROCESSING).output, model.output)
    network = tfmot.quantization.keras.quantize_model(legacy_twin(body))
    pixels = normalised(tuning[0])
    start_ranges(network, pixels[: 4 * BATCH_SIZE])
    fit(legacy, network, (pixels, tuning[1]), TUNING_LEARNING_RATE)
    specification = tf.TensorSpec((1, 32, 32, 3), tf.float32)
    function = tf.function(lambda image: network(image, training=False)).get_concrete_function(specification)
    file = int8_file(tf.lite.TFLiteConverter.from_concrete_functions([function], network), ends="int8")
    return top1_percent(litert_answers(file, normalised(test[0])), test)


def start_ranges(network: Any, images: np.ndarray) -> None:
    """Sets tfmot's ranges of activations to those of a batch, and that of the input to the images' own.

    They start at -6..6 and move by a thousandth of the way in each step, which takes more steps than these runs have;
    that of the input only grows. From one such move follows where it was heading; the next layer's range depends on
    it, hence the repetition.
    """
    weights = [(weight, weight.numpy()) for weight in network.weights]
    ranges = [w for w, _ in weights if w.name.endswith(("min:0", "max:0")) and "kernel" not in w.name]
    moving = [weight for weight in ranges if not weight.name.startswith("quantize_layer")]
    for weight in ranges:
        if weight.name.startswith("quantize_layer"):
            weight.assign(images.min() if weight.name.endswith("min:0") else images.max())
    for _ in range(4):
        before = [weight.numpy() for weight in moving]
        network(images, training=True)
        for weight, old in zip(moving, before, strict=True):
            weight.assign(old + (weight.numpy() - old) / (1 - TFMOT_MOMENTUM))
    chosen = {id(weight) for weight in ranges}
    for weight, value in weights:
        if id(weight) not in chosen:
            weight.assign(value)


# Measuring.


def top1_percent(answers: np.ndarray, test: Images) -> float:
    return float(100 * np.mean(answers.argmax(axis=1) == test[1]))


def exported(model: keras.Model, calibration: np.ndarray, folder: Path) -> bytes:
    """Network -> its `tflite-int8`, also where it differs too much from the network to get its name."""
    path = folder / FORMATS["tflite-int8"].file_name
    classifier = keras.Model(model.input, keras.layers.Softmax(name="probabilities")(model.output), name=model.name)
    try:
        export(classifier, folder, ["tflite-int8"], calibration=calibration, class_names=CLASSES, overwrite=True)
    except VerificationError as error:
        print(error)
        path = path.with_name(path.name + UNVERIFIED)
    return path.read_bytes()


if __name__ == "__main__":
    typer.run(main)
