"""Commands that are killed at random moments and run again: what is lost, and whether the end is the uninterrupted one.

    python checks/kills.py --count 1000 --workers 2

Every command is a fork of one process that has imported everything, on networks of a few channels. Half of the kills
come at moments spread evenly over the run, and half within 50 ms of a change in the folder that the command writes. A
command that was killed runs again, as a user would run it, and may be killed again; in the end it runs to its end.

After each kill, every file under a final name must be whole, what was there before must still be there or have been
replaced by its successor, and no progress may be lost. At the end, the result must be equal to that of a run that
nothing interrupted: of training, the weights, the optimizer and the history, to the bit.
"""

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import safetensors
import typer
from preloaded import (
    Command,
    Inputs,
    damage,
    files_under,
    is_temporary,
    preload,
    start,
    train_arguments,
)

from keras_resnet.measure.record import write_record

RECORD = Path(__file__).parents[1] / "benchmarks" / "results" / "kills.json"
LONGEST_S = 300
AGAIN = 0.75  # share of the kills after which the command is killed once more
NEAR_S = 0.05  # after a change in the folder, for every other kill
POLL_S = 0.002
TIMES = {"images_per_second", "seconds", "created", "written", "date", "environment", "versions"}

Fingerprint = dict[str, str]  # file or tensor -> hash


@dataclass(frozen=True)
class Work:
    """A command, and what its result is."""

    name: str
    arguments: Callable[[Path], list[Any]]  # folder or file that it writes
    result: Callable[[Path], Fingerprint]  # of a finished command
    older: Callable[[], Path] | None = None  # result of an earlier command, which it replaces
    again: Callable[[Path], list[Any]] | None = None  # arguments after a kill, if they are others
    weight: int = 1  # share of the kills


@dataclass
class Kill:
    """One SIGKILL and what it left."""

    command: str
    near_a_write: bool
    after_s: float
    share: float  # of the time of an uninterrupted run
    temporary_files: int


@dataclass
class Chain:
    """Kills of one command until it ran to its end."""

    command: str
    kills: list[Kill]
    lost: list[str]
    not_resumable: list[str]
    differing: list[str]
    left: list[str]  # temporary files after the end
    seconds: float


def main(
    count: Annotated[int, typer.Option(min=1, help="Number of kills.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the moments.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Number of commands that run at a time.")] = 2,
    minutes: Annotated[float, typer.Option(help="Longest time.")] = 60.0,
    command: Annotated[list[str] | None, typer.Option(help="Only this command; several times: these.")] = None,
    by: Annotated[
        str,
        typer.Option(
            help="Signals, comma-separated, of which each kill takes one at random: KILL, INT, TERM. After INT and "
            "TERM, a command must also end with one line and clean up."
        ),
    ] = "KILL",
    out: Annotated[Path, typer.Option(help="JSON record.")] = RECORD,
) -> None:
    """Kills commands until there were as many kills as asked for, and prints a table by command."""
    signals = [signal.Signals[f"SIG{name}"] for name in by.split(",")]
    preload()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        works = [each for each in make_works(Inputs(work)) if command is None or each.name in command]
        whole = {each.name: uninterrupted(each, work) for each in works}
        started = time.monotonic()
        print(f"inputs and uninterrupted runs: {started - begin:.0f} s", flush=True)
        share = -(-count // workers)
        processes = []
        for worker in range(workers):
            if not (process := os.fork()):
                status = 1
                try:
                    place, end = work / f"worker {worker}", started + 60 * minutes
                    repeat(works, whole, place, share, seed + worker, end, signals)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                    raise
                finally:
                    os._exit(status)
            processes.append(process)
        failed = [os.waitpid(process, 0)[1] for process in processes]
        lines = [line for file in sorted(work.glob("worker*.jsonl")) for line in file.read_text().splitlines()]
        seconds = time.monotonic() - started
    chains = [
        Chain(**{**fields, "kills": [Kill(**kill) for kill in fields["kills"]]}) for fields in map(json.loads, lines)
    ]
    wrong = report(chains, seconds)
    record(out, chains, {"count": count, "seed": seed, "workers": workers, "signals": by}, seconds)
    sys.exit(bool(wrong or any(failed)))


def report(chains: list[Chain], seconds: float) -> int:
    """Prints the table -> number of things that are wrong."""
    heads = ("command", "kills", "near writes", "quarters of the run", "lost", "not resumable", "differing", "left")
    print("  ".join(heads))
    wrong = 0
    for name in dict.fromkeys(chain.command for chain in chains):
        own = [chain for chain in chains if chain.command == name]
        kills = [kill for chain in own for kill in chain.kills]
        quarters = Counter(min(3, int(4 * kill.share)) for kill in kills)
        figures = [sum(len(getattr(chain, kind)) for chain in own) for kind in ("lost", "not_resumable", "differing")]
        wrong += sum(figures)
        spread = "/".join(str(quarters[quarter]) for quarter in range(4))
        near, left = sum(kill.near_a_write for kill in kills), sum(len(chain.left) for chain in own)
        print(f"{name:16} {len(kills):5} {near:5}  {spread:16} {figures[0]:4} {figures[1]:4} {figures[2]:4} {left:4}")
        for chain in own:
            for kind in ("lost", "not_resumable", "differing"):
                for sentence in getattr(chain, kind):
                    print(f"  {kind}: {sentence}")
    total = sum(len(chain.kills) for chain in chains)
    print(f"{total} kills in {seconds:.0f} s, {seconds / max(total, 1):.2f} s a kill; {wrong} things are wrong")
    return wrong


def record(out: Path, chains: list[Chain], settings: dict[str, Any], seconds: float) -> None:
    kinds = ("lost", "not_resumable", "differing", "left")
    by_command = {
        name: {
            "kills": sum(len(chain.kills) for chain in chains if chain.command == name),
            "runs": sum(chain.command == name for chain in chains),
            "kills_near_a_write": sum(k.near_a_write for chain in chains if chain.command == name for k in chain.kills),
            "moments": [round(k.share, 2) for chain in chains if chain.command == name for k in chain.kills],
            **{
                kind: [each for chain in chains if chain.command == name for each in getattr(chain, kind)]
                for kind in kinds
            },
        }
        for name in dict.fromkeys(chain.command for chain in chains)
    }
    total = sum(len(chain.kills) for chain in chains)
    write_record(out, "kills", settings, {"kills": total, "seconds": round(seconds), "commands": by_command})


# --- one worker ---------------------------------------------------------------------------------------------------


def repeat(
    works: list[Work],
    whole: dict[str, "Whole"],
    place: Path,
    count: int,
    seed: int,
    end: float,
    signals: list[signal.Signals],
) -> None:
    """Chains of kills until there are `count`, each noted as a line of JSON."""
    moments, done, kills = random.Random(seed), Counter[str](), 0
    with place.with_suffix(".jsonl").open("w", buffering=1) as notes:
        while kills < count and time.monotonic() < end:
            work = min(works, key=lambda each: done[each.name] / each.weight)  # the one that is behind its share
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            chain = interrupt(work, whole[work.name], place, moments, count - kills, signals)
            kills += len(chain.kills)
            done[work.name] += max(1, len(chain.kills))
            notes.write(json.dumps(asdict(chain)) + "\n")


@dataclass(frozen=True)
class Whole:
    """The uninterrupted run of a command."""

    seconds: float
    changes: int  # in the folder, as polling saw them
    result: Fingerprint
    files: dict[str, set[str]]  # hashes that each file may have, older and newer; only where a command repeats bits


def uninterrupted(work: Work, folder: Path) -> Whole:
    top = folder / "whole" / work.name
    top.mkdir(parents=True)
    target = fresh(work, top)
    older = hashes(top)
    begin, watch = time.monotonic(), Watcher(top)
    command = start(work.arguments(target), top.parent / "said", environment=temporary(top.parent))
    while (status := command.status()) is None:
        watch.look()
        time.sleep(POLL_S)
    if status:
        raise RuntimeError(f"{work.name}: exit status {status}\n{command.stderr[-2000:]}")
    seconds = time.monotonic() - begin
    allowed: dict[str, set[str]] = {name: {value} for name, value in older.items()}
    for name, value in hashes(top).items():
        allowed.setdefault(name, set()).add(value)
    print(f"{work.name:16} {seconds:5.1f} s, {watch.changes} changes", flush=True)
    return Whole(seconds, watch.changes, work.result(target), allowed)


def fresh(work: Work, top: Path) -> Path:
    """-> folder or file to write, with what an earlier command left there."""
    target = top / "out"
    if work.older is not None:
        older = work.older()
        (shutil.copytree if older.is_dir() else shutil.copyfile)(older, target)
    return target


def temporary(folder: Path) -> dict[str, str]:
    """-> environment with a folder of its own for temporary files."""
    place = folder / "temporary"
    place.mkdir(exist_ok=True)
    return {"TMPDIR": str(place)}


def interrupt(
    work: Work, whole: Whole, place: Path, moments: random.Random, most: int, signals: list[signal.Signals]
) -> Chain:
    """Kills the command at least once, then runs it to its end, and looks at what is there after each."""
    begin, top = time.monotonic(), place / "top"
    top.mkdir()
    target = fresh(work, top)
    chain = Chain(work.name, [], [], [], [], [], 0.0)
    killed, again = False, True
    while again and len(chain.kills) < most:
        before, standing, left = hashes(top), progress_of(target), temporary_files(top)
        arguments = next_arguments(work, target, killed)
        command, by = start(arguments, place / "said", environment=temporary(place)), moments.choice(signals)
        kill = kill_at_random(work, whole, command, top, moments, by)
        if kill is None:  # it ended before
            check_end(command, chain, arguments)
            break
        chain.kills.append(kill)
        kill.temporary_files = len(temporary_files(top))
        chain.lost += check_files(top, before, whole) + check_progress(target, standing)
        if by != signal.SIGKILL:
            chain.lost += check_manners(command, by, temporary_files(top) - left)
        killed = True
        again = moments.random() < AGAIN
    else:
        finish(work, target, place, chain)
    if not (chain.lost or chain.not_resumable):
        found = work.result(target)
        odd = sorted(name for name in found.keys() | whole.result.keys() if found.get(name) != whole.result.get(name))
        if odd:
            chain.differing.append(f"{work.name}: {len(odd)} of {len(whole.result)} parts differ, first {odd[:3]}")
    chain.left = sorted(temporary_files(top))
    chain.seconds = time.monotonic() - begin
    return chain


def finish(work: Work, target: Path, place: Path, chain: Chain) -> None:
    arguments = next_arguments(work, target, True)
    command = start(arguments, place / "said", environment=temporary(place))
    check_end(command, chain, arguments)


def next_arguments(work: Work, target: Path, killed: bool) -> list[Any]:
    return (work.again if killed and work.again is not None else work.arguments)(target)


def check_end(command: Command, chain: Chain, arguments: list[Any]) -> None:
    if status := command.wait(LONGEST_S):
        said = command.stderr.strip().splitlines() or ["no word"]
        chain.not_resumable.append(f"exit status {status} of {' '.join(map(str, arguments))}: {said[-1][:300]}")


def kill_at_random(
    work: Work, whole: Whole, command: Command, top: Path, moments: random.Random, by: signal.Signals
) -> Kill | None:
    """Waits for a moment and kills the command -> the kill; None: the command ended before."""
    begin, near = time.monotonic(), bool(moments.getrandbits(1)) and whole.changes > 0
    watch = Watcher(top)
    changes = moments.randint(1, whole.changes) if near else 0
    moment = moments.uniform(0, NEAR_S if near else whole.seconds)
    due = None if near else begin + moment
    while command.status() is None:
        if due is None:
            watch.look()
            if watch.changes >= changes:
                due = time.monotonic() + moment
        elif time.monotonic() >= due:
            os.kill(command.process, by)
            if command.wait(LONGEST_S) == 0:
                return None
            after_s = time.monotonic() - begin
            return Kill(work.name, near, round(after_s, 3), min(1.0, round(after_s / whole.seconds, 3)), 0)
        time.sleep(POLL_S)
    return None


class Watcher:
    """Counts the changes of a folder: files that appear, grow, get another name or go."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.changes = folder, 0
        self.seen = self._state()

    def look(self) -> None:
        state = self._state()
        if state != self.seen:
            self.changes += 1
            self.seen = state

    def _state(self) -> frozenset[tuple[str, int, int]]:
        found = set()
        for file in files_under(self.folder):
            try:
                facts = file.lstat()
            except OSError:
                continue
            found.add((str(file), facts.st_size, facts.st_ino))
        return frozenset(found)


# --- what must hold after a kill ----------------------------------------------------------------------------------


def hashes(folder: Path) -> dict[str, str]:
    """Folder -> hash of each file under a final name."""
    return {
        str(file.relative_to(folder)): digest(file.read_bytes())
        for file in files_under(folder)
        if not is_temporary(file, folder)
    }


def temporary_files(folder: Path) -> set[str]:
    """Folder -> temporary files in it."""
    return {str(file.relative_to(folder)) for file in files_under(folder) if is_temporary(file, folder)}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check_files(top: Path, before: dict[str, str], whole: Whole) -> list[str]:
    """Every file under a final name is whole, and none is gone that was there before, except for old checkpoints."""
    now = hashes(top)
    wrong = [f"{name}: {why}" for name in now if (why := damage(top / name))]
    for name in before.keys() - now.keys():
        aside = top / name.replace("saved_model/", "saved_model.replaced/")
        if not name.endswith(".safetensors") and not aside.exists():
            wrong.append(f"{name} is gone")
    for name in now:
        repeats = name.endswith((".tfrecord", ".onnx", ".tflite"))  # the same bytes each time
        if repeats and now[name] not in whole.files.get(name, {now[name]}):
            wrong.append(f"{name} is neither the older nor the newer file")
    return wrong


def progress_of(target: Path) -> int:
    """Run directory -> step of its newest checkpoint; -1: there is none."""
    return max((int(path.stem[5:]) for path in target.glob("checkpoints/step-*.safetensors")), default=-1)


def check_progress(target: Path, before: int) -> list[str]:
    now = progress_of(target)
    return [f"the newest checkpoint was of step {before}, and is of step {now}"] if now < before else []


def check_manners(command: Command, by: signal.Signals, left: set[str]) -> list[str]:
    """After a signal that can be handled: exit status, no traceback, one line, no process and no file that is left.

    A signal that comes before the command takes signals, or after its end, ends the process without a line.
    """
    wrong: list[str] = []
    said = command.stderr + command.stdout
    if command.ended == -by and not command.stderr:
        return wrong
    if command.ended != 128 + by:
        wrong.append(f"exit status {command.ended}: {said.strip().splitlines()[-1:]}")
    if "Traceback" in said or len([line for line in said.splitlines() if line.startswith(("interr", "termin"))]) != 1:
        wrong.append(f"it says {said[-600:]!r}")
    # `data pack` needs its plan and the parts of its index.
    wrong += [f"{name} stays" for name in sorted(left) if not name.endswith((".plan.json", ".npz"))]
    try:
        os.killpg(command.process, 0)
        wrong.append("a process of it is left")
    except ProcessLookupError:
        pass
    return wrong


# --- results ------------------------------------------------------------------------------------------------------


def trained(run: Path) -> Fingerprint:
    """Finished run -> hashes of all tensors of its checkpoint and of its networks, and of its history."""
    newest = max((run / "checkpoints").glob("step-*.safetensors"))
    found = {}
    with safetensors.safe_open(newest, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118  it is no mapping
            found[f"{newest.name} {name}"] = digest(file.get_tensor(name).tobytes())
    for name in ("model.keras", "model-last.keras"):
        with (
            zipfile.ZipFile(run / name) as archive,
            archive.open("model.weights.h5") as member,
            h5py.File(member) as file,
        ):
            file.visititems(lambda key, item, name=name: found.update(tensor_of(f"{name} {key}", item)))
    with (run / "history.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            kept = {key: value for key, value in row.items() if key not in TIMES}
            found[f"epoch {row['epoch']}"] = digest(json.dumps(kept).encode())
    for name in ("recipe.toml", "data.json", "environment.json", "curves.png"):
        found[name] = "there" if (run / name).is_file() else "missing"
    return found


def tensor_of(name: str, item: Any) -> Fingerprint:
    return {name: digest(np.asarray(item).tobytes())} if isinstance(item, h5py.Dataset) else {}


def packed(folder: Path) -> Fingerprint:
    """Packed set -> hash of each file; of the index, a zip file with times in it, of each array."""
    found = {name: value for name, value in hashes(folder).items() if name != "index.npz"}
    with np.load(folder / "index.npz") as index:
        return found | {f"index.npz {name}": digest(index[name].tobytes()) for name in index.files}


def exported(folder: Path) -> Fingerprint:
    """Folder of artifacts -> hashes of what a user relies on: the files of float formats, weights, entries."""
    found = {}
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["artifacts"].items():
        path = folder / entry["file"]
        found[f"{name} as recorded"] = "yes" if recorded_hash(path) == entry["sha256"] else "no"
        found[f"{name} verified"] = "yes" if entry["verification"] else "no"  # its last digits differ by run
        if path.is_file():
            found[name] = digest(path.read_bytes())
        else:
            for file in path.glob("variables/*.data-*"):
                found[f"{name} {file.name}"] = digest(file.read_bytes())
    return found


def recorded_hash(path: Path) -> str:
    from keras_resnet.export.manifest import artifact_sha256

    return artifact_sha256(path)


def plain_files(place: Path) -> Fingerprint:
    """File or folder -> hash of each file; JSON without what tells of times and versions."""
    found = {}
    for file in [place] if place.is_file() else sorted(files_under(place)):
        if is_temporary(file, place.parent):
            continue
        content = file.read_bytes()
        if file.suffix == ".json":
            content = json.dumps(without_times(json.loads(content)), sort_keys=True).encode()
        found[file.name] = digest(content)
    return found


def without_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: without_times(part) for key, part in value.items() if key not in TIMES}
    return [without_times(part) for part in value] if isinstance(value, list) else value


# --- the commands -------------------------------------------------------------------------------------------------


def make_works(inputs: Inputs) -> list[Work]:
    """-> the commands."""
    data = inputs.data

    def training(task: str, source: str, precision: str) -> Callable[[Path], list[Any]]:
        return lambda out: [*train_arguments(task, data / source, precision=precision), "--out", out]

    def on_shards(out: Path) -> list[Any]:
        return [*train_arguments("classify", inputs.shards), "--out", out]

    def resumed(first: Callable[[Path], list[Any]]) -> Callable[[Path], list[Any]]:
        return lambda out: ["train", "--resume", out] if (out / "recipe.toml").exists() else first(out)

    def export(formats: str, *more: str) -> Callable[[Path], list[Any]]:
        return lambda out: [
            *("export", "--model", inputs.run / "model.keras", "--formats", formats, "--out", out),
            *more,
        ]

    def without_overwrite(out: Path) -> list[Any]:
        """After a kill, the same command; with --overwrite where an artifact has its name already."""
        there = [name for name in ("model.tflite", "model.onnx") if (out / name).exists()]
        return export("tflite,onnx", *(["--overwrite"] if there else []))(out)

    def evaluate(out: Path) -> list[Any]:
        return ["evaluate", inputs.artifact, data / "arrays.npz", "--out", out]

    def pictures(out: Path) -> list[Any]:
        return ["predict", data / "scenes/val/images", "--model", inputs.scenes / "model.keras", "--out", out]

    def table(out: Path) -> list[Any]:
        return ["predict", data / "images", "--model", inputs.artifact, "--csv", out]

    trainings = [
        ("train classify", training("classify", "arrays.npz", "mixed_bfloat16"), 3),
        ("train segment", training("segment", "scenes", "mixed_float16"), 1),
        ("train shards", on_shards, 2),
        ("train tag", training("tag", "tags.csv", "float32"), 1),
        ("train detect", training("detect", "boxes", "mixed_bfloat16"), 1),
    ]
    over = export("saved_model,tflite,onnx", "--overwrite")
    return [
        *(Work(name, first, trained, again=resumed(first), weight=weight) for name, first, weight in trainings),
        Work("data pack", lambda out: ["data", "pack", data / "images", out, "--shards", 6], packed, weight=4),
        Work("export over", over, exported, lambda: inputs.older, weight=2),
        Work("export", export("tflite,onnx"), exported, again=without_overwrite, weight=2),
        Work("evaluate --out", evaluate, plain_files, lambda: inputs.older_evaluation, weight=3),
        Work("predict --out", pictures, plain_files, weight=2),
        Work("predict --csv", table, plain_files, lambda: inputs.older_table, weight=2),
    ]


if __name__ == "__main__":
    typer.run(main)
