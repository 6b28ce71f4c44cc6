"""Detection: an image shows objects, and a network answers with the box, class and score of each, maybe with a mask."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from keras_resnet.answers import BOXES, Output
from keras_resnet.errors import ArgumentError
from keras_resnet.facts import facts_of
from keras_resnet.tasks.base import LargestDrop
from keras_resnet.tasks.detect.described import BOUNDS, checked_facts
from keras_resnet.tasks.detect.outputs import OUTPUTS, RAW_HEADS
from keras_resnet.tasks.detect.results import TABLE
from keras_resnet.tasks.detect.settings import LACKS, rules
from keras_resnet.tasks.tables import Row
from keras_resnet.variants import Contract, WholeImage

if TYPE_CHECKING:
    import numpy as np

    from keras_resnet.answers import Answer
    from keras_resnet.data.base import Source
    from keras_resnet.data.reading import Reading
    from keras_resnet.data.targets import Target
    from keras_resnet.tasks.base import Asked, Collector, Comparison, ReadFile, Shape, Tell, Training


MOST_IMAGES = 4  # at once: the parts of the maps in 1000 boxes take 200 MB an image, several times
RAW = "raw_heads"  # field of `export.formats.Options`
UNFIT_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "tflite-int16x8": "it holds all activations in 16 bits, and boxes need float32. `raw_heads` (--raw-heads) "
        "writes the network before its boxes",
    }
)


class Detect:
    """The task `detect`; see `tasks.base.Task`."""

    name = "detect"
    title = "detection"
    predicts = "a box with class and score for each object"
    takes = "RGB images [N, H, W, 3]"
    outputs: Mapping[str, Output] = OUTPUTS
    unfit_formats: Mapping[str, str] = UNFIT_FORMATS
    export_settings: tuple[str, ...] = (*BOUNDS, RAW)
    built_here_alone = True
    score = "ap_percent"
    titles: Mapping[str, str] = {"ap_percent": "AP"}
    table = TABLE
    single_answer = False
    explained_by: str | None = "d_rise"
    largest_drop_points = LargestDrop(0.5, 1.0)
    activation = "linear"
    bounded = False
    losses: tuple[str, ...] = ("cross_entropy",)
    lacks: tuple[str, ...] = LACKS
    evaluated: Mapping[str, Any] = MappingProxyType({})

    @property
    def target(self) -> "Target":
        from keras_resnet.tasks.detect.target import objects_of

        return objects_of(1, False)

    def options(self, command: str) -> Mapping[str, Any]:
        from keras_resnet.tasks.detect.options import DETECT_OPTIONS

        return DETECT_OPTIONS.get(command, {})

    def recipe_rules(self, recipe: Any) -> Iterator[tuple[str, str, bool]]:
        return rules(recipe)

    def training(self, recipe: Any, source: "Source") -> "Training":
        from keras_resnet.tasks.detect.training import DetectorTraining

        return DetectorTraining(recipe, source)

    def arguments(self, command: str, recipe: Any) -> list[str]:
        return []

    def classes_of(self, model: Any) -> int:
        from keras_resnet.layer_names import BOX_LOGITS

        facts = facts_of(model).task_facts
        if "classes" in facts:  # a network of `raw_heads` lacks the layer that has them
            return facts["classes"]
        return model.get_layer(BOX_LOGITS).output.shape[-1] - 1  # without the background

    def contract_of(self, model: Any, stated: Contract | None) -> WholeImage | None:
        return WholeImage(*model.inputs[0].shape[1:3])

    def outputs_of(self, model: Any) -> tuple[Output, ...]:
        return tuple(output for name, output in self.outputs.items() if name in model.output)

    def served_from_files(self, model: Any) -> Literal["objects"] | None:
        return "objects" if BOXES in model.output else None

    def answers_in(self, shape: "Shape", answer: "Shape") -> bool:
        return len(shape) == 4 and (len(answer) == 4 or (len(answer) == 3 and answer[2] == 4))

    def classes_in(self, answer: "Shape") -> None:
        return None

    def contract_of_artifact(self, sides: tuple[int | None, int | None], given: Mapping) -> WholeImage:
        return WholeImage(*sides)

    def tolerance(self, tolerance: Any) -> Any:
        return tolerance

    def compare(self, answers: "Answer", expected: "Answer", tolerance: Any) -> "Comparison":
        from keras_resnet.tasks.detect.comparison import compare, compare_values

        if BOXES not in expected:
            return compare_values(answers, expected, tolerance.of_values())
        return compare(answers, expected, tolerance.boxes)

    def decisions(self, answers: "np.ndarray") -> None:
        return None

    def checked_facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return checked_facts(given)

    def for_export(self, model: Any, options: Any) -> Any:
        from keras_resnet.tasks.detect.exported import for_export

        return for_export(model, options)

    def described_options(self, description: Mapping[str, Any]) -> dict[str, Any]:
        if description["output"]["name"] == RAW_HEADS[0].name:
            return {RAW: True}
        facts = checked_facts(description.get("task_facts", {}))
        return {name: facts[name] for name in BOUNDS if name in facts}

    def prepare(self, pixels: "np.ndarray", contract: Contract) -> "np.ndarray":
        return pixels  # the boxes are for the image at its own size

    def batch_size(self, contract: Contract, wanted: int) -> int:
        return min(wanted, MOST_IMAGES)

    def answers(self, asked: "Asked", images: "Sequence[np.ndarray]", **options: Any) -> "list[Answer]":
        """`options` are the further arguments of `view.answers`."""
        from keras_resnet.tasks.detect.view import answers

        return answers(asked, images, **options)

    def has_layout(self, text: str, reading: "Reading") -> bool:
        from keras_resnet.tasks.detect.sources import is_detect_layout

        return is_detect_layout(text, reading)

    def open(self, text: str, split: str, class_names: Sequence[str] | None, reading: "Reading") -> "Source":
        from keras_resnet.tasks.detect.sources import open_detected

        return open_detected(text, split, class_names, reading)

    def open_sources(
        self, data: Any, split: str, asked: "Asked", classes: int | None, reading: "Reading"
    ) -> "list[Source]":
        from keras_resnet.tasks.sources import open_for

        sources = open_for(self, asked.name, data, split, asked.class_names, classes, reading)
        if not sum(source.class_counts.sum() for source in sources):
            raise ArgumentError(
                f"{data} has no object of the classes of {asked.name}: {', '.join(sources[0].classes)[:200]}. Give "
                "data with objects of these classes"
            )
        return sources

    def findings(self, sources: "Sequence[Any]", **options: Any) -> Iterator[str]:
        from keras_resnet.tasks.detect.findings import findings

        return findings(sources, **options)

    def collector(self, asked: "Asked", sources: "Sequence[Source]", **options: Any) -> "Collector":
        """`options` are the further arguments of `DetectionCollector`."""
        from keras_resnet.tasks.detect.evaluation import DetectionCollector

        return DetectionCollector(asked, sources, **options)

    def read_options(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        from keras_resnet.tasks.shared_options import sides_of

        window = given["window"]
        sides = None if window is None else sides_of(window, "--window")
        return {"window": sides}, {"out": given["out"], "threshold": given["threshold"]}

    def export_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return dict(given)

    def rows(
        self, asked: "Asked", image: "ReadFile", answer: "Answer", top: int | None, options: Mapping[str, Any]
    ) -> list[Row]:
        from keras_resnet.tasks.detect.results import table_rows

        return table_rows(asked, image, answer, top, options["threshold"])

    def printer(
        self, asked: "Asked", paths: Sequence[str], top: int, tell: "Tell", options: Mapping[str, Any]
    ) -> "Callable[[int, np.ndarray, Answer], None]":
        from keras_resnet.tasks.detect.printing import box_printer

        return box_printer(asked, paths, top, tell, **options)
