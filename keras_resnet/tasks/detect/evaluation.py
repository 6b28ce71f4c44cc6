"""Answers of a detector on images with known objects -> all figures, and files with them."""

import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

from keras_resnet.answers import Answer
from keras_resnet.data.base import Source
from keras_resnet.data.labelled import listed_file
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.average_precision import AREAS, Averages, Found, Truth
from keras_resnet.evaluation.detection import (
    DECIDED_SCORE,
    MATCH_IOU,
    DetectionFigures,
    DetectionFiguresCollector,
    agreeing,
)
from keras_resnet.evaluation.plots import draw_calibration, draw_confusion_matrix, draw_curves
from keras_resnet.evaluation.run_lengths import run_lengths_of_instances
from keras_resnet.evaluation.tiles import captioned
from keras_resnet.printable import cell, printable
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.detect.answers import found_of, shown_of
from keras_resnet.tasks.detect.detected import DetectedSource
from keras_resnet.tasks.detect.overlay import colour_of, draw_legend, draw_marks, marks_of, marks_of_objects, png_of
from keras_resnet.tasks.detect.results import result_rows
from keras_resnet.tasks.detect.target import HEAD, IGNORED, Detections, taken_apart
from keras_resnet.variants import Contract

WORST_IMAGES = 6  # number of images to draw
EXAMPLE_PIXELS, GAP_PIXELS = 480, 8  # width of a picture, and between the two of an image
BACKGROUND, MISSED = "(background)", "(missed)"


class Example(NamedTuple):
    """One image with mistakes."""

    source: DetectedSource
    place: int  # index in the source
    answer: Answer
    confusion: np.ndarray


class DetectionCollector:
    """Collector of a detector's answers. It keeps no pixels, and masks only as run-length codes."""

    def __init__(self, asked: Asked, sources: Sequence[Source], max_detections: int | None = None) -> None:
        self.asked, self.classes, self.max_detections = asked, sources[0].classes, max_detections
        self.figures: DetectionFiguresCollector | None = None
        self.files: list[str] = []
        self.found: list[Found] = []
        self.ignored = 0
        self.worst: list[tuple[float, int, int, Example]] = []

    def add(self, source: Source, index: int, pixels: np.ndarray, target: np.ndarray, answer: Answer) -> None:
        """Raises:
        ArgumentError: The data has other classes than the network.
        MissingDependencyError: pycocotools is not installed.
        """
        if self.asked.classes != len(self.classes):
            raise ArgumentError(
                f"{source.path} has {len(self.classes)} classes, and {self.asked.name} has {self.asked.classes}. Give "
                "data with the classes of the network"
            )
        detected = cast(DetectedSource, source)
        height, width = map(int, target[:HEAD])
        truth, found = truth_of(objects_in(target, detected.most_objects)), found_of(answer, height, width)
        if self.figures is None:
            has_masks = truth.masks is not None and found.masks is not None
            self.figures = DetectionFiguresCollector(len(self.classes), has_masks, self.max_detections)
        confusion = self.figures.add(truth, found)
        self.ignored += int(truth.ignored.sum())
        mistakes = int(confusion.sum() - np.trace(confusion))
        if mistakes:
            example = Example(detected, index, answer, confusion)
            heapq.heappush(self.worst, (-f1_percent(confusion), mistakes, -len(self.files), example))
            if len(self.worst) > WORST_IMAGES:
                heapq.heappop(self.worst)
        self.files.append(source.path_of(index))
        self.found.append(found)

    def finish(self) -> "DetectionEvaluation":
        """-> all figures."""
        measured = cast(DetectionFiguresCollector, self.figures).finish()
        worst = [entry[-1] for entry in sorted(self.worst, reverse=True, key=lambda entry: entry[:-1])]
        names = self.asked.class_names or self.classes
        return DetectionEvaluation(self.files, self.found, measured, self.ignored, names, self.asked.contract, worst)


def objects_in(target: np.ndarray, most_objects: int) -> Detections:
    """Target of a whole image, its number of rows -> its objects, without empty rows."""
    parts = taken_apart(target, most_objects, *map(int, target[:HEAD]))
    count = int(np.count_nonzero(parts.states))
    instances = None if parts.instances is None else parts.instances.astype(np.uint16)
    return Detections(parts.boxes[:count], parts.classes[:count].astype(int), parts.states[:count], instances)


def truth_of(objects: Detections) -> Truth:
    """Objects of an image -> their form for the figures."""
    masks = None if objects.instances is None else run_lengths_of_instances(objects.instances, len(objects.boxes))
    return Truth(objects.boxes, objects.classes, objects.states == IGNORED, masks)


def f1_percent(confusion: np.ndarray) -> float:
    """Confusion matrix of objects and detections -> F1: right ones by the mean of the numbers of both."""
    return 200 * float(np.trace(confusion)) / float(confusion[:-1].sum() + confusion[:, :-1].sum())


@dataclass(frozen=True, eq=False)
class DetectionEvaluation:
    """Answers of a detector on N images with known objects, and figures computed from them."""

    files: Sequence[str]
    found: Sequence[Found]
    measured: DetectionFigures
    ignored: int  # number of ignored objects
    names: Sequence[str]  # class names
    contract: Contract
    worst: Sequence[Example]  # images with the lowest F1, the worst first

    @property
    def images(self) -> int:
        return len(self.files)

    @property
    def figures(self) -> dict[str, float | None]:
        masks = self.measured.masks
        return {**_figures(self.measured.boxes, ""), **({} if masks is None else _figures(masks, "mask_"))}

    def agreement_percent(self, other: "DetectionEvaluation") -> float:
        """Evaluation of another network on the same images -> share of the decided detections of both that have a
        partner of their class, with IoU 0.5 or more, in the other one."""
        pairs = detections = 0
        for own, theirs in zip(self.found, other.found, strict=True):
            a, b = _decided(own), _decided(theirs)
            pairs += agreeing(a, b)
            detections += len(a.scores) + len(b.scores)
        return 200 * pairs / detections if detections else 100.0

    def documents(self, about: Mapping[str, Any]) -> dict[str, Callable[[], bytes]]:
        """Facts for the head of `evaluation.json` -> name of each file, and a function that returns its content."""
        measured, names = self.measured, list(self.names)
        documents = {
            "precision_recall.png": self._curves,
            "confusion_matrix.png": lambda: draw_confusion_matrix(
                measured.confusion, [*names, BACKGROUND], "objects", [*names, MISSED]
            ),
            "worst.png": self._worst,
            "detections.json": self._detections,
            "evaluation.json": lambda: self._record(about),
        }
        if (calibration := measured.calibration) is not None:
            words = ("detections", "share of right detections", "score")
            documents["calibration.png"] = lambda: draw_calibration(calibration, *words)
        return documents

    def _curves(self) -> bytes:
        precision = 100 * self.measured.boxes.precision[0, :, :, 0]  # at IoU 0.5, for objects of all areas
        known = np.flatnonzero(self.measured.objects)
        mean = precision[:, known].mean(axis=1) if known.size else np.full(len(precision), np.nan)
        curves = {self.names[index]: precision[:, index] for index in known.tolist()}
        return draw_curves(np.linspace(0, 100, len(precision)), curves, mean, f"boxes with IoU {MATCH_IOU} or more")

    def _worst(self) -> bytes:
        width = 2 * EXAMPLE_PIXELS + GAP_PIXELS
        parts = [draw_legend([(colour_of(index), name) for index, name in enumerate(self.names)], width)]
        parts += [self._example(each) for each in self.worst]
        sheet = Image.new("RGB", (width, sum(part.height + GAP_PIXELS for part in parts)), "white")
        top = 0
        for part in parts:
            sheet.paste(part, (0, top))
            top += part.height + GAP_PIXELS
        return png_of(sheet)

    def _example(self, example: Example) -> Image.Image:
        """-> objects and, beside them, detections in one image."""
        decoded = example.source.decode(example.place)
        objects = objects_in(decoded.target, example.source.most_objects)
        truth = marks_of_objects(objects.boxes, objects.classes, objects.states == IGNORED, objects.instances)
        shown = shown_of(example.answer, DECIDED_SCORE)
        found = marks_of(shown, self.names, *decoded.pixels.shape[:2])
        pictures = [np.asarray(draw_marks(decoded.pixels, marks, EXAMPLE_PIXELS)) for marks in (truth, found)]
        gap = np.full((len(pictures[0]), GAP_PIXELS, 3), 255, np.uint8)
        pixels = np.concatenate([pictures[0], gap, pictures[1]], axis=1)
        right, wrong, background, missed = _sums(example.confusion)
        lines = [
            example.source.name_of(example.place),
            f"objects (left): {right + wrong + missed}, of them missed: {missed}; detections (right): {right} right, "
            f"{wrong} of a wrong class, {background} on background",
        ]
        return captioned(pixels, lines, pixels.shape[1])

    def _detections(self) -> bytes:
        rows = (
            json.dumps(row)
            for number, (file, found) in enumerate(zip(self.files, self.found, strict=True), start=1)
            for row in result_rows(number, listed_file(file), found)
        )
        return ("[\n" + ",\n".join(rows) + "\n]\n").encode()

    def _record(self, about: Mapping[str, Any]) -> bytes:
        measured, calibration = self.measured, self.measured.calibration
        record = {
            **about,
            "input": asdict(self.contract),
            "images": self.images,
            "objects": int(measured.objects.sum()),
            "ignored_objects": self.ignored,
            "max_detections": measured.max_detections,
            **self.figures,
            "decided": {"score": DECIDED_SCORE, "iou": MATCH_IOU, **self._decisions()},
            "expected_calibration_error_percent": None if calibration is None else calibration.error_percent,
            "calibration": [
                {
                    "above_percent": part.above_percent,
                    "up_to_percent": part.up_to_percent,
                    "detections": part.images,
                    "score_percent": part.confidence_percent,
                    "right_percent": part.top1_percent,
                }
                for part in (() if calibration is None else calibration.bins)
            ],
            "classes": [*self._classes()],
            "confusion_matrix_rows": [*self.names, BACKGROUND],
            "confusion_matrix_columns": [*self.names, MISSED],
            "confusion_matrix": measured.confusion.tolist(),
        }
        return (json.dumps(record, indent=2) + "\n").encode()

    def _decisions(self) -> dict[str, int]:
        words = ("right", "wrong_class", "background", "missed")
        return dict(zip(words, _sums(self.measured.confusion), strict=True))

    def _classes(self) -> Iterator[dict[str, Any]]:
        boxes, masks, confusion = self.measured.boxes, self.measured.masks, self.measured.confusion
        for index, name in enumerate(self.names):
            yield {
                "label": name,
                "objects": int(self.measured.objects[index]),
                "ap_percent": boxes.class_ap_percent(index),
                "ap50_percent": boxes.class_ap_percent(index, 0.5),
                **({} if masks is None else {"mask_ap_percent": masks.class_ap_percent(index)}),
                **({} if masks is None else {"mask_ap50_percent": masks.class_ap_percent(index, 0.5)}),
                "right": int(confusion[index, index]),
                "missed": int(confusion[index, -1]),
                "background": int(confusion[-1, index]),
            }

    def show(self) -> None:
        """Prints the figures and the classes, the lowest AP first, in at most 80 columns."""
        from rich.console import Console

        measured = self.measured
        print(f"images   {self.images}")
        print(f"objects  {measured.objects.sum():d}")
        print(f"ignored  {self.ignored:d}")
        console = Console()
        for table in (self._table_of_figures(), self._table_of_classes()):
            print()
            console.print(table, width=min(80, console.width))
        right, wrong, background, missed = _sums(measured.confusion)
        print(
            f"\nAt a score of {DECIDED_SCORE:.1f} and IoU {MATCH_IOU:.1f}: {right:d} right, {wrong:d} of a wrong "
            f"class, {background:d} on background,\n{missed:d} objects missed"
        )
        if measured.calibration is not None:
            print(f"calibration error of the scores %  {measured.calibration.error_percent:.2f}")

    def _table_of_figures(self) -> Any:
        figures = self.figures
        kinds = {"boxes %": ""} | ({} if self.measured.masks is None else {"masks %": "mask_"})
        table = _table("", *kinds)
        for name, title in FIGURES.items():
            table.add_row(title, *(_cell(figures[prefix + name]) for prefix in kinds.values()))
        return table

    def _table_of_classes(self) -> Any:
        titles = {
            "ap_percent": "AP %",
            "ap50_percent": "AP50 %",
            "mask_ap_percent": "mask AP %",
            "objects": "objects",
            "right": "right",
            "missed": "missed",
            "background": "backgr.",
        }
        classes = [*self._classes()]
        columns = [name for name in titles if name in classes[0]]
        table = _table("class", *(titles[name] for name in columns))
        for each in sorted(classes, key=lambda each: 101 if each["ap_percent"] is None else each["ap_percent"]):
            shown = [_cell(each[name]) if name.endswith("percent") else str(each[name]) for name in columns]
            table.add_row(cell(printable(each["label"])), *shown)
        return table


FIGURES: Mapping[str, str] = {  # names of figures -> their titles
    "ap_percent": "AP (IoU 0.50 to 0.95)",
    "ap50_percent": "AP50",
    "ap75_percent": "AP75",
    **{f"ap_{area}_percent": f"AP, {area} objects" for area in AREAS[1:]},
    "ar_percent": "AR (IoU 0.50 to 0.95)",
}


def _figures(averages: Averages, prefix: str) -> dict[str, float | None]:
    values = [
        averages.ap_percent(),
        averages.ap_percent(iou=0.5),
        averages.ap_percent(iou=0.75),
        *(averages.ap_percent(area) for area in AREAS[1:]),
        averages.ar_percent(),
    ]
    return {prefix + name: value for name, value in zip(FIGURES, values, strict=True)}


def _decided(found: Found) -> Found:
    shown = found.scores >= DECIDED_SCORE
    return Found(found.boxes[shown], found.classes[shown], found.scores[shown], None)


def _sums(confusion: np.ndarray) -> tuple[int, int, int, int]:
    """-> number of detections that are right, of a wrong class, and on background; number of missed objects."""
    right, background, missed = int(np.trace(confusion)), int(confusion[-1].sum()), int(confusion[:, -1].sum())
    return right, int(confusion.sum()) - right - background - missed, background, missed


def _table(first: str, *numbers: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first, no_wrap=True, overflow="ellipsis")
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _cell(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.2f}"
