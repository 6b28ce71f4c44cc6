"""Optional dependencies, imported where they are used. An error says how to install a missing one.

Two distributions carry this package. The runtime leaves out what only training and export need, and some extras.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from keras_resnet.errors import MissingDependencyError

KIT, RUNTIME = "keras-resnet-kit", "keras-resnet-runtime"  # names of the distributions
RUNTIME_EXTRAS = ("onnx", "tflite", "openvino", "detect", "heic", "sign", "serve", "plots")
LEFT_OUT = ("keras", "tensorflow", "h5py", "safetensors", "huggingface_hub")  # packages that the runtime leaves out
WRITERS = ("onnx", "tf2onnx")  # packages of the extra `onnx` that only writing needs, which the runtime leaves out too


def require(module: str, extra: str | None) -> Any:
    """Module name, extra that installs it (None: the package itself needs it) -> imported module.

    Raises:
        MissingDependencyError: The module is not installed.
    """
    package = module.partition(".")[0]
    try:
        with _no_telemetry() if package == "openvino" else contextlib.nullcontext():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is installed, but one of its own dependencies is missing
        raise _missing(package, extra) from error


def how_to_install(extra: str | None, package: str = "") -> str:
    """Extra, or None for what only the full package needs, a package of it -> the command that installs it here."""
    runtime = _is_installed(RUNTIME)
    if runtime and extra in RUNTIME_EXTRAS and package not in WRITERS:
        return f"pip install '{RUNTIME}[{extra}]'"
    full = KIT if extra is None else f"'{KIT}[{extra}]'"
    return f"pip install {full}" + (f" in another environment, without {RUNTIME}" if runtime else "")


@contextlib.contextmanager
def absence_explained() -> Iterator[None]:
    """In the block, the import of a package that the runtime leaves out fails with an error that says what to install.

    Raises:
        MissingDependencyError: Such a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in LEFT_OUT:
            raise
        raise _missing(package, None) from error


def _missing(package: str, extra: str | None) -> MissingDependencyError:
    command = how_to_install(extra, package)
    return MissingDependencyError(f"this needs the package {package!r}, which is not installed: {command}")


def _is_installed(distribution: str) -> bool:
    from importlib import metadata  # only where something is absent: its import takes 10 ms

    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """In the block, OpenVINO's telemetry looks as if it were not installed. Otherwise `import openvino` reports to
    Intel, by way of Google, that it was imported, unless the user has run `opt_in_out --opt_out`.
    """
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
    try:
        yield
    finally:
        del sys.modules[name]
