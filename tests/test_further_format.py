"""A further format is a row of the table and its writer: all that lists formats follows the table."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from small_classifier import small_classifier
from typer.testing import CliRunner

from keras_resnet.errors import ExportError
from keras_resnet.export import export, report
from keras_resnet.export.cost import ArtifactCost
from keras_resnet.export.formats import FORMATS, Options, check_options, format_named, takers_of
from keras_resnet.export.images import synthetic_images
from keras_resnet.measure.latency import Latency

FURTHER = replace(
    FORMATS["onnx"],
    name="onnx-further",
    file_name="model-further.onnx",
    calibrated=True,
    options=("opset", "any_size", "input_dtype", "int_weights"),
    first_opset=15,
)


@pytest.fixture(autouse=True)
def further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, FURTHER.name, FURTHER)


def test_it_is_exported_and_reported(randomise, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")

    def measured(path: Path) -> ArtifactCost:  # in another process, where the row is not
        return ArtifactCost(10.0, 20.0, Latency.of([len(path.name)] * 3))

    monkeypatch.setattr(report, "measure_artifact", measured)
    figures = []
    plots = report._plots
    monkeypatch.setattr(report, "_plots", lambda *given: figures.append(plots(*given)) or figures[-1])
    images = synthetic_images((32, 32, 3), count=40, seed=8)
    model = randomise(small_classifier(), seed=4)
    export(model, tmp_path, ["saved_model", "onnx-further"], calibration=images, options=Options(opset=16), report=True)
    text = (tmp_path / "REPORT.md").read_text()
    assert re.search(r"^\| model-further\.onnx \| 0\.0 \|.* \| 18 \(18 to 18\) \| 10 \| 20 \|$", text, re.MULTILINE)
    assert "model-further.onnx" in (tmp_path / "report.html").read_text()
    [figure] = figures
    for axes in figure.axes:
        drawn = {line.get_label(): (line.get_color(), line.get_marker()) for line in axes.lines}
        assert drawn == {"saved_model": ("C0", "o"), "onnx-further": ("C13", "^")}


# The module is run once more on purpose: its texts are made when it is imported.
@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package:RuntimeWarning")
def test_the_help_of_the_command_names_it():
    app = typer.Typer()
    app.command()(runpy.run_module("keras_resnet.cli.export")["export"])
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"}).output
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", shown).split())
    assert (
        "onnx-int8, openvino, openvino-int8, web, web-float32, onnx-further; or all, which leaves out web, web" in text
    )
    assert (
        "typical images. Needed for tflite-int8, tflite-int16x8, onnx-int8, openvino-int8, web, onnx-further." in text
    )
    assert "ONNX opset: 11 to 18 (at least 13 for onnx-int8, 15 for onnx-further)." in text
    assert (
        "Let the files take images of any height and width (saved_model, onnx, onnx-float16, openvino, onnx-further)."
        in text
    )
    assert "Input type of tflite-int8, onnx-further: uint8, int8 or float32." in text
    assert "Output type of tflite-int8: uint8, int8 or float32." in text
    assert "Integer type of the kernels of onnx-int8, onnx-further: int8, int7 or uint8." in text


def test_its_options_are_checked():
    assert takers_of("int_weights") == ["onnx-int8", "onnx-further"]
    check_options(Options(opset=15, int_weights="int7"), [FURTHER])
    with pytest.raises(
        ExportError, match=r"^`opset` \(--opset\) of onnx-further must be 15 or later\. Received: opset=14$"
    ):
        check_options(Options(opset=14), [FORMATS["onnx-int8"], FURTHER])
    with pytest.raises(ExportError, match=r"^`int_weights` belongs to onnx-int8, onnx-further\. Received: .*'int7'"):
        check_options(Options(int_weights="int7"), [FORMATS["onnx"]])
    with pytest.raises(ExportError, match=r"web-float32, onnx-further, or all\. .* Did you mean 'onnx-further'"):
        format_named("onnx-furthe")


def test_all_means_it_too(randomise, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(
        ExportError, match=r"images for tflite-int8, tflite-int16x8, onnx-int8, openvino-int8, onnx-further\. Received"
    ):
        export(randomise(small_classifier(), seed=4), tmp_path, ["all"])


@pytest.mark.parametrize(
    ("output_dtype", "integer_answers", "step"),
    [
        ("float32", False, 0.0),
        ("float32", True, 1 / 256),
        ("uint8", False, 1 / 256),
    ],
)
def test_the_step_of_its_answers_is_of_its_row(output_dtype, integer_answers, step):
    assert replace(FURTHER, output_dtype=output_dtype, integer_answers=integer_answers).output_step == step
