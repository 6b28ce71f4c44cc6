"""The console command `keras-resnet`.

`--help` answers at once: neither this module nor a command's module imports Keras, NumPy or Pillow at its top.
"""

import io
import os
import sys
from collections.abc import Sequence

import typer

from keras_resnet import __version__
from keras_resnet.cli.benchmark import benchmark
from keras_resnet.cli.data import data_app as data
from keras_resnet.cli.demo import demo
from keras_resnet.cli.evaluate import evaluate
from keras_resnet.cli.explain import explain
from keras_resnet.cli.export import export
from keras_resnet.cli.info import info
from keras_resnet.cli.list import list_networks
from keras_resnet.cli.predict import predict
from keras_resnet.cli.train import train
from keras_resnet.cli.verify import verify
from keras_resnet.errors import KerasResnetError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="ResNets for Keras 3 that you can train, trust and ship.",
)
app.command("list")(list_networks)
app.command("train")(train)
app.command("predict")(predict)
app.command("evaluate")(evaluate)
app.command("explain")(explain)
app.command("export")(export)
app.command("info")(info)
app.command("verify")(verify)
app.command("benchmark")(benchmark)
app.command("demo")(demo)
app.add_typer(data, name="data")


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(prepended: Sequence[str] = ()) -> None:
    """Runs the command line, with the arguments `prepended` before the user's.

    An error of this package or of the system is printed on stderr without a traceback, with exit status 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can't show is no error
    try:
        app([*prepended, *sys.argv[1:]])
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KerasResnetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
