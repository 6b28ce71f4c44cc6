"""All checks of this folder, one after the other, each in a process of its own: the attack on the package.

    make attack
    python checks/attack.py --minutes 20 --out /tmp/records

The checks print their figures by kind and write their records; a table at the end says how each ended. The time is
divided among them, so that a shorter attack is one with fewer inputs. Exit status 1 if a check found what must not be.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

CHECKS = Path(__file__).parent
RECORDS = CHECKS.parent / "benchmarks" / "results"
WHOLE_MINUTES = 135  # for the whole numbers below, on two cores
PATIENCE = 3  # a check that takes so many times its minutes is ended


class Check(NamedTuple):
    """A script, and how much of it is the whole attack."""

    name: str  # of the script and of its record
    proves: str
    minutes: float  # of the whole attack
    size: tuple[str, int] | None = None  # option for the number of inputs, and the whole number
    limits_itself: bool = False  # whether it has the option --minutes


ATTACK = (
    Check("hostile_inputs", "no input runs code, writes outside, or ends in a traceback", 15, ("--count", 300)),
    Check("mutated_files", "each mutated file gives a clear error or the right answer", 45, ("--count", 100_000)),
    Check("planted_faults", "verify refuses each wrong artifact", 30, ("--count", 1000), limits_itself=True),
    Check("planted_detector_faults", "export refuses each wrong detector", 15),
    Check("kills", "nothing is lost in a kill", 20, ("--count", 1000), limits_itself=True),
    Check("places", "a full disk or a closed stream ends a command with one line", 5),
    Check("memory_flat", "memory does not grow over a long run", 5, ("--images", 20_000)),
)


class Ended(NamedTuple):
    """How a check ended."""

    check: Check
    result: str  # "passed", "FAILED", "TOO LONG" or "MISSING"
    minutes: float
    figures: str  # the last line that it printed


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all checks together, about.")] = WHOLE_MINUTES,
    out: Annotated[Path, typer.Option(help="Folder of the records.")] = RECORDS,
    only: Annotated[list[str] | None, typer.Option(help="Check that is made; default: all.")] = None,
) -> None:
    """Runs the checks, prints how each ended. Exit status 1 if one found what must not be."""
    out.mkdir(parents=True, exist_ok=True)
    scale = minutes / WHOLE_MINUTES
    ended = [run(check, scale, out) for check in ATTACK if only is None or check.name in only]
    print(*table(ended), sep="\n")
    sys.exit(any(each.result != "passed" for each in ended))


def run(check: Check, scale: float, out: Path, folder: Path = CHECKS) -> Ended:
    """Check, share of the whole attack, folder of the records -> how it ended; its lines are printed as they come."""
    script = folder / f"{check.name}.py"
    if not script.is_file():
        return Ended(check, "MISSING", 0.0, str(script))
    print(f"--- {check.name}: {check.proves}", flush=True)
    command = [sys.executable, str(script), "--out", str(out / f"{check.name}.json"), *arguments(check, scale)]
    began = time.monotonic()
    figures, too_long = "", False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="backslashreplace") as process:
        assert process.stdout is not None
        limit_s = 60 * (5 + PATIENCE * check.minutes * scale)  # the first minutes go into what a check makes
        for line in process.stdout:
            print(line, end="", flush=True)
            figures = line.strip() or figures
            if time.monotonic() - began > limit_s:
                too_long = True
                process.terminate()
                break
    result = "TOO LONG" if too_long else "passed" if process.returncode == 0 else "FAILED"
    return Ended(check, result, (time.monotonic() - began) / 60, figures)


def arguments(check: Check, scale: float) -> list[str]:
    """Check, share of the whole attack -> options of its script."""
    given: list[str] = []
    if check.size is not None:
        option, whole = check.size
        given += [option, str(max(1, round(whole * scale)))]
    if check.limits_itself:
        given += ["--minutes", f"{check.minutes * scale:.1f}"]
    return given


def table(ended: Sequence[Ended]) -> list[str]:
    """How the checks ended -> a line for each."""
    lines = [f"{'check':16} {'result':9} {'minutes':>7}  figures"]
    return lines + [f"{each.check.name:16} {each.result:9} {each.minutes:7.1f}  {each.figures}" for each in ended]


if __name__ == "__main__":
    typer.run(main)
