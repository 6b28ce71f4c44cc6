"""Arguments of `export` under the names that they had before they were grouped; each gives a DeprecationWarning."""

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from keras_resnet.data.reading import Reading
from keras_resnet.export.accuracy import LabelledImages
from keras_resnet.export.formats import Options
from keras_resnet.export.images import CalibrationImages

# Earlier name -> argument, and field of the object that the argument now takes; None: the argument is the value.
_MOVED: Mapping[str, tuple[str, str | None]] = {
    "labels": ("class_names", None),
    "weights": ("options", "int_weights"),
    **{field.name: ("options", field.name) for field in fields(Options)},
    "calibration_count": ("calibration", "count"),
    "seed": ("calibration", "seed"),
    "force_calibration": ("calibration", "force"),
    "split": ("data", "split"),
    "max_drop": ("data", "max_drop_points"),
    "void_labels": ("data", "reading"),
}
_GROUPS: Mapping[str, Any] = {"options": Options, "calibration": CalibrationImages, "data": LabelledImages}


def takes_earlier_arguments(export: Callable[..., Any]) -> Callable[..., Any]:
    """`export` -> `export` that takes its arguments under their earlier names, too."""

    @functools.wraps(export)
    def with_earlier(*args: Any, **given: Any) -> Any:
        for earlier in [name for name in given if name in _MOVED]:
            argument, field = _MOVED[earlier]
            value = given.pop(earlier)
            now = f"{argument}=..." if field is None else f"{argument}={_GROUPS[argument].__name__}(..., {field}=...)"
            warnings.warn(f"export({earlier}=...) is now export({now})", DeprecationWarning, stacklevel=2)
            if field is None:
                given[argument] = value
                continue
            if field == "reading":
                value = Reading(void_labels=tuple(value))
            group = given.get(argument, Options() if argument == "options" else None)
            if group is not None:  # without calibration images or data, their settings have no meaning
                group = group if isinstance(group, _GROUPS[argument]) else _GROUPS[argument](group)
                given[argument] = replace(group, **{field: value})
        return export(*args, **given)

    return with_earlier
