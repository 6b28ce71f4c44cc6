"""Manifests for Kubernetes against the generated models of KServe and Kubernetes."""

import importlib
import re
from collections.abc import Iterator
from typing import Any

from keras_resnet.serve.kserve_import import import_kserve


def misfits(value: Any, kind: str, place: str) -> Iterator[str]:
    """Part of a manifest, its type in the generated models of KServe and Kubernetes -> what does not fit."""
    import_kserve()
    if listed := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        parts = value if isinstance(value, list) else [None]
        for number, part in enumerate(parts):
            yield from misfits(part, listed[1], f"{place}[{number}]")
        return
    if kind.lower().startswith("dict"):
        if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
            yield f"{place} must be {kind}"
        return
    plain = {"str": str, "int": int, "bool": bool, "object": (str, int)}
    if kind in plain:
        if not isinstance(value, plain[kind]):
            yield f"{place} must be {kind}"
        return
    places = [importlib.import_module(module) for module in ("kserve", "kubernetes.client")]
    model = next(getattr(module, kind) for module in places if hasattr(module, kind))
    if not isinstance(value, dict):
        yield f"{place} must be a {kind}"
        return
    fields = {key: model.openapi_types[field] for field, key in model.attribute_map.items()}
    for key, part in value.items():
        if key not in fields:
            yield f"{place}.{key} is unknown to {kind}"
        else:
            yield from misfits(part, fields[key], f"{place}.{key}")
