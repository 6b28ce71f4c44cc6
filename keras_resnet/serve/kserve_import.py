"""The import of KServe, which reads the command line of whatever program imports it."""

import sys
import warnings

from keras_resnet.optional import require


def import_kserve() -> None:
    """Imports KServe without this program's arguments: its module parses `sys.argv`, shortened options included.

    Raises:
        MissingDependencyError: KServe is not installed.
    """
    # FastAPI says it of a class that KServe answers with, once for each request.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    arguments = sys.argv
    sys.argv = sys.argv[:1]
    try:
        require("kserve", "serve")
    finally:
        sys.argv = arguments
