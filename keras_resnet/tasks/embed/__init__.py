"""Embedding: a network without a head answers with features of the image, a vector that describes it.

This package builds such networks (`include_top=False, pooling="avg"`), exports them and predicts with them. They have
no classes, so that there is nothing to train or evaluate.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_resnet.answers import Output
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.classify import Classify

if TYPE_CHECKING:
    import numpy as np

    from keras_resnet.answers import Answer
    from keras_resnet.data.base import Source
    from keras_resnet.data.reading import Reading
    from keras_resnet.tasks.base import Asked, Collector, Ranked, Tell, Training

FEATURES = "features"


class Embed(Classify):
    """The task `embed`; see `tasks.base.Task`."""

    name = "embed"
    title = "embedding"
    predicts = "a vector of features for each image"
    outputs: Mapping[str, Output] = {FEATURES: Output(FEATURES, "features of the image")}
    score = ""
    titles: Mapping[str, str] = {}
    ranked_by = "values"
    ranked_count = None
    single_answer = False
    explained_by: str | None = None
    activation = "linear"
    bounded = False
    losses: tuple[str, ...] = ()

    def training(self, recipe: Any, source: "Source") -> "Training":
        raise ArgumentError(f"`task` must be one that networks are trained for. Received: {self.name}")

    def tolerance(self, tolerance: Any) -> Any:
        return tolerance.of_values()

    def decisions(self, answers: "np.ndarray") -> None:
        return None

    def has_layout(self, text: str, reading: "Reading") -> bool:
        return False

    def open_sources(
        self, data: Any, split: str, asked: "Asked", classes: int | None, reading: "Reading"
    ) -> "list[Source]":
        raise ArgumentError(
            f"{asked.name}: must yield the probabilities of classes, to be compared with the known classes. It is for "
            f"{self.title}, and yields {next(iter(self.outputs))}"
        )

    def collector(self, asked: "Asked", sources: "Sequence[Source]", **options: Any) -> "Collector":
        raise NotImplementedError("no data can be opened for this task")

    def ranked(self, asked: "Asked", answer: "Answer", options: Mapping[str, Any]) -> "Ranked":
        """-> all values, in the order of the network's output."""
        import numpy as np

        from keras_resnet.tasks.base import Ranked

        values = answer[next(iter(self.outputs))]
        return Ranked(np.arange(len(values)), values)

    def printer(
        self, asked: "Asked", paths: Sequence[str], top: int, tell: "Tell", options: Mapping[str, Any]
    ) -> "Callable[[int, np.ndarray, Answer], None]":
        from keras_resnet.tasks.embed.printing import value_printer

        return value_printer(asked, paths, top, tell, next(iter(self.outputs)))
