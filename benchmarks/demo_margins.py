"""Top-1 that the demo reaches: by seed, and by the instruction sets that TensorFlow's oneDNN may use.

Training on another CPU is training with other sums: the last bit differs, and after some hundred steps everything does.
`ONEDNN_MAX_CPU_ISA` makes one machine stand for several. The runtimes of the int8 files have no such switch.

    python benchmarks/demo_margins.py --out benchmarks/results/demo_margins.json
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.measure.record import write_record
from keras_resnet.quiet import import_keras

FORMATS = ("tflite-int8", "onnx-int8")

# What the environment says, by the name of the row.
CPUS = {
    "default": {},
    "AVX512_CORE_BF16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "AVX512_CORE_VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX512_CORE": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of each CPU, from 0.")] = 5,
    turn: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Runs the demo's training and its two int8 exports for each CPU and seed, and prints top-1 in percent."""
    if turn:
        for seed in range(seeds):
            print(json.dumps(measure(seed)), flush=True)
        return
    results = {}
    print("CPU               seed  model  " + "  ".join(FORMATS))
    for name, environment in CPUS.items():
        command = [sys.executable, __file__, "--turn", "--seeds", str(seeds)]
        process = subprocess.run(
            command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
        )
        results[name] = [json.loads(line) for line in process.stdout.splitlines()]
        for seed, row in enumerate(results[name]):
            print(f"{name:16}  {seed:4}  {row['model']:.2f}  " + "  ".join(f"{row[each]:.2f}" for each in FORMATS))
    if out is not None:
        from keras_resnet.demo import HELD_OUT_DIGITS

        write_record(out, "demo_margins", {"seeds": seeds, "held_out": HELD_OUT_DIGITS, "cpus": CPUS}, results)


def measure(seed: int) -> dict[str, float]:
    """Seed -> top-1 in percent of the trained network and of its int8 files."""
    import_keras()
    from keras_resnet.demo import RECIPE, digits_alone

    with tempfile.TemporaryDirectory() as folder:
        rows = digits_alone(Path(folder), lambda step, done, total: None, replace(RECIPE, seed=seed), FORMATS)[2]
    return {"model": rows[0].score_percent} | {row.artifact: row.score_percent for row in rows[1:]}


if __name__ == "__main__":
    typer.run(main)
