"""The file `model.xml` of an OpenVINO folder, read as XML: OpenVINO need not be installed, and nothing is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from keras_resnet.errors import ExportError
from keras_resnet.plain_xml import read_xml

LARGEST_BYTES = 100_000_000  # a graph without its weights; a ResNet-18 in int8 has 0.3 MB
SECTION = "keras_resnet"  # part of `rt_info` with our properties


def set_properties(model: Any, properties: Mapping[str, str]) -> None:
    """Writes properties into OpenVINO's model, which saves them in `model.xml`."""
    for name, value in properties.items():
        model.set_rt_info(value, [SECTION, name])


def read_properties(path: Path) -> dict[str, str]:
    """File `model.xml` -> its properties.

    Raises:
        ExportError: The file can't be read.
    """
    section = read_ir(path).find(f"rt_info/{SECTION}")
    return {} if section is None else {each.tag: each.get("value", "") for each in section}


def read_ir(path: Path) -> Element:
    """File `model.xml` -> its first element.

    Raises:
        ExportError: The file can't be read, or is no XML.
    """
    try:
        return read_xml(path, LARGEST_BYTES)
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
