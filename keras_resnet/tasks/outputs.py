"""What the numbers of a model's output are, read from what was stated, from its last layers and from its loss."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_resnet.errors import ArgumentError

KINDS: Mapping[str, tuple[str, ...]] = {  # task -> kinds that its output can have; the first is the usual one
    "classify": ("probabilities", "logits"),
    "segment": ("probabilities", "logits"),
    "tag": ("probabilities", "logits"),
    "regress": ("values",),
    "embed": ("features",),
}
OUTPUT_KINDS = tuple(dict.fromkeys(kind for kinds in KINDS.values() for kind in kinds))

# Keras' names of losses, as functions, classes and short names -> activation that they expect for logits, or "values".
_LOSSES = {
    "categoricalcrossentropy": "softmax",
    "sparsecategoricalcrossentropy": "softmax",
    "categoricalfocalcrossentropy": "softmax",
    "binarycrossentropy": "sigmoid",
    "binaryfocalcrossentropy": "sigmoid",
    "meansquarederror": "values",
    "mse": "values",
    "meanabsoluteerror": "values",
    "mae": "values",
    "meanabsolutepercentageerror": "values",
    "mape": "values",
    "meansquaredlogarithmicerror": "values",
    "msle": "values",
    "huber": "values",
    "logcosh": "values",
}


class Stated(NamedTuple):
    """What a user states about a model; None: nothing."""

    task: str | None = None
    output_kind: str | None = None


NOTHING = Stated()


class Reading(NamedTuple):
    """The task of a model, the kind of its output, and the reason in words."""

    task: str
    kind: str
    why: str | None  # None: it was stated


def classes_of(task: str, units: int) -> int:
    """Task, number of values in a model's answer -> number of classes: one value tells two classes apart."""
    return 2 if units == 1 and task in ("classify", "segment") else units


def loss_of(model: Any) -> str | None:
    """Keras model, compiled or not -> the kind of its loss: softmax, sigmoid, values; None: it states none."""
    loss = getattr(model, "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return loss_named(name)


def loss_named(name: Any) -> str | None:
    """Keras' name of a loss -> its kind: softmax, sigmoid, values; None: unknown."""
    return _LOSSES.get(str(name).replace("_", "").lower())


def read_output(
    name: str,
    shape: tuple[int | None, ...],
    answer: tuple[int | None, ...],
    activation: str | None,
    *,
    last: str,
    loss: str | None = None,
    task: str | None = None,
    kind: str | None = None,
) -> Reading:
    """Shapes of a model's input and output, its last activation, what is stated -> its task and its output.

    Args:
        name: Name of the model in messages.
        activation: "softmax", "sigmoid", "linear", or None for another last layer.
        last: Name of the last layer.
        loss: Kind of the loss that the model was compiled with, if any.
        task: Task that was stated or asked for.
        kind: Kind of output that was stated or asked for.

    Raises:
        ArgumentError: What is stated does not fit the model, or several readings are possible.
    """
    for option, value, choices in (("task", task, tuple(KINDS)), ("output_kind", kind, OUTPUT_KINDS)):
        if value is not None and value not in choices:
            raise ArgumentError(
                f"`{option}` (--{option.replace('_', '-')}) must be one of {', '.join(choices)}. Received: {value}"
            )
    if len(shape) != 4 or len(answer) not in (2, 4):
        raise ArgumentError(
            f"{name}: must map images [N, H, W, C] to [N, classes] or, for every pixel, [N, H, W, classes]. It maps "
            f"{list(shape)} to {list(answer)}"
        )
    possible = ("segment",) if len(answer) == 4 else ("classify", "tag", "regress", "embed")
    if task is not None and task not in possible:
        raise ArgumentError(
            f"{name}: `task` (--task) must be {' or '.join(possible)} for outputs {list(answer)}. Received: {task}"
        )
    if kind is not None:
        fitting = [each for each in possible if kind in KINDS[each]]
        if (task is not None and kind not in KINDS[task]) or not fitting:
            raise ArgumentError(
                f"{name}: `output_kind` (--output-kind) must be {' or '.join(KINDS[task or possible[0]])} for the task "
                f"{task or possible[0]}. Received: {kind}"
            )
        if kind == "logits" and activation in ("softmax", "sigmoid"):
            raise ArgumentError(
                f"{name}: its last layer {last!r} is a {activation}, so that its output are no logits. Leave out "
                "`output_kind` (--output-kind). Received: logits"
            )
        if task is None and kind in ("values", "features"):
            task = fitting[0]
    units = answer[-1]
    if task in ("regress", "embed"):
        return Reading(task, KINDS[task][0], None)
    found = kind or _kind_of(name, activation, loss, last, units, task)
    if found == "values" and "regress" not in possible:
        raise ArgumentError(
            f"{name}: was compiled with a loss for values, but answers for every pixel. Only classes can be answered "
            "for every pixel. If its output are classes, name their kind: `output_kind` (--output-kind) probabilities "
            f"or logits. Received: outputs {list(answer)}"
        )
    if found == "values":
        return Reading("regress", found, "because it was compiled with a loss for values")
    why: str | None = None
    if task is None:
        task, why = _task_of(activation, loss, units, len(answer) == 4)
    if units == 1 and activation == "softmax":
        raise ArgumentError(
            f"{name}: a softmax over one class is always 1. For two classes, end in Dense(1, activation='sigmoid') or "
            f"in Dense(2, activation='softmax'). Received: outputs {list(answer)}"
        )
    return Reading(task, found, why)


def _kind_of(
    name: str, activation: str | None, loss: str | None, last: str, units: int | None, task: str | None
) -> str:
    """-> "probabilities", "logits" or "values".

    Raises:
        ArgumentError: The last layers and the loss do not tell.
    """
    if activation in ("softmax", "sigmoid"):
        if activation == "sigmoid" and loss == "values" and task is None:
            raise ArgumentError(
                f"{name}: its last layer {last!r} is a sigmoid, but its loss is one for values. Name the kind of its "
                "output: `output_kind` (--output-kind) probabilities or values"
            )
        return "probabilities"
    if activation == "linear":
        if loss is not None and task is None:
            return "values" if loss == "values" else "logits"
        if task is not None or (units or 0) > 1:
            return "logits"
        raise ArgumentError(
            f"{name}: its last layer {last!r} has one output without an activation, which can be a value of a "
            "regression or the logit of a class. Name the kind of its output: `output_kind` (--output-kind) values or "
            "logits"
        )
    raise ArgumentError(
        f"{name}: its last layer {last!r} is no dense layer or convolution, no softmax and no sigmoid, so that the "
        "kind of its output is unknown. Name it: `output_kind` (--output-kind) features for an embedding, values for "
        "a regression, probabilities or logits for classes"
    )


def _task_of(activation: str | None, loss: str | None, units: int | None, every_pixel: bool) -> tuple[str, str]:
    """-> task of a model whose output are probabilities or logits, and the reason."""
    if every_pixel:
        return "segment", "because it answers for every pixel"
    if units == 1:
        return "classify", "because its one output is the probability of the second of two classes"
    if loss == "sigmoid":
        return "tag", "because it was compiled with a binary cross-entropy"
    if loss is None and activation == "sigmoid":
        return "tag", "because it ends in a sigmoid, so that each class has a probability of its own"
    if activation == "linear":
        return "classify", "because its last layer has no activation, and its outputs are taken as logits of classes"
    return "classify", f"because it ends in a {activation}"
