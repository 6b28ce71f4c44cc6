"""A segmentation network on its way: trained, evaluated, used and exported, by the commands that do it for classes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import in_process
from masked_pictures import CLASSES, write_masked
from PIL import Image
from shallow import shallow
from small_classifier import small_classifier
from small_segmenter import small_segmenter

from keras_resnet.errors import AccuracyError, ExportError
from keras_resnet.evaluation.segmentation import Segmentation, pixel_confusion, pixel_scores
from keras_resnet.export import CalibrationImages, ExportReport, Options, export
from keras_resnet.export.accuracy import Accuracy, check_drop
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.prepare import prepare
from keras_resnet.inference import predict
from keras_resnet.model_files import read_model_description
from keras_resnet.preprocessing import decode_image
from keras_resnet.segmentation import DeepLabV3Plus
from keras_resnet.tasks import TASKS
from keras_resnet.training.checkpoint import read_progress
from keras_resnet.variants import VARIANTS, WholeImage

RECIPE = ["--task", "segment", "--network", "resnet18", "--size", 64, "--crop", "scaled", "--batch-size", 4]
RECIPE += ["--epochs", 2, "--warmup-epochs", 0.5, "--learning-rate", 0.02, "--schedule", "poly", "--xla", "off"]


@pytest.fixture(scope="module", autouse=True)
def shallow_backbone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "resnet18", shallow("resnet18"))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    for split, count in (("train", 8), ("val", 4)):
        write_masked(folder / split, count)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A run of FCN with its second loss, interrupted nowhere."""
    folder = tmp_path_factory.mktemp("runs") / "fcn"
    status, out, err = in_process(
        *("train", "--data", data, "--out", folder, *RECIPE, "--architecture", "fcn", "--auxiliary-head"),
        *("--checkpoint-steps", 1, "--checkpoints-kept", 9, "--class-weights", "balanced"),
    )
    assert status == 0, err
    assert out[0].startswith(f"{folder / 'model.keras'}: epoch ")
    return folder


@pytest.fixture(scope="module")
def model(run) -> keras.Model:
    return keras.saving.load_model(run / "model.keras", compile=False)


def test_the_history_has_the_figures_of_masks(run):
    header, *rows = (run / "history.csv").read_text().splitlines()
    figures = ["loss", "mean_iou_percent", "pixel_accuracy_percent"]
    interval = ["mean_iou_low_percent", "mean_iou_high_percent"]
    assert header.split(",")[3:-2] == [*figures, *(f"val_{name}" for name in (*figures, *interval))]
    assert len(rows) == 2


def test_the_model_file_has_one_output_and_says_what_it_is(run, model):
    assert model.output_shape == (None, None, None, CLASSES)
    assert not [layer.name for layer in model.layers if layer.name.startswith("auxiliary")]
    description = read_model_description(run / "model.keras")
    assert description.contract == WholeImage()
    assert list(description.class_names) == [f"class {index}" for index in range(CLASSES)]


def test_a_run_that_goes_on_ends_with_the_same_bits(run, tmp_path):
    resumed = tmp_path / "resumed"
    shutil.copytree(run, resumed)
    for path in sorted((resumed / "checkpoints").iterdir())[2:]:
        path.unlink()  # as if it had been killed after its first step, in the middle of an epoch
    for name in ("model.keras", "model-last.keras", "history.csv"):
        (resumed / name).unlink(missing_ok=True)
    status, _, err = in_process("train", "--resume", resumed)
    assert status == 0, err
    own, other = (keras.saving.load_model(folder / "model-last.keras", compile=False) for folder in (run, resumed))
    for one, two in zip(own.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_evaluate_counts_the_pixels_of_the_validation_images(run, data, model, tmp_path):
    status, out, err = in_process("evaluate", run / "model.keras", data, "--out", tmp_path)
    assert status == 0, err
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    for path in sorted((data / "val" / "images").iterdir()):
        mask = np.array(Image.open(data / "val" / "masks" / f"{path.stem}.png"))
        confusion += pixel_confusion(np.asarray(model(decode_image(path)[None]))[0], mask)
    right = np.diag(confusion)
    iou = 100 * right / (confusion.sum(axis=0) + confusion.sum(axis=1) - right)
    assert out[:3] == [
        "images            4",
        f"mean IoU %        {np.nanmean(iou):.2f}",
        f"pixel accuracy %  {100 * right.sum() / confusion.sum():.2f}",
    ]
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures["confusion_matrix"] == confusion.tolist()
    assert {path.name for path in tmp_path.iterdir()} == {"confusion_matrix.png", "evaluation.json", "weakest.png"}
    best = read_progress(run / "checkpoints")[1]
    row = best.history[best.best_epoch - 1]
    assert figures["mean_iou_percent"] == pytest.approx(row["val_mean_iou_percent"], abs=0.01)


def test_predict_writes_the_mask_and_an_overlay(run, data, model, tmp_path):
    image = data / "val" / "images" / "002.jpg"
    status, out, err = in_process("predict", image, "--model", run / "model.keras", "--out", tmp_path)
    assert status == 0, err
    expected = np.asarray(model(decode_image(image)[None]))[0].argmax(axis=-1)
    with Image.open(tmp_path / "002_mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.array(mask), expected)
    with Image.open(tmp_path / "002_overlay.png") as overlay:
        assert (overlay.height, overlay.width) >= expected.shape
    largest = np.bincount(expected.ravel()).argmax()
    assert out[0] == str(image)
    assert out[1] == f"  {100 * np.mean(expected == largest):6.2f} %  class {largest}"


def test_windows_overlap_and_their_scores_are_averaged():
    """Of a network whose scores tell where a pixel is in its window, so that each window leaves its trace."""

    def predict(pixels):
        height, width = pixels.shape[1:3]
        place = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)[None]
        return np.concatenate([place, pixels[..., :1]], axis=-1).astype("float32")

    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), "uint8")
    scores = pixel_scores(predict, pixels, WholeImage(), window=(40, 64))
    tops, lefts = [0, 15, 30], [0, 18, 36]
    for row, column in ((0, 0), (20, 30), (69, 99), (35, 70)):
        rows = [row - top for top in tops if top <= row < top + 40]
        columns = [column - left for left in lefts if left <= column < left + 64]
        expected = [np.mean(rows), np.mean(columns), pixels[row, column, 0]]
        np.testing.assert_allclose(scores[row, column], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "20"], "--window takes a height and a width of at least 32"),
        (["--window", "axb"], "for example 360x480"),
    ],
)
def test_windows_that_are_refused(arguments, message, run, data):
    image = data / "val" / "images" / "002.jpg"
    status, _, err = in_process("predict", image, "--model", run / "model.keras", *arguments)
    assert status != 0
    assert message in " ".join(err)


def test_masks_for_a_classifier_are_refused(data, tmp_path):
    status, _, err = in_process("train", "--data", data, "--out", tmp_path / "run", "--network", "resnet18")
    assert status != 0
    assert "task = segment (--task segment)" in " ".join(err)


def test_classes_for_a_segmentation_network_are_refused(tmp_path):
    np.savez(
        tmp_path / "data.npz",
        x_train=np.zeros((8, 32, 32, 3), "uint8"),
        y_train=np.arange(8) % 2,
        x_val=np.zeros((2, 32, 32, 3), "uint8"),
        y_val=np.arange(2),
    )
    status, _, err = in_process("train", "--data", tmp_path / "data.npz", "--out", tmp_path / "run", *RECIPE)
    assert status != 0
    assert "task = classify (--task classify)" in " ".join(err)


# Artifacts.


@pytest.fixture(scope="module")
def small(randomise) -> keras.Model:
    return randomise(small_segmenter(CLASSES), seed=2)


@pytest.fixture(scope="module")
def artifacts(small, tmp_path_factory) -> ExportReport:
    """The small network in every kind of number."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("onnxruntime")
    return export(
        small,
        tmp_path_factory.mktemp("artifacts"),
        ["saved_model", "tflite", "onnx", "tflite-int8", "onnx-int8", "onnx-float16", "tflite-float16"],
        contract=WholeImage(64, 96),
        calibration=CalibrationImages(synthetic_images((64, 96, 3), count=40, seed=3), force=True),
    )


def assert_equal_to_network(path: Path, network: keras.Model) -> None:
    contract = WholeImage(64, 96)
    images = synthetic_images((64, 96, 3), count=3, seed=7)
    expected = predict(prepare(network, contract), images)
    artifact = open_artifact(path)
    assert artifact.contract == contract
    answers = artifact.predict(images)["probabilities"]
    assert answers.shape == (3, 64, 96, CLASSES)
    assert np.abs(answers - expected).max() / expected.max() < 1e-4


@pytest.mark.parametrize("name", ["saved_model", "tflite", "onnx"])
def test_artifacts_equal_the_network(name, small, artifacts):
    assert_equal_to_network(artifacts.paths[name], small)


def test_an_artifact_of_a_published_architecture_equals_it(randomise, tmp_path):
    """The run's own, an FCN, is written as ONNX below."""
    pytest.importorskip("ai_edge_litert")
    network = randomise(DeepLabV3Plus("resnet18", classes=CLASSES), seed=2)
    made = export(network, tmp_path, ["tflite"], contract=WholeImage(64, 96))
    assert_equal_to_network(made.paths["tflite"], network)


def test_a_free_size_asks_for_one(small, tmp_path):
    with pytest.raises(ExportError, match="--image-size"):
        export(small, tmp_path, ["tflite"])


def test_integers_and_halves_are_near_the_network(artifacts):
    assert all(report.passed for report in artifacts.reports.values())
    agreement = {name: report.top1_agreement_percent for name, report in artifacts.reports.items()}
    assert min(agreement["onnx-float16"], agreement["tflite-float16"]) > 99.5
    assert min(agreement["tflite-int8"], agreement["onnx-int8"]) > 90


def test_a_mask_is_the_class_of_the_largest_probability(small, tmp_path, capsys):
    small.save(tmp_path / "model.keras")
    status, out, err = in_process(
        *("export", "--model", tmp_path / "model.keras", "--image-size", "64x96", "--argmax"),
        *("--formats", "saved_model,tflite,onnx,onnx-float16", "--out", tmp_path / "out"),
    )
    assert status == 0, err
    assert not any("nan" in line for line in out)
    images = synthetic_images((64, 96, 3), count=3, seed=7)
    expected = predict(prepare(small, WholeImage(64, 96)), images).argmax(axis=-1)
    for file in ("saved_model", "model.tflite", "model.onnx", "model-float16.onnx"):
        artifact = open_artifact(tmp_path / "out" / file)
        assert list(artifact.runtime.outputs) == ["mask"]
        assert [tensor.dtype for tensor in artifact.runtime.outputs.values()] == ["uint8"]
        assert artifact.classes == CLASSES
        mask = artifact.predict(images)["mask"]
        assert (mask.shape, mask.dtype) == ((3, 64, 96), np.uint8)
        assert np.mean(mask == expected) > (0.995 if "16" in file else 0.9999)


def test_a_mask_of_a_classifier_is_refused(small, tmp_path):
    with pytest.raises(ExportError, match="`argmax` is only for segmentation"):
        export(small_classifier(), tmp_path, ["tflite"], options=Options(argmax=True))
    with pytest.raises(ExportError, match="`output_dtype` must be left out with `argmax`"):
        export(small, tmp_path, ["tflite-int8"], options=Options(argmax=True, output_dtype="int8"))
    with pytest.raises(
        ExportError, match=r"`argmax` \(--argmax\) must be left out for tflite-int16x8: LiteRT's converter"
    ):
        export(small, tmp_path, ["tflite", "tflite-int16x8"], options=Options(argmax=True))


def test_images_with_masks_gate_an_export(run, data, model, tmp_path):
    made = export(model, tmp_path, ["onnx"], contract=WholeImage(64, 64), data=data)
    accuracy = made.accuracy["onnx"]
    assert (accuracy.images, accuracy.drop_points) == (4, pytest.approx(0, abs=0.05))
    expected = [
        (pixel_scores(lambda pixels: model(pixels), image, WholeImage(64, 64)), mask)
        for image, mask in (
            (decode_image(path), np.array(Image.open(data / "val" / "masks" / f"{path.stem}.png")))
            for path in sorted((data / "val" / "images").iterdir())
        )
    ]
    found = Segmentation(sum(pixel_confusion(scores, mask) for scores, mask in expected))
    assert accuracy.figures["mean_iou_percent"] == pytest.approx(found.mean_iou_percent, abs=0.05)
    task = TASKS["segment"]
    with pytest.raises(AccuracyError, match="has a mean IoU of"):
        check_drop(
            "a", Accuracy(4, {task.score: 50.0}, task.score, task.titles, 1.01, 99.0), task.largest_drop_points.floats
        )


def test_benchmark_counts_the_pixels_of_artifacts(small, data, tmp_path):
    export(small, tmp_path / "out", ["tflite"], contract=WholeImage(64, 64))
    status, out, err = in_process(
        "benchmark", tmp_path / "out", "--rounds", 1, "--data", data, "--out", tmp_path / "record"
    )
    assert status == 0, err
    record = json.loads((tmp_path / "record" / "benchmark.json").read_text())
    [result] = record["results"]["contenders"].values()
    status, out, err = in_process("evaluate", tmp_path / "out" / "model.tflite", data)
    assert status == 0, err
    [line] = [line for line in out if line.startswith("mean IoU")]
    assert float(line.split()[-1]) == pytest.approx(result["mean_iou_percent"], abs=0.006)
