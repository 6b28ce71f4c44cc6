"""The console command `keras-resnet`.

`--help` answers at once: neither this module nor a command's module imports Keras, NumPy or Pillow at its top.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from keras_resnet import __version__
from keras_resnet.cli.benchmark import benchmark
from keras_resnet.cli.data import data_app as data
from keras_resnet.cli.demo import demo
from keras_resnet.cli.evaluate import evaluate
from keras_resnet.cli.explain import explain
from keras_resnet.cli.export import export
from keras_resnet.cli.info import info
from keras_resnet.cli.interrupts import Interrupted, interruptible
from keras_resnet.cli.layout import layout
from keras_resnet.cli.list import list_networks
from keras_resnet.cli.predict import predict
from keras_resnet.cli.recipes import recipes
from keras_resnet.cli.serve import serve
from keras_resnet.cli.streams import drop_stdout, is_nameless, open_streams, tell, unwritten_output
from keras_resnet.cli.train import train
from keras_resnet.cli.verify import verify
from keras_resnet.errors import KerasResnetError, reason
from keras_resnet.limits import check_limits
from keras_resnet.optional import absence_explained
from keras_resnet.printable import printable, printable_lines
from keras_resnet.quiet import collect_rarely

FAULT = 70  # exit status for a fault of this package, EX_SOFTWARE of sysexits.h
TRACEBACK = "KERAS_RESNET_TRACEBACK"  # environment variable: print the traceback of a fault


class DataFirst(TyperGroup):
    """Commands in the order of the work, which begins with the data; Typer would show groups of commands last."""

    def invoke(self, context: Any) -> Any:
        """Runs a command. A mistake in its arguments repeats them, and a shell fills in names of files for `*`."""
        try:
            return super().invoke(context)
        except Exception as error:
            if hasattr(error, "format_message"):  # an error of Click, of which Typer has a copy of its own
                error.message = printable(error.message)  # type: ignore[attr-defined]
            raise

    def list_commands(self, context: Any) -> list[str]:
        """-> names of the commands, in the order of the help."""
        names = super().list_commands(context)
        return sorted(names, key=lambda name: name != "data")


app = typer.Typer(
    cls=DataFirst,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="ResNets for Keras 3 that you can train, trust and ship.",
)


class Command(NamedTuple):
    """One command, as the help shows it."""

    name: str
    run: Callable[..., None]
    group: str
    title: str
    example: str


COMMANDS = (
    Command(
        *("demo", demo, "Train", "Train, export and compare a small network."),
        "keras-resnet demo --out runs/demo",
    ),
    Command(
        *("list", list_networks, "Train", "List the networks and their published weights."),
        "keras-resnet list --compare",
    ),
    Command(
        *("recipes", recipes, "Train", "List the recipes, and copy one to edit it."),
        "keras-resnet recipes fine-tune --copy my.toml",
    ),
    Command(
        *("train", train, "Train", "Train a network by a recipe."),
        "keras-resnet train smoke --data images --out runs/smoke",
    ),
    Command(
        *("predict", predict, "Look", "Print the most probable classes of images."),
        "keras-resnet predict photo.jpg --model runs/smoke/model.keras --top 3",
    ),
    Command(
        *("explain", explain, "Look", "Show which parts of an image decide its class."),
        "keras-resnet explain photo.jpg --model runs/smoke/model.keras --out explained",
    ),
    Command(
        *("export", export, "Ship", "Write SavedModel, TFLite and ONNX files, compared with the model."),
        "keras-resnet export --model runs/smoke/model.keras --formats tflite-int8 --calibration photos "
        "--data images --out out",
    ),
    Command(
        *("verify", verify, "Ship", "Compare an exported file with its model again."),
        "keras-resnet verify out/model.onnx --model runs/smoke/model.keras",
    ),
    Command(
        *("info", info, "Ship", "Print the facts that a file holds about its network."),
        "keras-resnet info out/model.onnx",
    ),
    Command(
        *("serve", serve, "Ship", "Serve exported files over HTTP, with a page to try them."),
        "keras-resnet serve flowers=out/model.onnx",
    ),
    Command(
        *("layout", layout, "Ship", "Write exported files as other servers read them."),
        "keras-resnet layout triton flowers=out/model.onnx --out models",
    ),
    Command(
        *("evaluate", evaluate, "Measure", "Measure the accuracy on images with known classes or masks."),
        "keras-resnet evaluate out/model.onnx images --out evaluation",
    ),
    Command(
        *("benchmark", benchmark, "Measure", "Measure latency and memory of models and files, side by side."),
        "keras-resnet benchmark out/model.onnx out/model-int8.tflite",
    ),
)
app.add_typer(data, name="data", rich_help_panel="Data", short_help="Check a set of images, or pack it into shards.")
for command in COMMANDS:
    app.command(
        command.name,
        short_help=command.title,
        epilog=f"Example: {command.example}",
        rich_help_panel=command.group,
    )(command.run)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    check_limits()  # a wrong value is an error here, and not in a thread that decodes


def main(prepended: Sequence[str] = ()) -> None:
    """Runs the command line, with the arguments `prepended` before the user's.

    An error of this package or of the system is printed on stderr without a traceback, with exit status 1. Ctrl-C and
    SIGTERM end it with one line, too, and with exit status 130 or 143. Any other exception is a fault of this package:
    it is named in one line, with exit status 70, or with its traceback where the environment asks for it.
    """
    open_streams()
    collect_rarely()
    try:
        with interruptible(), absence_explained():
            try:
                app([*prepended, *sys.argv[1:]])
            except SystemExit:
                sys.stdout.flush()  # at exit, an error would be a traceback
                raise
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        drop_stdout()
        sys.exit(1)
    except (KerasResnetError, OSError) as error:
        unwritten = unwritten_output()
        tell(["error: " + unwritten] if unwritten and is_nameless(error) else _explained(error))
        sys.exit(1)
    except Interrupted as error:
        unwritten_output()
        tell(str(error).split("\n"))
        sys.exit(error.status)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            sys.excepthook = _show_traceback
            raise
        what = f"{type(error).__name__}: {reason(error)}"
        advice = f"Set the environment variable {TRACEBACK}=1 to see where it comes from, and report it"
        tell([f"error: this is a fault of keras-resnet: {what}. {advice}"])
        sys.exit(FAULT)


def _explained(error: Exception) -> list[str]:
    """Error -> lines of its message. The system's error about a working directory that is gone does not name it."""
    if isinstance(error, KerasResnetError):
        first, *others = error.args or ("",)
        return [f"error: {first}", *others]
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except FileNotFoundError:
            return [f"error: the current folder no longer exists: change to another one ({error})"]
    return [f"error: {error}"]


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints a traceback as Python does, except for characters that a terminal would obey."""
    print(printable_lines("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
