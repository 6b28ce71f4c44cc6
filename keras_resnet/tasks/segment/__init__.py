"""Segmentation: every pixel of an image has one class, and a network answers with the probability of each class."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from keras_resnet.answers import MASK, PROBABILITIES, Output
from keras_resnet.errors import ExportError
from keras_resnet.tasks.base import LargestDrop
from keras_resnet.tasks.segment.settings import LACKS, rules
from keras_resnet.tasks.tables import RANKED, Row, ranked_row
from keras_resnet.variants import Contract, WholeImage

if TYPE_CHECKING:
    import numpy as np

    from keras_resnet.answers import Answer
    from keras_resnet.data.base import Source
    from keras_resnet.data.reading import Reading
    from keras_resnet.data.targets import Target
    from keras_resnet.tasks.base import Asked, Collector, Ranked, ReadFile, Shape, Tell, Training


class Segment:
    """The task `segment`; see `tasks.base.Task`."""

    name = "segment"
    title = "segmentation"
    predicts = "a class for each pixel"
    takes = "RGB images [N, H, W, 3]"
    outputs: Mapping[str, Output] = {
        PROBABILITIES: Output(PROBABILITIES, "probabilities of each pixel"),
        MASK: Output(MASK, "mask of each pixel", decides=True),
    }
    unfit_formats: Mapping[str, str] = MappingProxyType({})
    export_settings: tuple[str, ...] = ("argmax",)
    built_here_alone = False
    score = "mean_iou_percent"
    titles: Mapping[str, str] = {"mean_iou_percent": "mean IoU", "pixel_accuracy_percent": "pixel accuracy"}
    table = RANKED
    ranked_by = "pixels_percent"
    ranked_count: int | None = None
    single_answer = False
    explained_by: str | None = None
    largest_drop_points = LargestDrop(1.0, 1.0)
    activation = "softmax"
    bounded = True
    losses: tuple[str, ...] = ("cross_entropy", "focal", "dice")
    lacks: tuple[str, ...] = LACKS
    evaluated: Mapping[str, Any] = MappingProxyType({"decided": True})

    @property
    def target(self) -> "Target":
        from keras_resnet.tasks.segment.target import MASKS

        return MASKS

    def options(self, command: str) -> Mapping[str, Any]:
        from keras_resnet.tasks.segment.options import SEGMENT_OPTIONS

        return SEGMENT_OPTIONS.get(command, {})

    def recipe_rules(self, recipe: Any) -> Iterator[tuple[str, str, bool]]:
        return rules(recipe)

    def training(self, recipe: Any, source: "Source") -> "Training":
        from keras_resnet.tasks.segment.training import SegmenterTraining

        return SegmenterTraining(recipe, source)

    def arguments(self, command: str, recipe: Any) -> list[str]:
        if command == "export":
            return ["--image-size", f"{recipe.size}x{recipe.size}"]  # the network takes any; most files do not
        return []

    def classes_of(self, model: Any) -> int:
        from keras_resnet.tasks.outputs import classes_of

        return classes_of(self.name, model.outputs[0].shape[-1])

    def contract_of(self, model: Any, stated: Contract | None) -> WholeImage | None:
        height, width = model.inputs[0].shape[1:3]
        return None if (height is None) != (width is None) else WholeImage(height, width)

    def outputs_of(self, model: Any) -> tuple[Output, ...]:
        return (next(iter(self.outputs.values())),)

    def served_from_files(self, model: Any) -> None:
        return None

    def answers_in(self, shape: "Shape", answer: "Shape") -> bool:
        return len(shape) == 4 and len(answer) == 4

    def classes_in(self, answer: "Shape") -> int | None:
        return answer[-1]

    def contract_of_artifact(self, sides: tuple[int | None, int | None], given: Mapping) -> WholeImage:
        return WholeImage(*sides)

    def tolerance(self, tolerance: Any) -> Any:
        return tolerance.of_pixels()

    def compare(self, answers: "Answer", expected: "Answer", tolerance: Any) -> None:
        return None

    def decisions(self, answers: "np.ndarray") -> "np.ndarray":
        return answers.reshape(-1, answers.shape[-1])

    def checked_facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def for_export(self, model: Any, options: Any) -> Any:
        classes = model.outputs[0].shape[-1] or 0
        if options.argmax and not 1 < classes <= 256:
            raise ExportError(
                "`argmax` (--argmax) is for segmentation networks of 2 to 256 classes. Received: a model with outputs "
                f"{list(model.outputs[0].shape)}"
            )
        return model

    def described_options(self, description: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def prepare(self, pixels: "np.ndarray", contract: Contract) -> "np.ndarray":
        return pixels  # the answer is for the image at its own size

    def batch_size(self, contract: Contract, wanted: int) -> int:
        return 1  # images have different sizes

    def answers(self, asked: "Asked", images: "Sequence[np.ndarray]", **options: Any) -> "list[Answer]":
        """`options` are the further arguments of `view.answers`."""
        from keras_resnet.tasks.segment.view import answers

        return answers(asked, images, **options)

    def has_layout(self, text: str, reading: "Reading") -> bool:
        from keras_resnet.tasks.segment.sources import is_segment_layout

        return is_segment_layout(text, reading)

    def open(self, text: str, split: str, class_names: Sequence[str] | None, reading: "Reading") -> "Source":
        from keras_resnet.tasks.segment.sources import open_masked

        return open_masked(text, split, class_names, reading)

    def open_sources(
        self, data: Any, split: str, asked: "Asked", classes: int | None, reading: "Reading"
    ) -> "list[Source]":
        from keras_resnet.tasks.sources import open_for

        return open_for(self, asked.name, data, split, asked.class_names, classes, reading)

    def findings(self, sources: "Sequence[Source]", **options: Any) -> Iterator[str]:
        yield from ()

    def collector(self, asked: "Asked", sources: "Sequence[Source]", **options: Any) -> "Collector":
        from keras_resnet.tasks.segment.evaluation import MaskCollector

        return MaskCollector(asked, sources)

    def read_options(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        from keras_resnet.tasks.shared_options import sides_of

        window = given["window"]
        sides = None if window is None else sides_of(window, "--window")
        return {"window": sides, "longest_side": given["longest_side"], **self.evaluated}, {"out": given["out"]}

    def export_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        from keras_resnet.tasks.shared_options import sides_of

        size = given["image_size"]
        contract = {} if size is None else {"contract": WholeImage(*sides_of(size, "--image-size"))}
        return {**contract, "argmax": given["argmax"]}

    def ranked(self, asked: "Asked", answer: "Answer", options: Mapping[str, Any]) -> "Ranked":
        from keras_resnet.tasks.segment.printing import largest_classes

        return largest_classes(answer)

    def rows(
        self, asked: "Asked", image: "ReadFile", answer: "Answer", top: int | None, options: Mapping[str, Any]
    ) -> list[Row]:
        return [ranked_row(self, asked, answer, top, options)]

    def printer(
        self, asked: "Asked", paths: Sequence[str], top: int, tell: "Tell", options: Mapping[str, Any]
    ) -> "Callable[[int, np.ndarray, Answer], None]":
        from keras_resnet.tasks.segment.printing import mask_printer

        return mask_printer(asked, paths, top, tell, **options)
