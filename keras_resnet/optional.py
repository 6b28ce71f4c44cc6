"""Optional dependencies, imported where they are used. An error names the extra that installs a missing one."""

import importlib
from typing import Any

from keras_resnet.errors import MissingDependencyError


def require(module: str, extra: str) -> Any:
    """Module name, extra that installs it -> imported module.

    Raises:
        MissingDependencyError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is installed, but one of its own dependencies is missing
        raise MissingDependencyError(
            f"this needs the package {package!r}, which is not installed: pip install 'keras-resnet-kit[{extra}]'"
        ) from error
