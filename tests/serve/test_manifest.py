"""The manifest of docs/serve.md fits the models of KServe and Kubernetes, and its container the command."""

import importlib.util
import re
from pathlib import Path

import pytest
from manifests import misfits

yaml = pytest.importorskip("yaml")
if importlib.util.find_spec("kserve") is None:
    pytest.skip("kserve is not installed: pip install 'keras-resnet-kit[serve]'", allow_module_level=True)

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


def block(language: str) -> str:
    """-> the block of the page in that language."""
    [content] = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return content


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
