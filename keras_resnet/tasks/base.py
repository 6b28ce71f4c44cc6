"""The protocol of a task, by which data, evaluation, export and the commands use all tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from keras_resnet.answers import Answer, Output
from keras_resnet.tasks.tables import Row, Table
from keras_resnet.variants import Contract

if TYPE_CHECKING:  # `keras-resnet --help` reads the tasks' options without importing NumPy
    import numpy as np

    from keras_resnet.data.base import Source
    from keras_resnet.data.reading import Reading
    from keras_resnet.data.targets import Target

Shape = tuple[int | None, ...]
Tell = Callable[[str], None]  # takes a line of text
Run = Callable[["np.ndarray"], Answer]  # pixels uint8 `[N, H, W, 3]` -> arrays `[N, ...]`


class Asked(NamedTuple):
    """A network as a task's evaluation and printing use it."""

    name: str  # name in messages
    run: Run
    contract: Contract  # how image files become the pixels of `run`
    class_names: Sequence[str] | None
    classes: int
    task_facts: Mapping[str, Any] = MappingProxyType({})  # result of `Task.checked_facts`

    def name_of(self, index: int) -> str:
        """Index of a class -> its name, or "class 3" where the classes have no names."""
        return self.class_names[index] if self.class_names else f"class {index}"


class ReadFile(NamedTuple):
    """One image file of `predict`."""

    place: int  # among all files
    path: str
    pixels: "np.ndarray"  # result of the task's `prepare`


class Ranked(NamedTuple):
    """Classes of an image in the order in which people read them."""

    indices: "np.ndarray"  # int [n]
    numbers: "np.ndarray"  # numbers by which they are in this order, [n]


@dataclass(frozen=True)
class Check:
    """One comparison of an artifact with its model: the measured value, the required value, and whether it passed."""

    name: str
    measured: str
    required: str
    passed: bool


class Comparison(NamedTuple):
    """An artifact's answers and its model's answers for the same images, as the task compares them."""

    checks: Sequence[Check]
    max_difference: float  # largest difference of a score
    relative_error: float  # max_difference / the model's largest score
    agreement_percent: float  # share of the model's decisions that the artifact shares


class Evaluation(Protocol):
    """Answers of a network on images with known targets, and the figures computed from them."""

    images: int
    figures: Mapping[str, float | None]  # figures by name with unit, including the score

    def agreement_percent(self, other: Any) -> float:
        """Evaluation of another network on the same images -> share of decisions that are equal in both."""
        ...

    def documents(self, about: Mapping[str, Any]) -> dict[str, Callable[[], bytes]]:
        """Facts for the head of `evaluation.json` -> name of each file, and a function that returns its content."""
        ...

    def show(self) -> None:
        """Prints the figures, and where the network is weakest, in at most 80 columns."""
        ...


class Collector(Protocol):
    """A collector to which an evaluation adds image by image."""

    def add(self, source: "Source", index: int, pixels: "np.ndarray", target: "np.ndarray", answer: Answer) -> None:
        """Adds an image: source, index in it, the image from `prepare`, its target, the network's answer."""
        ...

    def finish(self) -> Any:
        """-> `Evaluation` of all added images; there must be at least one."""
        ...


class Training(Protocol):
    """A task with the recipe and the training images of one run; made by a task's `training`."""

    collects: bool  # whether the task's collector computes the figures of validation, and not Keras' metrics

    def training_model(self, fresh: bool) -> Any:
        """-> model from pixels to logits; `start`: load the weights that the recipe starts from."""
        ...

    def contract(self, model: Any) -> Contract:
        """Training model at its start -> contract by which image files become pixels in validation."""
        ...

    def evaluated_model(self) -> Any:
        """-> model from pixels to answers; compiled for evaluation by Keras' metrics, unless `collects`."""
        ...

    def objective(self, model: Any) -> dict[str, Any]:
        """Training model -> arguments of `compile`."""
        ...

    def nothing(self, model: Any) -> tuple[Any, Any]:
        """Training model -> targets and outputs of zeros, with which its losses and metrics are built."""
        ...

    def batches(self, model: Any, batches: Any) -> Any:
        """Training model, batches of the pipeline -> batches with the targets that the model's outputs need."""
        ...

    def figures(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Logs of an epoch, of Keras or of the collector -> columns of the history."""
        ...

    def interval_percent(self, logs: Mapping[str, float], images: int) -> tuple[float, float]:
        """Logs of validation, number of its images -> interval of one standard error around the score."""
        ...

    def task_facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Row of the history for the saved epoch -> facts that the model's file holds only for this task."""
        ...

    def batch_class_weights(self) -> "list[float] | None":
        """-> weight of each class, from which batches get a weight for each image; None: batches have no weights."""
        ...


class LargestDrop(NamedTuple):
    """Points of its model's score that an artifact may lose."""

    floats: float  # with kernels of float32 or float16
    integers: float  # with kernels of 8-bit integers

    def of(self, bytes_per_parameter: int) -> float:
        """Bytes of a weight in a file -> points that the file may lose."""
        return self.integers if bytes_per_parameter == 1 else self.floats

    def __str__(self) -> str:
        return f"{self.floats}" if len(set(self)) == 1 else f"{self.floats}, or {self.integers} with 8-bit kernels,"


class Task(Protocol):
    """One task: what images show, and what a network answers."""

    name: str  # name in recipes, files and records
    title: str  # name in sentences
    predicts: str  # prediction in words, for the help of recipes
    takes: str  # input of its networks, in words
    score: str  # name, with unit, of the figure by which networks are compared
    outputs: Mapping[str, Output]  # possible outputs of an artifact, by name
    unfit_formats: Mapping[str, str]  # names of formats that can't hold its networks, with the reason
    export_settings: tuple[str, ...]  # fields of `export.formats.Options` that only its networks have
    built_here_alone: bool  # whether its networks are known by the stated task, and not by layers of any model
    titles: Mapping[str, str]  # figures by name -> their names for people
    table: Table  # form of the tables of `predict`
    single_answer: bool  # whether an image has one class, as `--report` needs
    explained_by: str | None  # method of `explain`: a name in `cli.explained.METHODS`; None: there is none
    largest_drop_points: "LargestDrop"  # default bounds for an artifact's loss of score
    activation: str  # Keras' name of the activation that turns logits into probabilities
    bounded: bool  # whether answers are probabilities, and so lie in 0..1
    losses: tuple[str, ...]  # losses that a recipe can choose; none for a task that this package does not train
    lacks: tuple[str, ...]  # settings of a recipe without a meaning for the task
    evaluated: Mapping[str, Any]  # options of `answers` where nothing but the decisions counts

    @property
    def target(self) -> "Target":
        """Kind of the targets in the pipeline."""
        ...

    def options(self, command: str) -> Mapping[str, Any]:
        """Name of a command -> its options for this task: parameter name and typer's annotated type."""
        ...

    def recipe_rules(self, recipe: Any) -> Iterator[tuple[str, str, bool]]:
        """Recipe of this task -> name of a setting, its rule in words, whether it holds, in the order of the checks."""
        ...

    def training(self, recipe: Any, source: "Source") -> Training:
        """`training.recipe.Recipe`, training images with this task's targets -> `Training` for a run."""
        ...

    def arguments(self, command: str, recipe: Any) -> list[str]:
        """Name of a command, recipe of a run -> arguments of this task for using the run's model and data."""
        ...

    def classes_of(self, model: Any) -> int:
        """Keras model of this task -> number of its classes, or of its values."""
        ...

    def contract_of(self, model: Any, stated: Contract | None) -> Contract | None:
        """Keras model, its stated contract -> contract by which image files become its pixels; None: they can't."""
        ...

    def outputs_of(self, model: Any) -> tuple[Output, ...]:
        """Keras model of this task -> outputs of its artifacts, unless only the classes are asked for."""
        ...

    def served_from_files(self, model: Any) -> Literal["classes", "objects"] | None:
        """Model for export -> what the signature `serve_jpeg` of a SavedModel gives; None: it has no such signature."""
        ...

    def answers_in(self, shape: Shape, answer: Shape) -> bool:
        """Shapes of an artifact's input and first output, None where free -> whether they fit this task."""
        ...

    def classes_in(self, answer: Shape) -> int | None:
        """Shape of an artifact's first output -> number of its classes; None: the shape does not tell it."""
        ...

    def contract_of_artifact(self, sides: tuple[int | None, int | None], given: Mapping) -> Contract | None:
        """Height and width of an artifact's input, the input's description -> contract for image files.

        The description is empty if the file holds none. None: image files can't become the artifact's pixels.
        """
        ...

    def tolerance(self, tolerance: Any) -> Any:
        """Tolerance of a format (`export.formats.Tolerance`) -> tolerance for answers of this task."""
        ...

    def compare(self, answers: Answer, expected: Answer, tolerance: Any) -> Comparison | None:
        """Answers of an artifact and of its model for the same images, result of `tolerance` -> comparison.

        None: the answers are scores in a fixed order, which the export compares number by number.
        """
        ...

    def decisions(self, answers: "np.ndarray") -> "np.ndarray | None":
        """Answers of a batch `[N, ...]` -> scores of all decisions `[M, choices]`; the highest score of a row wins.

        None: nothing is decided.
        """
        ...

    def checked_facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Untrusted task facts from a file -> facts that the task knows.

        Raises:
            ValueError: A value is invalid.
        """
        ...

    def for_export(self, model: Any, options: Any) -> Any:
        """Flat Keras model, `export.formats.Options` -> model of which files are written, by `export_settings`.

        Raises:
            ExportError: A value is invalid.
        """
        ...

    def described_options(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """Description of a file -> options by which `for_export` makes the network that the file states to hold."""
        ...

    def prepare(self, pixels: "np.ndarray", contract: Contract) -> "np.ndarray":
        """Decoded image, uint8 RGB `[H, W, 3]` -> prepared image for `answers`; called in threads that read ahead."""
        ...

    def batch_size(self, contract: Contract, wanted: int) -> int:
        """-> number of prepared images that a network takes at once, at most `wanted`."""
        ...

    def answers(self, asked: Asked, images: "Sequence[np.ndarray]", *_: Any, **options: Any) -> list[Answer]:
        """Network, at most a batch of prepared images -> answer for each image."""
        ...

    def has_layout(self, text: str, reading: "Reading") -> bool:
        """Data as users name it, their choices about it -> whether it has a layout of this task."""
        ...

    def open(self, text: str, split: str, class_names: Sequence[str] | None, reading: "Reading") -> "Source":
        """Data of this task's layout, one of `data.splits.SPLITS`, class names -> images of the split.

        For "all", data with its own validation images yields its training images.
        """
        ...

    def open_sources(
        self, data: Any, split: str, asked: Asked, classes: int | None, reading: "Reading"
    ) -> "list[Source]":
        """Data as users name it, split -> sources of its images, with targets of this task and the network's classes.

        Raises:
            ArgumentError: The data has other targets, or classes that the network lacks.
        """
        ...

    def findings(self, sources: "Sequence[Source]", **options: Any) -> Iterator[str]:
        """Training and validation images, options of `data check` -> lines about them that only this task has."""
        ...

    def collector(self, asked: Asked, sources: "Sequence[Source]", **options: Any) -> Collector:
        """-> collector of the network's answers on the images of these sources.

        `options` are values of the task's options of `evaluate`; without them, the defaults hold.
        """
        ...

    def read_options(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values of the task's options for `predict` -> options for `answers`, options for `printer` and `rows`.

        Raises:
            ArgumentError: A value is invalid.
        """
        ...

    def export_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the task's options of `export` -> `contract` if they set it; fields of `export.formats.Options`.

        Raises:
            ArgumentError: A value is invalid.
        """
        ...

    def rows(
        self, asked: Asked, image: ReadFile, answer: Answer, top: int | None, options: Mapping[str, Any]
    ) -> list[Row]:
        """Network, an image, the answer for it, number of classes to name (None: the task's own), the task's options ->
        the rows of the image in the tables, without its file."""
        ...

    def printer(
        self, asked: Asked, paths: Sequence[str], top: int, tell: Tell, options: Mapping[str, Any]
    ) -> Callable[[int, "np.ndarray", Answer], None]:
        """Network, all image files, number of classes to name, function that prints a line, the task's options ->
        function that prints an answer, and writes its pictures.

        The function takes a place in `paths`, the prepared image and its answer.
        """
        ...
