"""The report of an export: table, plots, and the images on which an artifact and its model disagree.

`report.html` is one self-contained file. `REPORT.md` has the same content, with its plots in `report.png`.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from keras_resnet.environment import environment
from keras_resnet.errors import ExportError
from keras_resnet.export.cost import ArtifactCost, measure_artifact
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import read_manifest, size_bytes
from keras_resnet.export.result import ExportReport
from keras_resnet.labels import top_indices
from keras_resnet.optional import require
from keras_resnet.printable import html_text, markdown_text
from keras_resnet.tasks.classify.evaluation import ClassEvaluation
from keras_resnet.whole_files import write_whole

MARKERS = "osDv^<>PX"  # markers of formats, used in turn
FILES = ("report.html", "REPORT.md", "report.png")
DISAGREEMENTS_SHOWN = 48  # largest number of disagreements, starting with the model's most confident answers
REPORT_COLUMNS = (
    "artifact",
    "size MB",
    "top-1 %",
    "top-5 %",
    "agreement %",
    "drop, points",
    "latency ms",
    "load ms",
    "peak memory MB",
)


@dataclass(frozen=True)
class _Answer:
    """One network's answer for one image."""

    network: str
    label: str
    percent: float

    def __str__(self) -> str:
        return f"{self.network}: {self.label} {self.percent:.0f} %"


@dataclass(frozen=True)
class _Disagreement:
    """An image for which an artifact names another class than the model."""

    name: str
    pixels: np.ndarray  # uint8 `[H, W, C]`
    label: str
    answers: list[_Answer]  # starting with the model's answer


@dataclass(frozen=True)
class _Page:
    """The content of both files."""

    title: str
    facts: list[str]
    rows: list[list[str]]
    refused: list[list[str]]  # lines about each artifact
    disagreements: list[_Disagreement]
    disagreements_in_all: int
    images: int | None  # number of labelled images


def write_report(made: ExportReport, title: str, class_names: Sequence[str] | None) -> Path:
    """Result of an export -> path of `report.html`; writes `report.html`, `REPORT.md` and `report.png`.

    Artifacts are timed one after the other, each in its own process. An artifact that can't be timed is named.

    Raises:
        OSError: The folder can't be written.
        MissingDependencyError: matplotlib is not installed.
    """
    costs: dict[str, ArtifactCost] = {}
    unmeasured: list[str] = []
    for name, path in made.paths.items():
        try:
            costs[name] = measure_artifact(path)
        except ExportError as error:
            unmeasured.append(str(error))
    page = _page(made, title, class_names, costs, unmeasured)
    figure = _plots(made, costs)
    drawn = io.BytesIO(), io.BytesIO()
    for stream, kind in zip(drawn, ("png", "svg"), strict=True):
        figure.savefig(stream, format=kind, dpi=110)
    svg = drawn[1].getvalue().decode()
    contents = _html(page, svg[svg.index("<svg") :]).encode(), _markdown(page).encode(), drawn[0].getvalue()
    for name, content in zip(FILES, contents, strict=True):
        write_whole(made.folder / name, content)
    return made.folder / FILES[0]


def _page(
    made: ExportReport,
    title: str,
    class_names: Sequence[str] | None,
    costs: dict[str, ArtifactCost],
    unmeasured: list[str],
) -> _Page:
    disagreements = _disagreements(made, class_names)
    machine = environment()
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    calibration = _calibration(made)
    model = _model(made)
    images = None if model is None else model.images
    facts = [
        f"Accuracy: on {images} labelled images. Agreement and drop: relative to the model on the same images."
        if images
        else "No labelled images were given (--data). Agreement: with the model on the images of the verification.",
        *calibration,
        "Latency: batch 1, median of up to 50 runs, 10th to 90th percentile in brackets. Load: time from opening the "
        "file to the first answer. Memory: peak minus the memory before the file was opened. Each file was measured in "
        "a process of its own, after the import of its runtime.",
        f"Machine: {machine['cpu']} ({', '.join(machine['cpu_flags'])}), {machine['threads']} threads; {versions}.",
        f"Made {machine['created']}.",
        *unmeasured,
    ]
    refused = [[f"{name}: {error.args[0]}", *error.args[1:]] for name, error in made.failures.items()]
    rows = [*_model_row(made), *(_row(made, name, costs.get(name)) for name in made.paths)]
    return _Page(title, facts, rows, refused, disagreements[:DISAGREEMENTS_SHOWN], len(disagreements), images)


def _calibration(made: ExportReport) -> list[str]:
    entries = read_manifest(made.folder)["artifacts"]
    used = [(entries[name]["description"]["quantization"] or {}).get("calibration") for name in made.paths]
    return [f"Calibration: {first['images']} images." for first in filter(None, used)][:1]


def _model(made: ExportReport) -> ClassEvaluation | None:
    """-> evaluation of the model, if images with known classes were given. Reports exist only for classifiers."""
    return cast("ClassEvaluation | None", made.evaluations.get("model"))


def _model_row(made: ExportReport) -> list[list[str]]:
    model = _model(made)
    if model is None:
        return []
    top5 = "-" if model.top5_percent is None else f"{model.top5_percent:.2f}"
    return [["model", "-", f"{model.top1_percent:.2f}", top5, "-", "-", "-", "-", "-"]]


def _row(made: ExportReport, name: str, cost: ArtifactCost | None) -> list[str]:
    accuracy = made.accuracy.get(name)
    if accuracy is None:
        measured = ["-", "-", f"{made.reports[name].top1_agreement_percent:.2f}", "-"]
    else:
        measured = [
            *("-" if percent is None else f"{percent:.2f}" for percent in accuracy.figures.values()),
            f"{accuracy.agreement_percent:.2f}",
            f"{accuracy.drop_points:.2f}",
        ]
    figures = ["-", "-", "-"]
    if cost is not None:
        median, *deciles = (f"{ms:.3g}" for ms in (cost.latency.median_ms, cost.latency.p10_ms, cost.latency.p90_ms))
        figures = [f"{median} ({' to '.join(deciles)})", f"{cost.load_ms:.0f}", f"{cost.peak_memory_mb:.0f}"]
    return [made.paths[name].name, f"{size_bytes(made.paths[name]) / 1e6:.1f}", *measured, *figures]


def _disagreements(made: ExportReport, class_names: Sequence[str] | None) -> list[_Disagreement]:
    """-> images for which an artifact names another class than the model, the model's most confident answers first."""
    model = _model(made)
    if model is None:
        return []
    evaluations = cast(Mapping[str, ClassEvaluation], made.evaluations)

    def named(index: int) -> str:
        return str(index) if class_names is None else class_names[index]

    best = {name: top_indices(found.probabilities, 1)[:, 0] for name, found in evaluations.items()}
    different = np.any([best[name] != best["model"] for name in best], axis=0)
    chosen = sorted(np.flatnonzero(different).tolist(), key=lambda index: -model.probabilities[index].max())
    return [
        _Disagreement(
            model.labelled[index].short_name,
            model.labelled[index].prepared(model.contract),
            named(model.labels[index]),
            [
                _Answer(name, named(best[name][index]), 100 * float(evaluations[name].probabilities[index].max()))
                for name in best
                if name == "model" or best[name][index] != best["model"][index]
            ],
        )
        for index in chosen
    ]


def _plots(made: ExportReport, costs: dict[str, ArtifactCost]) -> Any:
    """-> figure: accuracy against latency and size; without labelled images, agreement instead of accuracy."""
    figure = require("matplotlib.figure", "plots").Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    # Colours and markers repeat with different periods, so that no two formats share both.
    styles = {name: (f"C{place}", MARKERS[place % len(MARKERS)]) for place, name in enumerate(FORMATS)}
    accuracy = {
        name: made.accuracy[name].score_percent if made.accuracy else made.reports[name].top1_agreement_percent
        for name in made.paths
    }
    sizes_mb = {name: size_bytes(path) / 1e6 for name, path in made.paths.items()}
    latencies_ms = {name: cost.latency.median_ms for name, cost in costs.items()}
    for axes, values, title in ((panels[0], latencies_ms, "latency, ms"), (panels[1], sizes_mb, "size, MB")):
        for name, value in values.items():
            colour, marker = styles[name]
            style = {"color": colour, "marker": marker, "markersize": 8, "alpha": 0.8, "linestyle": "none"}
            axes.plot(value, accuracy[name], label=name, clip_on=False, **style)
        model = _model(made)
        if model is not None:
            axes.axhline(model.top1_percent, color="0.5", linewidth=1, linestyle="--", label="model")
        if max(values.values(), default=1) > 10 * min(values.values(), default=1):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        else:
            axes.set_xlim(left=0)
        axes.set_xlabel(title)
        axes.grid(alpha=0.3)
    shares = [*accuracy.values(), *([model.top1_percent] if model is not None else [])]
    if shares:
        margin = max(0.5, 0.1 * (max(shares) - min(shares)))
        panels[0].set_ylim(max(0, min(shares) - margin), min(100, max(shares) + margin))  # no share is above 100 %
    panels[0].set_ylabel("top-1, %" if made.accuracy else "agreement, %")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def _heading(page: _Page) -> str:
    shown = len(page.disagreements)
    of = "" if shown == page.disagreements_in_all else f", of which the {shown} most confident are shown"
    return f"{page.disagreements_in_all} of {page.images} images on which an artifact and its model disagree{of}"


def _markdown(page: _Page) -> str:
    def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
        lines = [[markdown_text(cell) for cell in row] for row in (list(header), *rows)]
        ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
        return [f"| {' | '.join(cells)} |" for cells in ruled] + [""]

    lines = [f"# {markdown_text(page.title)}", "", *table(REPORT_COLUMNS, page.rows)]
    lines += [f"- {markdown_text(fact)}" for fact in page.facts]
    lines += ["", "![Accuracy against latency and size](report.png)", ""]
    if page.refused:
        lines += ["## Refused", "", *(f"- {markdown_text(' '.join(lines))}" for lines in page.refused), ""]
    if page.images is not None:
        lines += [f"## {_heading(page)}", ""]
        rows = [[case.name, case.label, "; ".join(map(str, case.answers))] for case in page.disagreements]
        lines += table(("image", "label", "answers"), rows) if rows else []
    return "\n".join(lines).rstrip() + "\n"


def _html(page: _Page, plots: str) -> str:
    def cells(tag: str, row: Iterable[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html_text(cell)}</{tag}>" for cell in row) + "</tr>"

    parts = [
        f"<h1>{html_text(page.title)}</h1>",
        '<div class="wide"><table>',
        f"<thead>{cells('th', REPORT_COLUMNS)}</thead><tbody>",
        *(cells("td", row) for row in page.rows),
        "</tbody></table></div>",
        f"<figure>{plots}</figure>",
        "<ul>",
        *(f"<li>{html_text(fact)}</li>" for fact in page.facts),
        "</ul>",
    ]
    if page.refused:
        parts += ["<h2>Refused</h2>", *(f"<pre>{_lines(lines)}</pre>" for lines in page.refused)]
    if page.images is not None:
        parts += [f"<h2>{_heading(page)}</h2>", '<div class="cases">']
        parts += [_card(case) for case in page.disagreements]
        parts.append("</div>")
    return _HTML.format(title=html_text(page.title), style=_STYLE, body="\n".join(parts))


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(map(html_text, lines))


def _card(case: _Disagreement) -> str:
    answers = "".join(
        f"<li><b>{html_text(answer.network)}</b> {html_text(answer.label)} {answer.percent:.0f}&nbsp;%</li>"
        for answer in case.answers
    )
    picture = _picture(case.pixels)
    image = f'<img alt="" src="data:image/jpeg;base64,{picture}">' if picture else ""
    return (
        f"<article>{image}<p>{html_text(case.name)}<br>label: {html_text(case.label)}</p><ul>{answers}</ul></article>"
    )


def _picture(pixels: np.ndarray) -> str | None:
    """Pixels uint8 `[H, W, C]` -> JPEG in base64, for 1 and 3 channels."""
    from PIL import Image

    if pixels.shape[2] not in (1, 3):
        return None
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #d8dee4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; } figure svg { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; background: #fff4f0; padding: .6rem; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
article { border: 1px solid #d8dee4; border-radius: 6px; padding: .6rem; overflow-wrap: anywhere; }
article img { width: 100%; image-rendering: auto; border-radius: 3px; }
article p { margin: .3rem 0; } article ul { margin: 0; padding-left: 1.1rem; }
"""

_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
