"""Hostile inputs of every kind, each given to a command of `keras-resnet`: what comes of it.

    python checks/hostile_inputs.py --out benchmarks/results/hostile_inputs.json
    python checks/hostile_inputs.py --out again.json --kind onnx --name 160

Each command runs in a fork of this process with limits of time and memory. `hostile_table` has the inputs.

| verdict | is |
| --- | --- |
| answered, refused | the command did its work; it ended with an error of this package |
| wrong | it answered where it must refuse, or the other way round |
| TRACEBACK, SIGNAL, TIMEOUT, MEMORY | how it ended, which is never wanted |
| CODE RAN | code of the input ran, or its graph wrote a file |
| WROTE OUTSIDE | a file was written, or changed, outside of the folder of the command |
| OBEYED | a terminal would obey the output, or it has a line that the input forged |
"""

import os
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer
from forked_commands import Ended, preload, run_command, run_forked
from hostile_table import ESCAPES, MARKER, Input, hostile_inputs, make_whole, whole_in

from keras_resnet.measure.record import write_record

WANTED = ("answered", "refused")
MAKING_S, MAKING_MB = 300.0, 8000.0
VICTIM = "the content of the victim"
FORBIDDEN = ("\x1b", "\x07", "\u202e")  # what a terminal would obey
FORGED = ESCAPES.split("\n")[1].removesuffix("\u202e")


def main(
    out: Annotated[Path, typer.Option(help="JSON record.")],
    count: Annotated[int, typer.Option(min=0, help="Number of inputs, spread over the table; 0: all.")] = 0,
    kind: Annotated[str, typer.Option(help="Only inputs of this kind.")] = "",
    name: Annotated[str, typer.Option(help="Only inputs with this text in their names.")] = "",
    limit_s: Annotated[float, typer.Option(help="Longest time of a command.")] = 60.0,
    most_mb: Annotated[float, typer.Option(help="Most memory of a command, beyond that of its imports.")] = 2000.0,
) -> None:
    """Makes the inputs and runs the commands; prints and records the verdicts. Exit status 1 if one is unwanted."""
    preload()
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    unwanted: list[dict[str, Any]] = []
    longest_s = largest_mb = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch).resolve()
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")  # where the commands note which files they have opened
        (root / "cache").mkdir()
        _must_end_well(run_forked(lambda: make_whole(root), root, MAKING_S, MAKING_MB), "the whole files")
        taken = [each for each in hostile_inputs(whole_in(root)) if kind in ("", each.kind) and name in each.name]
        taken = taken[:: max(1, len(taken) // count)][:count] if count else taken
        for number, each in enumerate(taken):
            verdict, ended = _verdict(each, root, root / "cases" / str(number) / "folder", limit_s, most_mb)
            verdicts[each.kind][verdict] += 1
            longest_s, largest_mb = max(longest_s, ended.seconds), max(largest_mb, ended.most_mb)
            if verdict not in WANTED:
                said = ended.stderr.strip().replace(str(root), "")[-1500:]
                unwanted.append({"kind": each.kind, "name": each.name, "verdict": verdict, "stderr": said})
                last = ascii((said.splitlines() or [""])[-1][:200])
                print(f"{each.kind}: {each.name}: {verdict} ({ended.seconds:.1f} s): {last}", flush=True)
    for one, counts in verdicts.items():
        print(f"{one:20} {counts.total():4}  " + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    total = sum(verdicts.values(), Counter[str]())
    print(f"{total.total()} hostile inputs: {dict(total)}; longest {longest_s:.1f} s, most {largest_mb:.0f} MB")
    settings = {"count": count, "limit_s": limit_s, "most_mb": most_mb}
    figures = {"longest_s": round(longest_s, 1), "most_mb": round(largest_mb), "unwanted": unwanted}
    kinds = {one: dict(counts) for one, counts in verdicts.items()}
    write_record(out, "hostile_inputs", settings, {"total": dict(total), "kinds": kinds, **figures})
    sys.exit(bool(unwanted))


def _must_end_well(ended: Ended, what: str) -> None:
    if ended.verdict != "ok":
        raise RuntimeError(f"{what} can't be made: {ended.verdict}\n{ended.stderr[-3000:]}")


def _verdict(each: Input, root: Path, folder: Path, limit_s: float, most_mb: float) -> tuple[str, Ended]:
    folder.mkdir(parents=True)
    victim = root / "victim"
    victim.write_text(VICTIM)
    _must_end_well(run_forked(lambda: each.make(folder), folder, MAKING_S, MAKING_MB), f"{each.kind}: {each.name}")
    before = _around(root, folder)
    ended = run_command(each.command, folder, limit_s, most_mb)
    return _judged(each, root, ended, changed=_around(root, folder) != before or victim.read_text() != VICTIM), ended


def _judged(each: Input, root: Path, ended: Ended, changed: bool) -> str:
    if (root / MARKER).exists():
        (root / MARKER).unlink()
        return "CODE RAN"
    if changed:
        return "WROTE OUTSIDE"
    if ended.verdict not in ("ok", "error"):
        return ended.verdict
    said = ended.stdout + ended.stderr
    if any(sign in said for sign in FORBIDDEN) or any(line.startswith(FORGED) for line in said.splitlines()):
        return "OBEYED"
    found = "answered" if ended.verdict == "ok" else "refused"
    if found == "refused" and not said.strip():
        return "refused without a word"
    return found if each.wanted in (found, "either") else f"wrong: {found}"


def _around(root: Path, folder: Path) -> set[str]:
    """-> names of the files near the folder of a command, but not in it."""
    return {str(path) for place in (root, folder.parent.parent, folder.parent) for path in place.iterdir()}


if __name__ == "__main__":
    typer.run(main)
