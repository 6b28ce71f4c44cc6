"""Tagging (multi-label classification): an image has any number of classes, each with its own probability.

Networks and pixels are as in classification, so that this task derives from `Classify`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_resnet.answers import PROBABILITIES, Output
from keras_resnet.tasks.base import LargestDrop
from keras_resnet.tasks.classify import Classify

if TYPE_CHECKING:
    import numpy as np

    from keras_resnet.answers import Answer
    from keras_resnet.data.base import Source
    from keras_resnet.data.reading import Reading
    from keras_resnet.data.targets import Target
    from keras_resnet.tasks.base import Asked, Collector, Ranked, Tell, Training


class Tag(Classify):
    """The task `tag`; see `tasks.base.Task`."""

    name = "tag"
    title = "tagging"
    predicts = "any number of classes for each image"
    outputs: Mapping[str, Output] = {
        PROBABILITIES: Output(PROBABILITIES, "probability of each class on its own"),
    }
    score = "mean_average_precision_percent"
    titles: Mapping[str, str] = {"mean_average_precision_percent": "mAP", "micro_f1_percent": "micro F1"}
    ranked_count: int | None = None
    single_answer = False
    explained_by: str | None = None
    largest_drop_points = LargestDrop(0.5, 0.5)
    activation = "sigmoid"
    losses: tuple[str, ...] = ("binary", "focal", "asymmetric")
    # Label smoothing and class weights both assume that an image has one class.
    lacks: tuple[str, ...] = ("label_smoothing", "class_weights")

    @property
    def target(self) -> "Target":
        from keras_resnet.tasks.tag.target import TAGS

        return TAGS

    def options(self, command: str) -> Mapping[str, Any]:
        from keras_resnet.tasks.tag.options import TAG_OPTIONS

        return TAG_OPTIONS.get(command, {})

    def training(self, recipe: Any, source: "Source") -> "Training":
        from keras_resnet.tasks.tag.training import TaggerTraining

        return TaggerTraining(recipe, source)

    def decisions(self, answers: "np.ndarray") -> "np.ndarray":
        """`[N, classes]` -> `[N * classes, 2]`: whether an image lacks a class, or has it."""
        import numpy as np

        return np.stack([1 - answers, answers], axis=-1).reshape(-1, 2)

    def checked_facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if "threshold" not in given:
            return {}
        threshold = given["threshold"]
        if type(threshold) not in (int, float) or not math.isfinite(threshold) or not 0 <= threshold <= 1:
            raise ValueError(f"'threshold' must be a number in 0..1: {threshold!r}"[:200])
        return {"threshold": float(threshold)}

    def has_layout(self, text: str, reading: "Reading") -> bool:
        from keras_resnet.tasks.tag.sources import is_tag_layout

        return is_tag_layout(text, reading)

    def open(self, text: str, split: str, class_names: Sequence[str] | None, reading: "Reading") -> "Source":
        from keras_resnet.tasks.tag.sources import open_tagged

        return open_tagged(text, split, class_names, reading)

    def open_sources(
        self, data: Any, split: str, asked: "Asked", classes: int | None, reading: "Reading"
    ) -> "list[Source]":
        from keras_resnet.tasks.sources import open_for

        return open_for(self, asked.name, data, split, asked.class_names, classes, reading)

    def collector(self, asked: "Asked", sources: "Sequence[Source]", **options: Any) -> "Collector":
        from keras_resnet.tasks.tag.evaluation import TagCollector

        return TagCollector(asked, sources)

    def read_options(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {"threshold": given["threshold"]}

    def ranked(self, asked: "Asked", answer: "Answer", options: Mapping[str, Any]) -> "Ranked":
        from keras_resnet.tasks.tag.printing import found_classes

        return found_classes(asked, answer, **options)

    def printer(
        self, asked: "Asked", paths: Sequence[str], top: int, tell: "Tell", options: Mapping[str, Any]
    ) -> "Callable[[int, np.ndarray, Answer], None]":
        from keras_resnet.tasks.tag.printing import tag_printer

        return tag_printer(asked, paths, top, tell, **options)
