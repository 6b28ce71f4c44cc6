"""Calibration: the same images from a folder, a glob, an array or a dataset, and what the manifest says of them."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.errors import ExportError
from keras_resnet.export import export
from keras_resnet.export.images import CalibrationImages, calibration_images, synthetic_images
from keras_resnet.variants import InputContract

tf = pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")

SHAPE = (32, 32, 3)
CONTRACT = InputContract(size=32, resize=32)  # files of that size come as they are
IMAGES = synthetic_images(SHAPE, count=40, seed=8)
NOISE = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), "uint8")


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier(), seed=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """IMAGES in their order, in two folders."""
    root = tmp_path_factory.mktemp("calibration")
    for index, pixels in enumerate(IMAGES):
        path = root / ("first" if index < 25 else "second") / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def dataset(kind):
    one_by_one = tf.data.Dataset.from_tensor_slices(IMAGES)
    labelled = tf.data.Dataset.from_tensor_slices((IMAGES, np.arange(len(IMAGES))))
    return {
        "one by one": one_by_one,
        "batches": one_by_one.batch(16),  # the last holds 8
        "labelled": labelled,
        "labelled batches": labelled.batch(7),
    }[kind]


@pytest.mark.parametrize("kind", ["one by one", "batches", "labelled", "labelled batches"])
def test_a_dataset_gives_its_images(kind):
    given = calibration_images(dataset(kind), None, SHAPE)
    np.testing.assert_array_equal(given.images, IMAGES)
    assert given.as_dict() == {
        "images": 40,
        "source": "pixels",
        "sha256": hashlib.sha256(IMAGES.tobytes()).hexdigest(),
        "seed": None,
    }


@pytest.mark.parametrize("pattern", ["", "*/*.png", "**/*.png"])
def test_a_folder_and_a_glob_give_the_same_files(pattern, folder):
    given = calibration_images(str(folder / pattern), CONTRACT, SHAPE)
    np.testing.assert_array_equal(given.images, IMAGES)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    names = names if pattern == "" else [name.partition("/")[2] for name in names]
    assert given.sha256 == hashlib.sha256("\n".join(names).encode()).hexdigest()


@pytest.mark.parametrize("source", ["files", "pixels", "dataset"])
def test_the_seed_draws_the_images(source, folder):
    given = {"files": folder, "pixels": IMAGES, "dataset": dataset("batches")}[source]

    def draw(seed, count=33):
        return calibration_images(CalibrationImages(given, count, seed), CONTRACT, SHAPE)

    first, again, other = draw(5), draw(5), draw(6)
    np.testing.assert_array_equal(first.images, again.images)
    assert first.sha256 == again.sha256 != other.sha256
    assert (first.seed, other.seed) == (5, 6)
    taken = [next(i for i, image in enumerate(IMAGES) if np.array_equal(image, one)) for one in first.images]
    assert taken == sorted(set(taken))  # none twice, in their order
    assert len(taken) == 33
    everything = draw(5, count=40)
    assert (len(everything.images), everything.seed) == (40, None)
    assert everything.sha256 not in (first.sha256, other.sha256)


def test_the_manifest_names_what_was_drawn(folder, model, tmp_path):
    export(model, tmp_path, ["onnx-int8"], calibration=CalibrationImages(folder, count=35, seed=3), contract=CONTRACT)
    chosen = sorted(np.random.default_rng(3).choice(40, 35, replace=False))
    names = [f"{'first' if index < 25 else 'second'}/{index:02}.png" for index in chosen]
    entry = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]["onnx-int8"]
    assert entry["description"]["quantization"]["calibration"] == {
        "images": 35,
        "source": "files",
        "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (NOISE, r"must hold real images. Received: noise.*--force-calibration"),
        (np.full_like(NOISE, 77), r"Received: pixels that are all equal"),
        (IMAGES[:31], r"at least 32 images. Received: 31.*force=True.*--force-calibration"),
    ],
)
def test_what_can_tell_no_range_is_refused_before_the_work(images, message, model, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(model, tmp_path / "out", ["onnx-int8"], calibration=images)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("images", [NOISE, IMAGES[:9]], ids=["noise", "few"])
def test_it_is_taken_where_it_is_forced(images, model, tmp_path):
    report = export(model, tmp_path, ["onnx-int8"], calibration=CalibrationImages(images, force=True))
    assert report.reports["onnx-int8"].images == len(images)


def of_two_shapes():
    for side in (32, 40):
        yield np.zeros((side, side, 3), "uint8")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf.data.Dataset.from_tensor_slices(IMAGES).repeat(), r"is infinite: give `dataset.take\(count\)`"),
        (lambda: tf.data.Dataset.from_tensor_slices(IMAGES[:0]), "images of one shape.*Received: nothing"),
        (lambda: tf.data.Dataset.from_tensor_slices({"image": IMAGES}), "or tuples that start with them"),
        (
            lambda: tf.data.Dataset.from_generator(
                of_two_shapes, output_signature=tf.TensorSpec((None, None, 3), "uint8")
            ),
            r"Received: \(32, 32, 3\), \(40, 40, 3\)",
        ),
        (lambda: tf.data.Dataset.from_tensor_slices(IMAGES / 255), r"uint8 pixels \[N, 32, 32, 3\]. Received: float64"),
        (lambda: 7, "must be a folder, a glob, an array or a tf.data.Dataset. Received: 7"),
    ],
)
def test_wrong_sources_name_the_rule(make, message):
    with pytest.raises(ExportError, match=message):
        calibration_images(make(), None, SHAPE)
