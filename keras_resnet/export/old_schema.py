"""Descriptions of artifacts that earlier versions wrote -> as this version writes them."""

from typing import Any

from keras_resnet.answers import MASK


def current(description: dict[str, Any]) -> dict[str, Any]:
    """Description of any version, in which nothing is trusted -> of the current one, if it is of version 2.

    Version 2 had no task. Two were known, and the kind of the output tells them apart.

    Raises:
        KeyError, TypeError: A field that tells the task is absent.
    """
    if description["schema_version"] != 2:
        return description
    output = description["output"]
    of_pixels = output["name"] == MASK or str(output["kind"]).endswith("of each pixel")
    return {"schema_version": 3, "task": "segment" if of_pixels else "classify", **_without_version(description)}


def _without_version(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name != "schema_version"}
