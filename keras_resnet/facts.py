"""What is known of a network that its layers do not tell: task, names of classes, pixels, origin of the weights.

Whoever makes or loads a network states these facts here; whoever uses it reads them here. They are kept beside the
model, not on it: an attribute of a Keras model is tracked, changed and lost by Keras as it sees fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from keras_resnet.variants import Contract


@dataclass(frozen=True)
class WeightsOrigin:
    """Where the weights of a model come from; an artifact of it carries this inside."""

    source: str  # tag, hf://owner/repository, or name of a file
    repository: str | None  # on the Hugging Face Hub
    licence: str | None  # where it is known
    file_sha256: str


@dataclass(frozen=True)
class Facts:
    """Facts about one network; None where nobody stated one."""

    task: str | None = None  # a name in `tasks.TASKS`
    class_names: tuple[str, ...] | None = None  # in the order of the outputs
    contract: Contract | None = None  # how image files become its pixels
    weights_origin: WeightsOrigin | None = None
    task_facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # what its task alone knows of, as `checked_facts` gives it


_FACTS: WeakKeyDictionary[Any, Facts] = WeakKeyDictionary()


def facts_of(model: Any) -> Facts:
    """Keras model -> what was stated about it."""
    return _FACTS.get(model, Facts())


def state(model: Any, **facts: Any) -> None:
    """Keras model, fields of `Facts` -> these facts are stated about it; the others stay as they were."""
    _FACTS[model] = replace(facts_of(model), **facts)


def carry(source: Any, model: Any) -> None:
    """Keras model, a copy of it -> what is known of the one is known of the other, but for its weights' origin."""
    _FACTS[model] = replace(facts_of(source), weights_origin=None)
