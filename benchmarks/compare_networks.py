"""The networks of `keras-resnet list --compare`: size, latency and memory of their TFLite files, float32, batch 1.

Ours through `keras_resnet.export`, folded; keras.applications' through TensorFlow's converter, with the batch fixed,
which spares it the arithmetic of shapes. Pixels go in: ours normalise, and those of theirs that have a preprocessing
layer. The weights are random, on which neither size nor speed depends. Each file is opened in a process of its own, on
the same number of threads; in each round every file has its turn.

Files that are there already are not made again. A whole run also writes the package's own copy of the record, from
which `keras-resnet list --compare` takes its figures.

    python benchmarks/compare_networks.py --out benchmarks/results/compare_networks.json
"""

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer
from shared import chosen, finish

from keras_resnet.benchmark.compare import Contender, compare
from keras_resnet.benchmark.networks import NETWORKS, OURS, RECORD, ROWS
from keras_resnet.benchmark.rivals import convert_keras_applications
from keras_resnet.export.cost import OPENER
from keras_resnet.whole_files import write_whole

NAME = "compare_networks"
THREADS = 2
SCALE = 0.2  # of a residual branch, whose own is zero at the start: it must not vanish, and the sum not grow


def main(
    out: Annotated[Path, typer.Option(help="Record to write.")],
    files: Annotated[Path, typer.Option(help="Folder for the TFLite files.")] = Path("runs", NAME),
    only: Annotated[str, typer.Option(help="Networks, with commas between them.")] = ",".join(NETWORKS),
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
) -> None:
    """Makes the files, measures them by turns, and prints and records the figures."""
    paths = {network: tflite_file(network, files) for network in chosen("--only", only, NETWORKS)}
    contenders = [
        Contender(name, OPENER, {"path": str(path), "threads": THREADS, "format_name": "tflite"}, "", path)
        for name, path in paths.items()
    ]
    compared = compare(contenders, threads=THREADS, rounds=rounds, tell=partial(print, flush=True))
    if compared.failures:
        raise SystemExit("\n".join(compared.failures.values()))
    results = {
        network: {
            "size_bytes": paths[network].stat().st_size,
            "memory_mb": result.opening.load_memory_mb,
            "latency": asdict(result.timings[1].latency),
        }
        for network, result in compared.results.items()
    }
    sizes = {row.network: row.size for row in ROWS}
    finish(out, NAME, {"threads": THREADS, "batch_size": 1, "rounds": rounds, "sizes": sizes}, results)
    if results.keys() == NETWORKS.keys():
        write_whole(RECORD, out.read_bytes())


def tflite_file(network: str, folder: Path) -> Path:
    """Network -> its file, made if it is not there."""
    path = folder / NETWORKS[network] / network / "model.tflite"
    if path.exists():
        return path
    import keras

    from keras_resnet.export import export
    from keras_resnet.models import BUILDERS

    print("making", path, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    if NETWORKS[network] == OURS:
        model = BUILDERS[network]()
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization) and not layer.gamma.numpy().any():
                layer.gamma.assign(keras.ops.full_like(layer.gamma, SCALE))
        export(model, path.parent, ["tflite"])
    else:
        convert_keras_applications(network, path)
    keras.backend.clear_session()
    return path


if __name__ == "__main__":
    typer.run(main)
