"""Fixtures shared by all tests: seeded networks and the real data that lies beside a checkout, where it does."""

import functools
import gc
import os
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("KERAS_RESNET_TRACEBACK", "1")  # a fault of the package is an exception, also in a command
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for the network
if "PYTEST_XDIST_WORKER" in os.environ:  # the processes of the suite share the cores: a thread each
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from keras_resnet.quiet import import_keras

    import_keras()  # as the command does: TensorFlow's start-up lines would stand among the results

if sys.version_info < (3, 12):  # later ones keep it; TensorFlow asks for it whenever something may be a tensor
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)

import numpy as np
import pytest

from keras_resnet import contained

contained.make_expendable()  # each file is new, and a child for each takes long; tests/test_contained.py undoes this

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module", autouse=True)
def no_search_for_garbage_among_modules() -> None:
    """What is there when a file of tests begins stays out of collections: TFLite's converter starts one at each call,
    which takes half a second where TensorFlow's modules are looked through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and reference logits, which is not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def unpacked_weights(shared_data: Path) -> Path:
    """Folder with the real ImageNet weights of ResNet-18 and ResNet-50 as safetensors."""
    unpack = [sys.executable, str(shared_data / "unpack.py")]
    return Path(subprocess.run(unpack, check=True, capture_output=True, text=True).stdout.strip())


@pytest.fixture(scope="session")
def randomise() -> Callable:
    """Returns randomise(model, seed=0): fills every weight, BatchNorm statistics included, from a seed.

    A fresh ResNet's residual branches are silent, so two different networks would agree.
    """

    def fill(model, seed: int = 0):
        generator = np.random.default_rng(seed)
        for layer in model.layers:
            for variable in layer.weights:
                shape, kind = variable.shape, variable.name
                if kind == "gamma":
                    # The last scale of a branch stays small, so that a deep network's activations stay bounded.
                    last = layer.name.endswith(("_2_bn", "_3_bn"))
                    values = generator.uniform(*((0.2, 0.5) if last else (0.7, 1.3)), shape)
                elif kind == "moving_variance":
                    values = generator.uniform(0.5, 2.0, shape)
                elif kind in ("beta", "moving_mean", "bias"):
                    values = generator.normal(0, 0.2, shape)
                else:
                    values = generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
                variable.assign(values.astype("float32"))
        return model

    return fill


@pytest.fixture(scope="session")
def model_file(randomise: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier as a .keras file, for the commands."""
    from small_classifier import small_classifier

    path = tmp_path_factory.mktemp("model") / "model.keras"
    randomise(small_classifier(), seed=4).save(path)
    return path


@pytest.fixture(scope="session")
def small_exports(randomise: Callable, tmp_path_factory: pytest.TempPathFactory):
    """`Exported`: a small classifier in all formats."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    from small_classifier import Exported, small_classifier

    from keras_resnet.export import export
    from keras_resnet.export.formats import all_formats
    from keras_resnet.export.images import synthetic_images

    model, names = randomise(small_classifier(), seed=4), [f"thing {index} <&> ö" for index in range(10)]
    calibration = synthetic_images((32, 32, 3), count=40, seed=8)
    made = export(model, tmp_path_factory.mktemp("small"), all_formats(), calibration=calibration, class_names=names)
    return Exported(model, names, calibration, made.folder, made.paths, made.reports)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 40 pictures of 40x48 pixels, enough to calibrate."""
    from PIL import Image

    from keras_resnet.export.images import synthetic_images

    folder = tmp_path_factory.mktemp("images")
    for index, pixels in enumerate(synthetic_images((40, 48, 3), count=40, seed=8)):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def two_class_images(tmp_path: Path) -> Path:
    """Folder of 6 pictures of each of the classes a and b."""
    from pictures import write_folder

    return write_folder(tmp_path / "images", {"a": 6, "b": 6}, 32, 32)


@pytest.fixture
def two_class_model(randomise: Callable, tmp_path: Path) -> Path:
    """A small classifier of two classes as a .keras file."""
    from small_classifier import small_classifier

    path = tmp_path / "model.keras"
    randomise(small_classifier(classes=2)).save(path)
    return path


@pytest.fixture
def shapes_alone() -> Iterator[None]:
    """A network that is built in this test has no values, which are most of the work of building it."""
    import keras

    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session(free_memory=False)  # forgets the variables that wait for their values
