"""Image classification: an image has one class, and a network answers with the probability of each class."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

from keras_resnet import layer_names
from keras_resnet.answers import PROBABILITIES, SCORES, Output
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.base import LargestDrop
from keras_resnet.tasks.tables import RANKED, Row, ranked_row
from keras_resnet.variants import CIFAR, IMAGENET, Contract, InputContract

if TYPE_CHECKING:
    import numpy as np

    from keras_resnet.answers import Answer
    from keras_resnet.data.base import Source
    from keras_resnet.data.reading import Reading
    from keras_resnet.data.targets import Target
    from keras_resnet.tasks.base import Asked, Collector, Ranked, ReadFile, Shape, Tell, Training


class Classify:
    """The task `classify`; see `tasks.base.Task`."""

    name = "classify"
    title = "image classification"
    predicts = "a class for each image"
    takes = "square RGB images [N, size, size, 3]"
    outputs: Mapping[str, Output] = {PROBABILITIES: SCORES}
    unfit_formats: Mapping[str, str] = MappingProxyType({})
    export_settings: tuple[str, ...] = ()
    built_here_alone = False
    score = "top1_percent"
    titles: Mapping[str, str] = {"top1_percent": "top-1", "top5_percent": "top-5"}
    table = RANKED
    ranked_by = "probabilities"
    ranked_count: int | None = 5  # classes in a row, unless the user names a number; None: all
    single_answer = True
    explained_by: str | None = "grad_cam"
    largest_drop_points = LargestDrop(0.5, 0.5)
    activation = "softmax"
    bounded = True
    losses: tuple[str, ...] = ("cross_entropy", "binary", "focal")
    lacks: tuple[str, ...] = ()
    evaluated: Mapping[str, Any] = MappingProxyType({})

    @property
    def target(self) -> "Target":
        from keras_resnet.tasks.classify.target import LABEL

        return LABEL

    def options(self, command: str) -> Mapping[str, Any]:
        return {}

    def recipe_rules(self, recipe: Any) -> Iterator[tuple[str, str, bool]]:
        return iter(())

    def training(self, recipe: Any, source: "Source") -> "Training":
        from keras_resnet.tasks.classify.training import ClassifierTraining

        if len(source.classes) < 2:
            inner = source.taken.inner if source.taken is not None else ()
            cure = (
                f"Its images lie in folders, such as {inner[0]}/: if these are the classes, name the folder above them"
                if inner
                else "Add images of another class"
            )
            raise ArgumentError(
                f"{source.path}: must have at least two classes. It has one: {', '.join(source.classes)}. {cure}"
            )
        return ClassifierTraining(recipe, source)

    def arguments(self, command: str, recipe: Any) -> list[str]:
        return []

    def outputs_of(self, model: Any) -> tuple[Output, ...]:
        return (next(iter(self.outputs.values())),)

    def served_from_files(self, model: Any) -> Literal["classes"] | None:
        return "classes" if self.single_answer else None

    def answers_in(self, shape: "Shape", answer: "Shape") -> bool:
        return len(shape) == 4 and len(answer) == 2

    def classes_of(self, model: Any) -> int:
        from keras_resnet.tasks.outputs import classes_of

        return classes_of(self.name, model.outputs[0].shape[-1])

    def contract_of(self, model: Any, stated: Contract | None) -> InputContract | None:
        """-> the stated contract, for example from published weights, if it fits the input size.

        Otherwise, a network for CIFAR takes whole images, without a crop. Another model of fixed size gets
        torchvision's proportion of crop to resize, and a model of free size gets the default contract.
        """
        height, width = model.inputs[0].shape[1:3]
        if height != width:
            return None
        if isinstance(stated, InputContract) and height in (None, stated.size):
            return stated
        if _keeps_every_pixel(model):
            return CIFAR.contract if height is None else InputContract(height, height)
        return IMAGENET.contract if height is None else InputContract.for_size(height)

    def classes_in(self, answer: "Shape") -> int | None:
        return answer[-1]

    def contract_of_artifact(self, sides: tuple[int | None, int | None], given: Mapping) -> InputContract | None:
        height, width = sides
        if height != width:
            return None
        if given.get("centre_crop"):
            return InputContract(given["centre_crop"], given["resize_short_side"], given["interpolation"])
        return InputContract() if height is None else InputContract.for_size(height)

    def tolerance(self, tolerance: Any) -> Any:
        return tolerance

    def compare(self, answers: "Answer", expected: "Answer", tolerance: Any) -> None:
        return None

    def decisions(self, answers: "np.ndarray") -> "np.ndarray | None":
        return answers

    def checked_facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def for_export(self, model: Any, options: Any) -> Any:
        return model

    def described_options(self, description: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def prepare(self, pixels: "np.ndarray", contract: Contract) -> "np.ndarray":
        from keras_resnet.preprocessing import resize_and_crop

        return resize_and_crop(pixels, cast(InputContract, contract))

    def batch_size(self, contract: Contract, wanted: int) -> int:
        return wanted

    def answers(self, asked: "Asked", images: "Sequence[np.ndarray]") -> "list[Answer]":
        import numpy as np

        answer = asked.run(np.stack(images))
        return [{name: values[row] for name, values in answer.items()} for row in range(len(images))]

    def has_layout(self, text: str, reading: "Reading") -> bool:
        return True  # what it is not, its opener names

    def open(self, text: str, split: str, class_names: Sequence[str] | None, reading: "Reading") -> "Source":
        from keras_resnet.tasks.classify.sources import open_labelled

        return open_labelled(text, split, class_names, reading)

    def open_sources(
        self, data: Any, split: str, asked: "Asked", classes: int | None, reading: "Reading"
    ) -> "list[Source]":
        from keras_resnet.tasks.sources import check_layout, open_split

        check_layout(data, self, asked.name, reading)
        sources = open_split(data, split, asked.class_names, reading, self.name)
        if asked.class_names is None and classes is not None and all(name.isdecimal() for name in sources[0].classes):
            # A number is the index of a class, whichever classes the data has.
            highest = max(map(int, sources[0].classes))
            if highest >= classes:
                raise ArgumentError(
                    f"{data}: the index of a class must be at most {classes - 1}, since the model has {classes} "
                    f"classes. Received: {highest}"
                )
            sources = open_split(data, split, [str(index) for index in range(classes)], reading, self.name)
        return sources

    def findings(self, sources: "Sequence[Source]", **options: Any) -> Iterator[str]:
        yield from ()

    def collector(self, asked: "Asked", sources: "Sequence[Source]", **options: Any) -> "Collector":
        from keras_resnet.tasks.classify.evaluation import ClassCollector

        return ClassCollector(asked, sources)

    def read_options(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def export_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def ranked(self, asked: "Asked", answer: "Answer", options: Mapping[str, Any]) -> "Ranked":
        from keras_resnet.labels import top_indices
        from keras_resnet.tasks.base import Ranked

        probabilities = answer[PROBABILITIES]
        [order] = top_indices(probabilities[None], len(probabilities))
        return Ranked(order, probabilities[order])

    def rows(
        self, asked: "Asked", image: "ReadFile", answer: "Answer", top: int | None, options: Mapping[str, Any]
    ) -> list[Row]:
        return [ranked_row(self, asked, answer, top, options)]

    def printer(
        self, asked: "Asked", paths: Sequence[str], top: int, tell: "Tell", options: Mapping[str, Any]
    ) -> "Callable[[int, np.ndarray, Answer], None]":
        from keras_resnet.tasks.classify.printing import class_printer

        return class_printer(asked, paths, top, tell)


def _keeps_every_pixel(model: Any) -> bool:
    """Whether the stem has stride 1, the only sign of a network for CIFAR in a .keras file."""
    stem = layer_names.STEM_CONV
    return any(layer.name == stem and getattr(layer, "strides", None) == (1, 1) for layer in model.layers)
