"""Top-1 that the demo reaches: by seed, and by the instruction sets that TensorFlow's oneDNN may use.

Training on another CPU is training with other sums: the last bit differs, and after some hundred steps everything does.
`ONEDNN_MAX_CPU_ISA` makes one machine stand for several. The runtimes of the int8 files have no such switch.

    python benchmarks/demo_margins.py --out benchmarks/results/demo_margins.json
"""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from shared import finish

from keras_resnet.measure.process import in_a_process
from keras_resnet.measure.turns import by_turns
from keras_resnet.quiet import import_keras

FORMATS = ("tflite-int8", "onnx-int8")
# What the environment says, by the name of the row.
CPUS = {
    "default": {},
    **{isa: {"ONEDNN_MAX_CPU_ISA": isa} for isa in ("AVX512_CORE_BF16", "AVX512_CORE_VNNI", "AVX512_CORE", "AVX2")},
    "without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of each CPU, from 0.")] = 5,
) -> None:
    """Runs the demo's training and its two int8 exports for each CPU and seed, and prints top-1 in percent."""
    from keras_resnet.demo.digits import HELD_OUT_DIGITS

    job = partial(in_a_process, "demo_margins:measure", {"seeds": seeds})
    turns = by_turns({name: partial(job, environment=environment) for name, environment in CPUS.items()}, 1)
    settings = {"seeds": seeds, "held_out": HELD_OUT_DIGITS, "cpus": CPUS}
    finish(out, "demo_margins", settings, {name: rows for name, [rows] in turns.items()})


def measure(seeds: int) -> list[dict[str, float]]:
    """Number of seeds -> for each, top-1 in percent of the trained network and of its int8 files."""
    import_keras()
    from keras_resnet.demo.digits import RECIPE, make

    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows = make(Path(folder), lambda step, done, total: None, replace(RECIPE, seed=seed), FORMATS)[2]
        found.append({"model": rows[0].score_percent} | {row.artifact: row.score_percent for row in rows[1:]})
    return found


if __name__ == "__main__":
    typer.run(main)
