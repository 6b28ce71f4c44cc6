"""What `import keras_resnet` and `keras-resnet --help` cost: wall time of fresh processes, interleaved.

python benchmarks/import_time.py --out benchmarks/results/import_time.json
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.measure.record import write_record

COMMANDS = {
    "python": "",
    "import keras": "import keras",
    "import keras_resnet": "import keras_resnet",
    "import keras_resnet, name ResNet50": "import keras_resnet; keras_resnet.ResNet50",
    "keras-resnet --help": "import sys; sys.argv = ['keras-resnet', '--help']; "
    "from keras_resnet.cli.main import main; main()",
}


def main(out: Annotated[Path, typer.Option()], repeats: Annotated[int, typer.Option(min=1)] = 11) -> None:
    """Measures each command `repeats` times in turn, after one uncounted round that fills the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round_index in range(repeats + 1):
        for name, code in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            if round_index > 0:
                seconds[name].append(time.perf_counter() - start)

    results = {
        name: {"median_s": statistics.median(times), "min_s": min(times), "max_s": max(times), "n": len(times)}
        for name, times in seconds.items()
    }
    pairs = zip(seconds["import keras_resnet, name ResNet50"], seconds["import keras"], strict=True)
    ratio = statistics.median(ours / keras for ours, keras in pairs)
    write_record(out, "import_time", {"repeats": repeats, "warmup": 1}, {**results, "ratio_to_keras": ratio})
    for name, result in results.items():
        print(f"{name:40} {result['median_s']:.3f} s ({result['min_s']:.3f} to {result['max_s']:.3f})")
    print(f"naming ResNet50 costs {ratio:.3f} of import keras (median over pairs)")


if __name__ == "__main__":
    typer.run(main)
