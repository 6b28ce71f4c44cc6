"""Wrong artifacts that are planted in every format: does `keras-resnet verify` refuse each one that costs accuracy?

A trained network is exported in all formats. Each fault changes a copy of one artifact as a buggy tool or an attacker
would, and seals it with a right hash and description. Its true effect is the top-1 that it costs on labelled images,
as the artifact's own reader meets it. `verify` must refuse every fault of half a point or more, and every good
artifact must pass.

    python checks/planted_faults.py --out benchmarks/results/planted_faults.json
    python checks/planted_faults.py --model run/model.keras --data val --images calibration --count 500
    python checks/planted_faults.py --model run/model.keras --data val --images calibration --seed 137 --count 1

Fault number n is drawn from the seed n alone, so that the last line repeats fault 137 of any run.
"""

import contextlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from faults import DESCRIPTION, EVERY, INTEGERS, NUMBERS, SAVED_MODEL, Copy, Fault, InapplicableError

from keras_resnet.export.formats import FORMATS
from keras_resnet.measure.record import write_record
from keras_resnet.quiet import quiet_stderr

HARMFUL_POINTS = 0.5  # a fault that costs as much must be refused
SLOW = {"tflite-int16x8": 8}  # format -> by how much fewer images its effect is measured on
FEWEST_LABELLED = 200
FIELDS = ("number", "kind", "format", "place", "seen_by", "effect_points", "changed_percent", "largest_change")
FULL_ROUND = 7  # a prime, by which the pairs of fault and format are gone through


def table() -> list[Fault]:
    """-> all kinds of faults."""
    import faults_onnx
    import faults_savedmodel
    import faults_tflite

    return [
        *DESCRIPTION,
        *NUMBERS,
        *INTEGERS,
        *faults_onnx.FAULTS,
        *faults_tflite.FAULTS,
        *faults_savedmodel.FAULTS,
    ]


def pairs_of(formats: tuple[str, ...], kinds: tuple[str, ...]) -> list[tuple[Fault, str]]:
    """-> each fault with each of its formats, in a fixed order in which formats and kinds alternate."""
    every = [(fault, name) for fault in table() for name in fault.formats]
    order = np.random.default_rng(0).permutation(len(every))
    pairs = [every[index] for index in order]
    return [(f, n) for f, n in pairs if (not formats or n in formats) and (not kinds or f.name in kinds)]


def opened_copy(path: Path, format: str, network: Any) -> Copy:
    if format in SAVED_MODEL:
        from faults_savedmodel import SavedModelCopy

        return SavedModelCopy(path, format, network)
    if format.startswith("onnx"):
        from faults_onnx import OnnxCopy

        return OnnxCopy(path, format, network)
    from faults_tflite import TfliteCopy

    return TfliteCopy(path, format, network)


def judged(path: Path, network: Any, images: str, contract: Any) -> list[str]:
    """Artifact, its network -> the checks of `verify` that it fails."""
    from keras_resnet.errors import KerasResnetError
    from keras_resnet.export.pipeline import examine_artifact

    try:
        report = examine_artifact(path, network, images=images, contract=contract)
    except KerasResnetError as error:
        return [f"refused: {str(error).replace(str(path), path.name)}"[:160]]
    return [check.name for check in report.failures]


def remember_the_model() -> None:
    """Computes the model's own side of `verify` once, the same for all faults; nothing of an artifact is kept."""
    from keras_resnet.export import pipeline

    for name in ("prepare", "ask"):
        setattr(pipeline, name, _remembered(getattr(pipeline, name)))


def _key(value: Any) -> Any:
    """Argument -> what tells it from others: pixels by their hash, a model by its identity."""
    if isinstance(value, np.ndarray):
        return hash(value.tobytes())
    if type(value).__module__.startswith("keras"):
        return id(value)
    return tuple(value) if isinstance(value, list) else value


def _remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    def once(*args: Any, **options: Any) -> Any:
        key = tuple(map(_key, (*args, *options.items())))
        if key not in known:
            known[key] = (args, function(*args, **options))  # `args` stay alive, so that no other has their identity
        return known[key][1]

    return once


# --- one fault ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ground:
    """The network, its good artifacts and the images on which faults are measured."""

    model: str
    artifacts: dict[str, Path]
    data: str
    images: str
    labelled: int


class Workbench:
    """Plants, measures and judges in one process."""

    def __init__(self, ground: Ground):
        from faults_effect import read_labelled

        from keras_resnet.loading import open_network

        self.ground = ground
        self.network, self.contract = open_network(ground.model, None)
        self.labelled = read_labelled(Path(ground.data), ground.labelled)
        self._good: dict[tuple[str, str], Any] = {}

    def do(self, number: int, fault: Fault, format: str, folder: Path) -> dict[str, Any]:
        """-> what came of one fault."""
        source = self.ground.artifacts[format]
        path = folder / source.name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
        start = time.perf_counter()
        row = {"number": number, "kind": fault.name, "group": fault.group, "format": format}
        try:
            copy = opened_copy(path, format, self.network)
            row["place"] = fault.plant(copy, np.random.default_rng(number))
            copy.finish()
            if copy.manifest_labels is not None:
                copy.write_manifest(source)
        except InapplicableError as error:
            return {**row, "outcome": "not applicable", "place": str(error)}
        planted = time.perf_counter()
        with quiet_stderr():
            row["failed"] = judged(path, self.network, self.ground.images, self.contract)
        judged_at = time.perf_counter()
        row |= self._effect(path, format, getattr(copy, "seen_by", None) or fault.seen_by)
        row["seconds"] = [
            round(b - a, 2) for a, b in ((start, planted), (planted, judged_at), (judged_at, time.perf_counter()))
        ]
        unchanged = row["largest_change"] == 0
        row["outcome"] = "refused" if row["failed"] else "changes nothing" if unchanged else "accepted"
        row["unchanged"] = unchanged
        return row

    def _effect(self, path: Path, format: str, seen_by: str) -> dict[str, Any]:
        from faults_effect import READERS

        labelled = self.labelled
        if format in SLOW:
            labelled = labelled.first(max(FEWEST_LABELLED, len(labelled.names) // SLOW[format]))
        if (format, seen_by) not in self._good:
            with quiet_stderr():
                self._good[format, seen_by] = READERS[seen_by](self.ground.artifacts[format], labelled)
        good = self._good[format, seen_by]
        row = {"seen_by": seen_by, "good_top1_percent": round(good.top1_percent, 2)}
        try:
            with quiet_stderr():
                seen = READERS[seen_by](path, labelled)
        except Exception as error:  # noqa: BLE001  a reader that fails gives no answer
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
            return {
                **row,
                "effect_points": good.top1_percent,
                "changed_percent": 100.0,
                "largest_change": None,
                "error": text,
            }
        same_shape = seen.answers.shape == good.answers.shape
        change = float(np.nanmax(np.abs(seen.answers - good.answers))) if same_shape else None
        if same_shape and not np.array_equal(np.isnan(seen.answers), np.isnan(good.answers)):
            change = None
        changed = 100 * float(np.mean([a != b for a, b in zip(seen.decided, good.decided, strict=False)]))
        effect = good.top1_percent - seen.top1_percent
        if seen_by == "features":  # no top-1: any other level is wrong
            spread = float(np.abs(good.answers).max())
            wrong = not same_shape or seen.decided != good.decided or change is None or change > 1e-3 * spread
            effect = 100.0 if wrong else 0.0
        if change == 0 and changed:
            change = None  # names have changed, numbers have not
        return {
            **row,
            "effect_points": round(effect, 3),
            "changed_percent": round(changed, 2),
            "largest_change": change if change is None else float(f"{change:.3g}"),
        }


def work(connection: Any, ground: Ground, formats: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    """Takes numbers of faults and answers with what came of them, until None."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with quiet_stderr():
        bench = Workbench(ground)
    remember_the_model()
    pairs = pairs_of(formats, kinds)
    while (number := connection.recv()) is not None:
        fault, format = pairs[number * FULL_ROUND % len(pairs)]
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = bench.do(number, fault, format, Path(folder))
            except Exception as error:  # noqa: BLE001  a fault of this script: reported, not counted
                row = {
                    "number": number,
                    "kind": fault.name,
                    "group": fault.group,
                    "format": format,
                    "outcome": "script failed",
                    "place": f"{type(error).__name__}: {error}"[:300],
                }
        connection.send(row)


class Worker:
    """A process that plants and judges; after a crash of a runtime there is a new one."""

    def __init__(self, ground: Ground, formats: tuple[str, ...], kinds: tuple[str, ...]):
        self._arguments = (ground, formats, kinds)
        self.number: int | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *self._arguments), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, number: int) -> None:
        self.number = number
        self.connection.send(number)

    def take(self) -> dict[str, Any]:
        number, self.number = self.number, None
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode
            self._start()
            _, formats, kinds = self._arguments
            pairs = pairs_of(formats, kinds)
            fault, format = pairs[number * FULL_ROUND % len(pairs)]  # type: ignore[operator]
            row = {"number": number, "kind": fault.name, "group": fault.group, "format": format}
            return {**row, "outcome": "crash", "place": f"exit status {code}"}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(None)
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


def rows_of(
    ground: Ground, numbers: list[int], jobs: int, formats: tuple[str, ...], kinds: tuple[str, ...], end_s: float | None
) -> Iterator[dict[str, Any]]:
    """-> what came of each fault, in the order in which they end; no new one is begun after `end_s` seconds."""
    from multiprocessing.connection import wait

    start, left = time.perf_counter(), list(numbers)[::-1]
    workers = [Worker(ground, formats, kinds) for _ in range(min(jobs, len(left)))]
    for worker in workers:
        worker.give(left.pop())
    while busy := [worker for worker in workers if worker.number is not None]:
        ready = wait([worker.connection for worker in busy])
        for worker in [worker for worker in busy if worker.connection in ready]:
            yield worker.take()
            if left and (end_s is None or time.perf_counter() - start < end_s):
                worker.give(left.pop())
    for worker in workers:
        worker.close()


# --- the ground ---------------------------------------------------------------------------------------------------


def make_demo(folder: Path) -> tuple[str, str, str]:
    """Trains the demo's network -> its file, the folder of labelled images, the folder of calibration images."""
    from keras_resnet.demo import digits, steps

    digits.write_digits(folder / "images", lambda step, done, total: None)
    from dataclasses import replace

    recipe = replace(digits.RECIPE, data=str(folder / "images" / "train"))
    steps.train_network(folder, recipe, lambda step, done, total: None)
    return demo_folders(folder)


def demo_folders(folder: Path) -> tuple[str, str, str]:
    return (
        str(folder / "training" / "model.keras"),
        str(folder / "images" / "held_out"),
        str(folder / "images" / "train"),
    )


def export_good(model: str, images: str, folder: Path, formats: tuple[str, ...]) -> dict[str, Path]:
    """Exports what is not there yet -> good artifacts by format."""
    from keras_resnet.export import CalibrationImages, export
    from keras_resnet.loading import open_network

    missing = [name for name in formats or EVERY if not (folder / FORMATS[name].file_name).exists()]
    if missing:
        network, contract = open_network(model, None)
        calibration = CalibrationImages(images, count=200)
        with quiet_stderr():
            export(network, folder, missing, calibration=calibration, contract=contract)
    return {name: folder / FORMATS[name].file_name for name in formats or EVERY}


# --- figures ------------------------------------------------------------------------------------------------------


def harmful(row: dict[str, Any]) -> bool:
    return row["outcome"] == "accepted" and row["effect_points"] >= HARMFUL_POINTS and row["group"] != "trigger"


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """-> the table of the goal by format, and of each kind the smallest effect that was refused."""
    by_format: dict[str, Counter[str]] = defaultdict(Counter)
    largest: dict[str, float] = defaultdict(float)
    kinds: dict[str, dict[str, Any]] = {}
    for row in rows:
        counts = by_format[row["format"]]
        counts["planted"] += row["outcome"] not in ("not applicable", "script failed")
        counts[row["outcome"]] += 1
        kind = kinds.setdefault(
            row["kind"], {"group": row["group"], "outcomes": Counter(), "smallest_refused_points": None}
        )
        kind["outcomes"][row["outcome"]] += 1
        if row["outcome"] == "accepted":
            counts["accepted, harmful" if harmful(row) else "accepted, harmless"] += 1
            largest[row["format"]] = max(largest[row["format"]], row["effect_points"])
        if row["outcome"] == "refused":
            seen = [v for v in (kind["smallest_refused_points"], max(row["effect_points"], 0.0)) if v is not None]
            kind["smallest_refused_points"] = min(seen)
    return {
        "formats": {
            name: {**dict(counts), "largest_accepted_points": round(largest[name], 2)}
            for name, counts in sorted(by_format.items())
        },
        "kinds": {name: {**kind, "outcomes": dict(kind["outcomes"])} for name, kind in sorted(kinds.items())},
        "accepted": [
            {k: row.get(k) for k in FIELDS}
            for row in sorted(rows, key=lambda row: -row.get("effect_points", 0))
            if row["outcome"] == "accepted"
        ],
    }


def show(found: dict[str, Any]) -> None:
    columns = ("planted", "changes nothing", "refused", "crash", "accepted, harmless", "accepted, harmful")
    print(f"{'format':16}" + "".join(f"{name:>20}" for name in columns) + f"{'largest accepted':>20}")
    for name, counts in found["formats"].items():
        cells = "".join(f"{counts.get(column, 0):>20}" for column in columns)
        print(f"{name:16}{cells}{counts['largest_accepted_points']:>20}")
    for row in found["accepted"]:
        what = f"{row['kind']}, {row['format']}: {row['place']} (--seed {row['number']})"
        print(f"accepted: {row['effect_points']:7.2f} points  {what}")


def main(
    out: Annotated[Path, typer.Option(help="File for the record.")],
    model: Annotated[str | None, typer.Option(help="A trained .keras file.", show_default="the demo's network")] = None,
    data: Annotated[str | None, typer.Option(help="Class folders of labelled images.")] = None,
    images: Annotated[str | None, typer.Option(help="Images for calibration and verification.")] = None,
    demo: Annotated[Path | None, typer.Option(help="Folder of an earlier run of the demo.")] = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="Folder of the good artifacts, which is filled as needed.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of faults.")] = 1000,
    labelled: Annotated[int, typer.Option(help="Number of labelled images.")] = 1000,
    seed: Annotated[int, typer.Option(help="Number of the first fault.")] = 0,
    formats: Annotated[list[str] | None, typer.Option(help="Only these formats.")] = None,
    kinds: Annotated[list[str] | None, typer.Option(help="Only these kinds.")] = None,
    minutes: Annotated[float | None, typer.Option(help="No new fault is begun later.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
    good: Annotated[int, typer.Option(help="Number of good artifacts of random networks and options.")] = 0,
    rows: Annotated[Path | None, typer.Option(help="File for one JSON line of each fault.")] = None,
) -> None:
    """Plants, measures, judges; exit status 1 if a harmful fault is accepted or a good artifact is refused."""
    chosen, only = tuple(formats or ()), tuple(kinds or ())
    with tempfile.TemporaryDirectory() as scratch:
        if demo is not None:
            model, data, images = demo_folders(demo)
        elif model is None:
            model, data, images = make_demo(Path(scratch) / "demo")
        if data is None or images is None:
            raise typer.BadParameter("--model needs --data and --images")
        paths = export_good(model, images, artifacts or Path(scratch) / "good", chosen)
        ground = Ground(model, paths, data, images, labelled)
        start, made = time.perf_counter(), []
        numbers = list(range(seed, seed + count))
        for row in rows_of(ground, numbers, jobs, chosen, only, None if minutes is None else 60 * minutes):
            made.append(row)
            if rows is not None:
                with rows.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
        seconds = time.perf_counter() - start
        refused_good: list[dict[str, Any]] = []
        found_good: dict[str, Any] = {}
        if good:
            from good_artifacts import examine_good

            found_good = examine_good(good, seed, jobs, chosen)
            refused_good = found_good["refused"]
    found = figures(made)
    show(found)
    print(f"{len(made)} faults of {len(found['kinds'])} kinds in {seconds:.0f} s")
    if good:
        print(f"{found_good['examined']} good artifacts, {len(refused_good)} refused", *refused_good[:20], sep="\n    ")
    settings = {"count": count, "seed": seed, "labelled": labelled, "good": good, "model": Path(model).name}
    write_record(out, "planted_faults", settings, {**found, "good": found_good, "seconds": round(seconds)})
    sys.exit(bool(refused_good) or any(map(harmful, made)))


if __name__ == "__main__":
    typer.run(main)
