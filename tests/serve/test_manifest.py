"""The manifest of docs/serve.md fits the models of KServe and Kubernetes, and its container the command."""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keras_resnet.serve.kserve_import import import_kserve

yaml = pytest.importorskip("yaml")
if importlib.util.find_spec("kserve") is None:
    pytest.skip("kserve is not installed: pip install 'keras-resnet-kit[serve]'", allow_module_level=True)

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


def block(language: str) -> str:
    """-> the block of the page in that language."""
    [content] = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return content


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


def test_the_manifest_fits_the_models() -> None:
    manifest = yaml.safe_load(block("yaml"))
    assert list(misfits(manifest, "V1beta1InferenceService", "manifest")) == []
    manifest["spec"]["predictor"]["containers"][0]["port"] = 8080
    manifest["spec"]["predictor"]["minReplica"] = manifest["spec"]["predictor"].pop("minReplicas")
    manifest["spec"]["predictor"]["maxReplicas"] = "four"
    assert len(list(misfits(manifest, "V1beta1InferenceService", "manifest"))) == 3


def test_the_container_listens_where_the_manifest_asks() -> None:
    [container] = yaml.safe_load(block("yaml"))["spec"]["predictor"]["containers"]
    dockerfile = block("dockerfile")
    assert (container["name"], container["readinessProbe"]["httpGet"]["path"]) == (
        "kserve-container",
        "/v2/health/ready",
    )
    ports = {container["ports"][0]["containerPort"], container["readinessProbe"]["httpGet"]["port"]}
    assert ports == {8080} == {int(port) for port in re.findall(r"EXPOSE (\d+)", dockerfile)}
    assert re.findall(r"^USER (\w+)", dockerfile, re.MULTILINE) == ["1000"]
    assert '"--host", "0.0.0.0"' in dockerfile
