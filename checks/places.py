"""Places where a command can't write, or prints to nobody: each must end with one clear line and lose nothing.

    python checks/places.py --out benchmarks/results/places.json

Each command that writes runs on a full disk, in a read-only folder, without a home and so on, as a fork of one process
that has imported everything. The table has the exit status and the last line that the user sees. Wrong is: a traceback;
an exit status above 0 without exactly one error; a file under its final name that is not whole; a file that was there
before and is not; a temporary file that stays after an error.
"""

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from preloaded import Inputs, damage, files_under, is_temporary, preload, start, train_arguments

from keras_resnet.measure.record import write_record

RECORD = Path(__file__).parents[1] / "benchmarks" / "results" / "places.json"
LONGEST_S = 240
DISK_MB = 40


@dataclass(frozen=True)
class Work:
    """A command that writes, and how many bytes are free for it on a disk that is nearly full."""

    arguments: Callable[[Inputs, Path], list[Any]]  # what it reads, place where it writes
    free_bytes: int = 0
    writes: bool = True


WORKS: Mapping[str, Work] = {
    "train": Work(
        lambda inputs, out: [*train_arguments("classify", inputs.data / "arrays.npz"), "--out", out], 150_000
    ),
    "data pack": Work(lambda inputs, out: ["data", "pack", inputs.data / "images", out, "--shards", 4], 20_000),
    "export": Work(
        lambda inputs, out: [
            *("export", "--model", inputs.run / "model.keras", "--formats", "tflite,onnx", "--out", out)
        ],
        30_000,
    ),
    "evaluate --out": Work(
        lambda inputs, out: ["evaluate", inputs.artifact, inputs.data / "arrays.npz", "--out", out], 8_192
    ),
    "predict --out": Work(
        lambda inputs, out: [
            *("predict", inputs.data / "scenes/val/images", "--model", inputs.scenes / "model.keras", "--out", out)
        ],
        16_384,
    ),
    "predict --csv": Work(
        lambda inputs, out: ["predict", inputs.data / "images", "--model", inputs.artifact, "--csv", f"{out}.csv"]
    ),
    "demo": Work(lambda inputs, out: ["demo", "--out", out], 400_000),
    "info": Work(lambda inputs, out: ["info", inputs.artifact.parent], writes=False),
    "list": Work(lambda inputs, out: ["list"], writes=False),
}


@dataclass
class Place:
    """What is odd about the surroundings of a command."""

    title: str
    how: dict[str, Any] = field(default_factory=dict)  # arguments of `start`
    disk: str = ""  # "full" or "read-only": a small disk is mounted where the command writes
    only_writers: bool = False
    gone: bool = False  # the working directory is removed


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def places(nowhere: str) -> list[Place]:
    return [
        Place("full disk", disk="full", only_writers=True),
        Place("limit on the size of files", {"before": limit_files}, only_writers=True),
        Place("read-only folder", disk="read-only", only_writers=True),
        Place("unwritable HOME", {"environment": {"HOME": nowhere, "XDG_CACHE_HOME": nowhere}}),
        Place("unwritable TMPDIR", {"environment": {"TMPDIR": nowhere}, "before": forget_temporary_folder}),
        Place("deleted working directory", gone=True),
        Place("COLUMNS=20", {"environment": {"COLUMNS": "20"}}),
        Place("LANG=C", {"environment": {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}}),
        Place("stdout | head", {"before": stdout_without_a_reader}),
        Place("stdout closed", {"descriptors": {1: None}}),
        Place("stdout full", {"descriptors": {1: "/dev/full"}}),
        Place("stderr full", {"descriptors": {2: "/dev/full"}}),
        Place("stdin closed", {"descriptors": {0: None}}),
    ]


def forget_temporary_folder() -> None:
    tempfile.tempdir = None  # the parent may have looked for it already


def stdout_without_a_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.close(writer)


@dataclass
class Cell:
    """A command in a place: what came of it."""

    command: str
    place: str
    status: int
    line: str
    wrong: list[str]


def main(
    out: Annotated[Path, typer.Option(help="JSON record.")] = RECORD,
    command: Annotated[list[str] | None, typer.Option(help="Only this command; several times: these.")] = None,
    place: Annotated[list[str] | None, typer.Option(help="Only this place; several times: these.")] = None,
) -> None:
    """Runs each command in each place, prints a table, and exits with status 1 if a cell is wrong."""
    preload()
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        inputs = Inputs(work)
        for name in command or WORKS:
            for where in places("/proc/keras_resnet"):
                chosen = not place or where.title in place
                if chosen and (WORKS[name].writes or not where.only_writers):
                    cell = run(name, where, inputs, work)
                    if cell is None:
                        print(f"{name:14}  {where.title:26}  not tried: mounting is not permitted here")
                        continue
                    cells.append(cell)
                    wrong = f"  WRONG: {'; '.join(cell.wrong)}" if cell.wrong else ""
                    print(f"{name:14}  {where.title:26}  {cell.status:3}  {cell.line}{wrong}", flush=True)
    wrong_cells = [cell for cell in cells if cell.wrong]
    print(f"{len(cells)} cells, {len(wrong_cells)} wrong")
    write_record(out, "places", {}, {"cells": [asdict(cell) for cell in cells], "wrong": len(wrong_cells)})
    sys.exit(bool(wrong_cells))


def run(name: str, place: Place, inputs: Inputs, work: Path) -> Cell | None:
    """-> what came of it; None: it can't be tried here."""
    with written_place(place, WORKS[name], work) as top:
        if top is None:
            return None
        out, here = top / "out", work / "here"
        here.mkdir()
        arguments = WORKS[name].arguments(inputs, out)
        before = hashes(inputs.data)
        how = dict(place.how)
        if place.gone:
            how["before"] = here.rmdir
        command = start(arguments, work / "said", folder=here, **how)
        status = command.wait(LONGEST_S)
        shutil.rmtree(here, ignore_errors=True)
        said = command.stderr
        lines = said.strip().splitlines()
        wrong = []
        if status not in (0, 1):
            wrong.append(f"exit status {status}")
        if "Traceback" in said or "Error:" in said.replace("error:", ""):
            wrong.append("a traceback")
        errors = [line for line in lines if line.startswith("error: ")]
        if status == 1 and len(errors) != 1 and place.title != "stdout | head":  # there, no word is the custom
            wrong.append(f"{len(errors)} errors")
        if hashes(inputs.data) != before:
            wrong.append("its inputs are others")
        for file in files_under(top):
            if not is_temporary(file, top):
                if why := damage(file):
                    wrong.append(f"{file.relative_to(top)} is not whole: {why}")
            elif status and file.name not in (".keras-resnet-demo", ".plan.json") and not file.name.endswith(".npz"):
                wrong.append(f"{file.relative_to(top)} stays")
        line = (errors or lines or [""])[-1]
        return Cell(name, place.title, status, line.replace(str(work), "…"), wrong)


@contextmanager
def written_place(place: Place, work: Work, folder: Path) -> Iterator[Path | None]:
    """-> folder to write to, a disk of its own if the place asks for one."""
    top = folder / "disk"
    top.mkdir()
    if not place.disk:
        yield top
        shutil.rmtree(top)
        return
    if not mounted(top, "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs"):
        top.rmdir()
        yield None
        return
    try:
        if place.disk == "full":
            free = os.statvfs(top)
            (top / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - work.free_bytes))
        else:
            mounted(top, "-o", "remount,ro")
        yield top
    finally:
        subprocess.run(["umount", "--lazy", str(top)], check=True)
        top.rmdir()


def mounted(folder: Path, *options: str) -> bool:
    """-> whether it worked."""
    try:
        return subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files_under(folder)
    }


if __name__ == "__main__":
    typer.run(main)
