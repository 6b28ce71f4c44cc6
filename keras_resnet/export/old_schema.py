"""Descriptions of artifacts from earlier versions -> descriptions in the current schema."""

from typing import Any

from keras_resnet.answers import MASK


def current(description: dict[str, Any]) -> dict[str, Any]:
    """Untrusted description; version 2 -> the current version; others -> unchanged.

    Version 2 had no task. It knew two tasks, which the kind of the output distinguishes.

    Raises:
        KeyError, TypeError: A field that is needed to find the task is missing.
    """
    if description["schema_version"] != 2:
        return description
    output = description["output"]
    of_pixels = output["name"] == MASK or str(output["kind"]).endswith("of each pixel")
    return {"schema_version": 3, "task": "segment" if of_pixels else "classify", **_without_version(description)}


def _without_version(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name != "schema_version"}
