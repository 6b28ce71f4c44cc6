"""What all tasks share: the protocol by which data, evaluation, export and the commands know a task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from keras_resnet.answers import Answer, Output
from keras_resnet.variants import Contract

if TYPE_CHECKING:  # `keras-resnet --help`, which asks the tasks for their options, does without NumPy
    import numpy as np

    from keras_resnet.data.base import Source
    from keras_resnet.data.reading import Reading
    from keras_resnet.data.targets import Target

Shape = tuple[int | None, ...]
Run = Callable[["np.ndarray"], Answer]  # pixels uint8 `[N, H, W, 3]` -> arrays `[N, ...]`


class Asked(NamedTuple):
    """A network as a task's evaluation and its prints see it."""

    name: str  # what messages call it
    run: Run
    contract: Contract  # how image files become the pixels of `run`
    class_names: Sequence[str] | None
    classes: int
    task_facts: Mapping[str, Any] = MappingProxyType({})  # as `Task.checked_facts` gives them


class Evaluation(Protocol):
    """Answers of a network on images whose targets are known, and what follows."""

    images: int
    figures: Mapping[str, float | None]  # by name with unit; the score is among them

    def agreement_percent(self, other: Any) -> float:
        """Evaluation of another network on the same images -> share on which both decide alike."""
        ...

    def documents(self, about: Mapping[str, Any]) -> dict[str, Callable[[], bytes]]:
        """Facts for the head of `evaluation.json` -> name of each file, and what gives its content."""
        ...

    def show(self) -> None:
        """Prints the figures, and where the network is weakest, in at most 80 columns."""
        ...


class Collector(Protocol):
    """What an evaluation adds up, image by image."""

    def add(self, source: "Source", index: int, pixels: "np.ndarray", target: "np.ndarray", answer: Answer) -> None:
        """Source, index in it, the image as `prepare` gave it, its target, the network's answer."""
        ...

    def finish(self) -> Any:
        """-> `Evaluation` of all that was added, of one image at least."""
        ...


class Training(Protocol):
    """A task with the recipe and the training images of one run; made by a task's `training`."""

    def training_model(self, fresh: bool) -> Any:
        """-> pixels to logits; with the weights that the recipe starts from, if it is the start."""
        ...

    def contract(self, model: Any) -> Contract:
        """Training model at its start -> how image files become the pixels of validation."""
        ...

    def evaluated_model(self) -> Any:
        """-> pixels to probabilities, compiled to be evaluated."""
        ...

    def objective(self, model: Any) -> dict[str, Any]:
        """Training model -> arguments of `compile`."""
        ...

    def nothing(self, model: Any) -> tuple[Any, Any]:
        """Training model -> targets and outputs of zeros, with which its metrics are built."""
        ...

    def batches(self, model: Any, batches: Any) -> Any:
        """Training model, batches of the pipeline -> with targets as the model's outputs ask for them."""
        ...

    def figures(self, logs: Mapping[str, float]) -> dict[str, float]:
        """What Keras measured -> columns of the history."""
        ...

    def interval_percent(self, logs: Mapping[str, float], images: int) -> tuple[float, float]:
        """What Keras measured on so many validation images -> the score's interval of one standard error."""
        ...

    def task_facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Row of the history of the epoch whose weights are saved -> what the model's file says for this task alone."""
        ...

    def batch_class_weights(self) -> "list[float] | None":
        """-> weight of each class, which the batches bring for each image; None: they bring none."""
        ...


class Task(Protocol):
    """One task: what images show, and what a network answers."""

    name: str  # as recipes, files and records have it
    title: str  # in words
    predicts: str  # in words, for the help of recipes
    takes: str  # what its networks take, in words
    score: str  # the figure by which networks are compared, by name with unit
    outputs: Mapping[str, Output]  # that an artifact can have, by name; the first is that of its models
    titles: Mapping[str, str]  # figures by name -> what people call them
    single_answer: bool  # whether an image has one class, as `explain`, `--report` and `serve_jpeg` ask for
    largest_drop_points: float  # of the score, that an artifact may lose unless the user says otherwise
    activation: str  # Keras' name of what makes probabilities of logits
    losses: tuple[str, ...]  # that a recipe can choose
    lacks: tuple[str, ...]  # settings of a recipe that have no meaning for it, and keep their defaults

    @property
    def target(self) -> "Target":
        """What its images show, on its way through the pipeline."""
        ...

    def options(self, command: str) -> Mapping[str, Any]:
        """Name of a command -> the options that it has for this task: parameter and its type, as typer takes it."""
        ...

    def recipe_rules(self, recipe: Any) -> Iterator[tuple[str, str, bool]]:
        """Recipe of this task -> name of a setting, its rule in words, whether it holds; in the order of the checks."""
        ...

    def training(self, recipe: Any, source: "Source") -> Training:
        """`training.recipe.Recipe`, training images with this task's targets -> what a run of it trains."""
        ...

    def arguments(self, command: str, recipe: Any) -> list[str]:
        """Name of a command, recipe of a run -> the task's own arguments that it needs for the run's model and data."""
        ...

    def recognises(self, model: Any) -> bool:
        """Keras model of which nobody stated a task -> whether its input and output are of this one's shapes."""
        ...

    def contract_of(self, model: Any, stated: Contract | None) -> Contract | None:
        """Keras model, the contract stated with it -> how image files become its pixels; None: they can't."""
        ...

    def answers_in(self, shape: Shape, answer: Shape) -> bool:
        """Shapes of an artifact's input and output, None where free -> whether they are of this task."""
        ...

    def contract_of_artifact(self, sides: tuple[int | None, int | None], given: Mapping) -> Contract | None:
        """Height and width of an artifact's input, the input's description -> how image files become its pixels.

        The description is empty where the file says nothing about itself; None: image files can't become them.
        """
        ...

    def tolerance(self, tolerance: Any) -> Any:
        """Bounds of a format, `export.formats.Tolerance` -> those for answers of this task."""
        ...

    def decisions(self, answers: "np.ndarray") -> "np.ndarray":
        """Answers of a batch `[N, ...]` -> all that they decide `[M, choices]`: in each row, the highest wins."""
        ...

    def checked_facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a file says for this task alone, in which nothing is trusted -> what of it the task knows.

        Raises:
            ValueError: A value that is none.
        """
        ...

    def decided_output(self, model: Any) -> Output:
        """Keras model that is exported with `argmax` -> the output of its files.

        Raises:
            ExportError: The task has no such output, or the model more classes than a byte can name.
        """
        ...

    def prepare(self, pixels: "np.ndarray", contract: Contract) -> "np.ndarray":
        """uint8 RGB `[H, W, 3]` as decoded -> what `answer` takes; called in threads that read ahead."""
        ...

    def batch_size(self, contract: Contract, wanted: int) -> int:
        """-> how many prepared images a network takes at once, at most as many as wanted."""
        ...

    def answers(self, asked: Asked, images: "Sequence[np.ndarray]", *_: Any, **options: Any) -> list[Answer]:
        """Network, prepared images, at most a batch -> an answer for each image."""
        ...

    def has_layout(self, text: str, reading: "Reading") -> bool:
        """Data as users name it, their choices about it -> whether it is laid out as this task's is."""
        ...

    def open(self, text: str, split: str, class_names: Sequence[str] | None, reading: "Reading") -> "Source":
        """Data of that layout, one of `data.splits.SPLITS`, names of the classes -> the images of that split.

        Where all images are asked for, and the data has validation images of its own, those that train are given.
        """
        ...

    def open_sources(
        self, data: Any, split: str, asked: Asked, classes: int | None, reading: "Reading"
    ) -> "list[Source]":
        """Data as users name it -> the images of that split, with the targets of this task and the network's classes.

        Raises:
            ArgumentError: The data has other targets, or classes that the network lacks.
        """
        ...

    def collector(self, asked: Asked, sources: "Sequence[Source]") -> Collector:
        """-> what adds up the network's answers on the images of these sources."""
        ...

    def read_options(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values of the task's options of `predict` -> what `answers` is given of them, and `printer`.

        Raises:
            ArgumentError: A value that is none.
        """
        ...

    def export_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the task's options of `export` -> `contract` and `argmax`, as far as it has them.

        Raises:
            ArgumentError: A value that is none.
        """
        ...

    def printer(self, asked: Asked, paths: Sequence[Any], top: int, options: Mapping[str, Any]) -> Any:
        """Network, all image files, number of classes to name, the task's options -> what prints answers.

        That is a function of a place in `paths`, the prepared image and its answer.
        """
        ...
