"""What `import keras_resnet` and `keras-resnet --help` cost: wall time of fresh processes, by turns.

python benchmarks/import_time.py --out benchmarks/results/import_time.json
"""

import statistics
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from shared import finish

from keras_resnet.measure.process import run_python
from keras_resnet.measure.turns import by_turns, ratio

KERAS, NETWORK = "import keras", "import keras_resnet, name ResNet50"
COMMANDS = {
    "python": ["-c", ""],
    KERAS: ["-c", "import keras"],
    "import keras_resnet": ["-c", "import keras_resnet"],
    NETWORK: ["-c", "import keras_resnet; keras_resnet.ResNet50"],
    "keras-resnet --help": ["-m", "keras_resnet.cli", "--help"],
}


def main(out: Annotated[Path, typer.Option()], repeats: Annotated[int, typer.Option(min=1)] = 11) -> None:
    """Measures each command `repeats` times in turn, after one uncounted round that fills the caches."""
    turns = by_turns({name: partial(seconds_of, command) for name, command in COMMANDS.items()}, repeats + 1)
    seconds = {name: times[1:] for name, times in turns.items()}
    results: dict[str, Any] = {
        name: {"median_s": statistics.median(times), "min_s": min(times), "max_s": max(times), "n": len(times)}
        for name, times in seconds.items()
    }
    results["ratio_to_keras"] = ratio(seconds[NETWORK], seconds[KERAS])["median"]
    finish(out, "import_time", {"repeats": repeats, "warmup": 1}, results)


def seconds_of(command: list[str]) -> float:
    return run_python(command).seconds


if __name__ == "__main__":
    typer.run(main)
