"""An export for a process of its own, which kills itself at a given step, or waits to be killed."""

import os
import signal
from pathlib import Path
from typing import Any

STEPS = (
    "half written",
    "written",
    "verified",
    "forgotten",
    "exchanged",
    "moved aside",
    "replaced",
    "manifest half written",
)


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(step: str) -> None:
    """Puts the kill into the package: before the function that comes after that step."""
    from keras_resnet.export import files, pipeline

    write, record, exchange, write_bytes = pipeline._write, pipeline.record, files._exchange, Path.write_bytes

    def half(job: Any, path: Path) -> None:
        write(job, path)
        file = path if path.is_file() else next(path.glob("variables/*.data-*"))
        write_bytes(file, file.read_bytes()[: file.stat().st_size // 2])
        kill()

    def half_a_manifest(path: Path, content: bytes) -> None:
        write_bytes(path, content[: len(content) // 2])
        kill()

    def half_recorded(*arguments: Any) -> None:
        Path.write_bytes = half_a_manifest  # type: ignore[method-assign]
        record(*arguments)

    if step == "half written":
        pipeline._write = half
    elif step == "written":
        pipeline.verify = kill
    elif step == "verified":
        pipeline.forget = kill
    elif step == "forgotten":
        pipeline.replace = kill
    elif step == "exchanged":
        files._exchange = lambda new, path: exchange(new, path) and kill()
    elif step == "moved aside":
        files._exchange = lambda new, path: False
        rename = os.replace
        os.replace = lambda new, path: kill() if str(new).endswith(".unverified") else rename(new, path)
    elif step == "replaced":
        pipeline.record = kill
    elif step == "manifest half written":
        pipeline.record = half_recorded


def main(model: Path, out: Path, format_name: str, step: str) -> None:
    from keras_resnet.export import export
    from keras_resnet.loading import open_network

    network, contract = open_network(str(model), None)
    prepare(step)
    print("ready", flush=True)
    export(network, out, [format_name], contract=contract, overwrite=True)
    print("done", flush=True)
