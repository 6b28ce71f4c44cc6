"""Versions of the software that makes files and measurements."""

import importlib.metadata
import platform

from keras_resnet import __version__

_PACKAGES = (
    *("numpy", "pillow", "keras", "tensorflow", "ai-edge-litert", "tflite-micro", "tf2onnx", "onnx", "onnxruntime"),
    "openvino",
)


def package_versions() -> dict[str, str]:
    """-> versions of this package, Python, and the installed packages that compute and convert."""
    found = {"keras-resnet-kit": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
