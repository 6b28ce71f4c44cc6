"""Facts about a network that its layers do not tell: task, class names, pixels, origin of the weights.

Code that makes or loads a network states these facts here, and code that uses the network reads them here. They are
kept in a table beside the model, since Keras tracks, changes and sometimes loses attributes of a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from keras_resnet.variants import Contract


@dataclass(frozen=True)
class WeightsOrigin:
    """Origin of a model's weights, which artifacts record."""

    source: str  # tag, hf://owner/repository, or name of a file
    repository: str | None  # repository on the Hugging Face Hub
    licence: str | None  # None if unknown
    file_sha256: str


@dataclass(frozen=True)
class Facts:
    """Facts about one network; a fact is None if it was not stated."""

    task: str | None = None  # a name in `tasks.TASKS`
    output_kind: str | None = None  # one of `tasks.outputs.OUTPUT_KINDS`
    loss: str | None = None  # kind of the loss that its file names; see `tasks.outputs.loss_named`
    interpreted: bool = False  # whether the model is a result of `tasks.interpret.interpret`
    read_as: str | None = None  # how task and output kind were read where nobody stated them, in words
    class_names: tuple[str, ...] | None = None  # names in the order of the outputs
    contract: Contract | None = None  # way from image files to its pixels
    weights_origin: WeightsOrigin | None = None
    task_facts: Mapping[str, Any] = field(default_factory=dict)  # facts that only its task knows; see `checked_facts`


_FACTS: WeakKeyDictionary[Any, Facts] = WeakKeyDictionary()


def facts_of(model: Any) -> Facts:
    """Keras model -> facts stated about it."""
    return _FACTS.get(model, Facts())


def state(model: Any, **facts: Any) -> None:
    """States facts about a Keras model, given as fields of `Facts`. Its other facts stay."""
    _FACTS[model] = replace(facts_of(model), **facts)


def carry(source: Any, model: Any) -> None:
    """States all facts about a Keras model for its copy, except for the origin of the weights."""
    _FACTS[model] = replace(facts_of(source), weights_origin=None)
