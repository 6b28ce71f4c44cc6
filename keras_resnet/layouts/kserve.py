"""Artifact -> InferenceService of KServe, for the servers that KServe brings: Triton and TensorFlow Serving."""

import json
import re

from keras_resnet.errors import ArgumentError
from keras_resnet.layouts.given import Given

SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # a part of the service's host name
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'\\]+")
_RUNTIMES = {
    "onnx": ("onnx", "v2", "kserve-tritonserver"),
    "saved_model": ("tensorflow", "v1", "kserve-tensorflow-serving"),
}


def check_service(given: Given) -> None:
    """Raises `ArgumentError` if the name or the address can't stand in a manifest."""
    if not SERVICE_NAME.fullmatch(given.name):
        raise ArgumentError(
            "the name of an InferenceService must begin with a small letter, and hold at most 63 small letters, digits "
            f"and hyphens. Received: {given.name}. Give a name before the path: flowers={given.artifact.path}"
        )
    if given.storage_uri is None or not _URI.fullmatch(given.storage_uri):
        raise ArgumentError(
            "kserve needs --storage-uri, the address to which you copy the folder of --out, such as "
            f"s3://bucket/models or pvc://volume/models. Received: {given.storage_uri}"
        )


def manifest(given: Given) -> dict[str, str]:
    """-> `NAME.yaml` for `kubectl apply`."""
    model_format, protocol, runtime = _RUNTIMES[given.kind]
    address = json.dumps(f"{str(given.storage_uri).rstrip('/')}/{given.name}")  # a JSON text is one of YAML
    text = f"""\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {given.name}
spec:
  predictor:
    model:
      modelFormat:
        name: {model_format}
      protocolVersion: {protocol}
      runtime: {runtime}
      storageUri: {address}
"""
    return {f"{given.name}.yaml": text}
