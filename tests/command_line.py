"""The console command in this process: as a user types it, but for the seconds in which TensorFlow starts."""

import contextlib
import io
import re
import sys

import pytest

from keras_resnet.cli.main import main

# Lines that state what data was taken, and how a model was read that states nothing about itself.
ACCOUNT = re.compile(
    r"(data|train|val|all|left aside): |.*: task \w+, \d+ (probabilities|logits|values|features), because "
)


def in_process(*arguments, run=main, account=False):
    """Arguments of `keras-resnet` -> exit status, lines on stdout, lines on stderr without the account."""
    out, err, typed = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["keras-resnet", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            run()
    finally:
        sys.argv = typed
    errors = [line for line in err.getvalue().splitlines() if account or not ACCOUNT.match(line)]
    return left.value.code or 0, out.getvalue().splitlines(), errors
