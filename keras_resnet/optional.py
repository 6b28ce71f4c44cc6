"""Optional dependencies, imported where they are used. An error names the extra that installs a missing one."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from keras_resnet.errors import MissingDependencyError


def require(module: str, extra: str) -> Any:
    """Module name, extra that installs it -> imported module.

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
        raise MissingDependencyError(
            f"this needs the package {package!r}, which is not installed: pip install 'keras-resnet-kit[{extra}]'"
        ) from error


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
