"""The report of an export: its figures are those of the artifacts, its page needs no other file."""

import csv
import html.parser
import json
import re

import numpy as np
import pytest
from small_classifier import small_classifier

from keras_resnet.errors import AccuracyError
from keras_resnet.export import cost, export, pipeline
from keras_resnet.export.cost import measure_artifact
from keras_resnet.export.images import synthetic_images

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
pytest.importorskip("matplotlib")

LABELS = [f"thing {index} <&>|" for index in range(10)]
IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)


@pytest.fixture(scope="module")
def made(randomise, tmp_path_factory):
    """A good float file, and one that is refused since its answers are rolled by one class on the labelled images."""
    model = randomise(small_classifier(), seed=4)
    classes = np.asarray(model(IMAGES, training=False)).argmax(axis=1)
    classes[:4] = (classes[:4] + 1) % 10
    folder = tmp_path_factory.mktemp("report")
    genuine, patch = pipeline.predict, pytest.MonkeyPatch()

    def broken(runtime, images):
        shift = "Onnx" in type(runtime).__name__
        return {name: np.roll(values, shift, axis=1) for name, values in genuine(runtime, images).items()}

    with patch.context() as patched:
        patched.setattr(pipeline, "predict", broken)
        with pytest.raises(AccuracyError):
            export(model, folder, ["tflite", "onnx"], data=(IMAGES, classes), class_names=LABELS, report=True)
    return folder


class Page(html.parser.HTMLParser):
    """Collects the cells of tables, headings, and what the page refers to."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.references, self.open, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.references += [value for key, value in attributes if key in ("src", "href", "xlink:href")]
        if tag == "tr":
            self.rows.append([])
        if tag not in ("meta", "img", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        self.text.append(data)


def test_the_page_holds_the_figures_and_needs_no_other_file(made):
    page = Page((made / "report.html").read_text())
    header, model, artifact = page.rows
    assert header[:6] == ["artifact", "size MB", "top-1 %", "top-5 %", "agreement %", "drop, points"]
    assert model[:5] == ["model", "-", "90.00", model[3], "-"]
    size_mb = (made / "model.tflite").stat().st_size / 1e6
    assert artifact[:6] == ["model.tflite", f"{size_mb:.1f}", "90.00", model[3], "100.00", "0.00"]
    latency = re.fullmatch(r"(\S+) \((\S+) to (\S+)\)", artifact[6])
    median, p10, p90 = map(float, latency.groups())
    assert p10 <= median <= p90
    assert float(artifact[8]) >= 0
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert "model.onnx" not in [row[0] for row in page.rows]
    text = " ".join(page.text)
    assert "points below its model" in text  # why the other was refused
    assert "40 of 40 images on which an artifact and its model disagree" in text
    assert "thing 1 <&>|" in text


def test_markdown_says_the_same(made):
    text = (made / "REPORT.md").read_text()
    assert (made / "report.png").read_bytes()[:4] == b"\x89PNG"
    rows = [row for row in csv.reader(text.splitlines(), delimiter="|") if len(row) == 11]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows]
    page = Page((made / "report.html").read_text())
    assert [cells[0], *cells[2:]] == page.rows
    assert "![Accuracy against latency and size](report.png)" in text
    assert r"thing 1 \<\&\>\|" in text


def test_a_file_that_cannot_be_measured_is_named_and_costs_no_report(randomise, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "COST_TIMEOUT_S", 0.01)
    export(randomise(small_classifier(), seed=4), tmp_path, ["tflite"], report=True)
    text = (tmp_path / "REPORT.md").read_text()
    assert "model.tflite can't be measured: no answer in 0.01 s" in text
    assert "| model.tflite |" in text
    assert json.loads((tmp_path / "manifest.json").read_text())["artifacts"].keys() == {"tflite"}


def test_cost_is_that_of_a_fresh_process(made):
    """A file of that size takes at least its own bytes; the runtime's own memory is not counted."""
    measured = measure_artifact(made / "model.tflite")
    assert 3 <= measured.latency.repeats <= 50
    assert measured.load_ms > measured.latency.median_ms / 2
    assert 0 <= measured.peak_memory_mb < 100
