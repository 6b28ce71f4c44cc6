"""The console command in this process: as a user types it, but for the seconds in which TensorFlow starts."""

import contextlib
import io
import sys

import pytest

from keras_resnet.cli.main import main

ACCOUNT = ("data: ", "train: ", "val: ", "all: ", "left aside: ")  # starts of the lines that say what data was taken


def in_process(*arguments, run=main, account=False):
    """Arguments of `keras-resnet` -> exit status, lines on stdout, lines on stderr (without the account of data)."""
    out, err, typed = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["keras-resnet", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            run()
    finally:
        sys.argv = typed
    errors = [line for line in err.getvalue().splitlines() if account or not line.startswith(ACCOUNT)]
    return left.value.code or 0, out.getvalue().splitlines(), errors
