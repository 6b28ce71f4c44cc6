"""`keras-resnet` in processes that are forks of one in which everything is imported, on networks of a few channels.

A start takes 0.1 s in place of 8 s. The parent must never compute with TensorFlow: its threads would not be there in a
fork.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time
import tomllib
import traceback
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors
from PIL import Image

IMAGES, CLASSES, SIDE = 48, 3, 16
FAILED_IN_FORK = 99  # exit status after a traceback
CONVERTERS = ("ai_edge_litert.interpreter", "tf2onnx", "onnx", "onnxruntime")


def preload() -> None:
    """Imports what the commands import, after it has made the smallest networks of the family smaller still."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "HF_HUB_OFFLINE": "1"}
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    from keras_resnet import variants

    table: Any = variants.VARIANTS
    for name, blocks in (("resnet20", (1, 1, 1)), ("resnet18", (1, 1, 1, 1))):
        design = replace(table[name].design, filters=4)
        table[name] = replace(table[name], design=design, blocks_per_stage=blocks)
    from keras_resnet.quiet import import_keras, quiet_stderr

    import_keras()
    import importlib

    with quiet_stderr():
        for module in CONVERTERS:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        for module in ("cli.main", "demo", "export.pipeline", "export.report", "training.fit", "packing", "loading"):
            importlib.import_module(f"keras_resnet.{module}")
        for module in ("to_savedmodel", "to_tflite", "to_onnx"):
            importlib.import_module(f"keras_resnet.export.{module}")
        with contextlib.suppress(ImportError):
            import matplotlib.pyplot  # noqa: F401
    stop_clock()


def stop_clock() -> None:
    """Lets artifacts and members of zip files state one time of writing, so that equal ones are equal files."""
    from keras_resnet.export import description

    moment = datetime(2026, 1, 1, tzinfo=UTC)
    modules: tuple[Any, Any] = (description, zipfile)
    modules[0].datetime = SimpleNamespace(now=lambda zone: moment)
    modules[1].time = SimpleNamespace(time=lambda: 0.0, localtime=lambda seconds: moment.timetuple())


@dataclass
class Command:
    """A command that runs."""

    process: int
    said: Path  # its stdout, and beside it, with the suffix .errors, its stderr
    ended: int | None = None  # its exit status

    @property
    def stdout(self) -> str:
        return self.said.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.said.with_suffix(".errors").read_text(errors="replace")

    def status(self) -> int | None:
        """-> exit status, below zero the number of the signal that ended it; None: it runs."""
        if self.ended is None:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            self.ended = os.waitstatus_to_exitcode(status) if ended else None
        return self.ended

    def wait(self, longest_s: float) -> int:
        """-> exit status. After `longest_s` the process is killed, and the status is that of a killed process."""
        end = time.monotonic() + longest_s
        while (status := self.status()) is None:
            if time.monotonic() > end:
                os.kill(self.process, signal.SIGKILL)
            time.sleep(0.005)
        return status


def start(
    arguments: Sequence[object],
    said: Path,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    descriptors: Mapping[int, str | None] | None = None,
    before: Any = None,
) -> Command:
    """Arguments of `keras-resnet` -> the running command.

    Args:
        said: File for its stdout.
        environment: Variables that are set for it alone.
        folder: Its working directory.
        descriptors: File that stands for stdin, stdout or stderr, by number; None: it is closed.
        before: Function that is called in the process before the command.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for output in (said, said.with_suffix(".errors")):
        output.write_bytes(b"")  # an earlier command may have written it, and this one may be killed before it does
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))  # until the process has its own handler
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
        return Command(process, said)
    try:
        os.setsid()  # Ctrl-C on the terminal of the check is not for it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
        files: dict[int, str | None] = {0: os.devnull, 1: str(said), 2: str(said.with_suffix(".errors"))}
        for number, file in (files | dict(descriptors or {})).items():
            _open_as(number, file)
        os.environ.update(environment or {})
        if folder is not None:
            os.chdir(folder)
        if before is not None:
            before()
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        sys.stdin = _stream(0, "r")
        sys.stdout, sys.stderr = _stream(1, "w", encoding), _stream(2, "w", encoding)
        status = _run([str(argument) for argument in arguments])
        os._exit(status)
    finally:
        os._exit(FAILED_IN_FORK)


def _open_as(number: int, file: str | None) -> None:
    with contextlib.suppress(OSError):
        os.close(number)
    if file is not None:
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(file, flags)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)


def _stream(number: int, mode: str, encoding: str = "utf-8") -> Any:
    """Number of a descriptor -> what Python makes of it when it starts: nothing if it is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    errors = "backslashreplace" if number == 2 else "strict"
    return io.TextIOWrapper(
        open(number, mode + "b", closefd=False), encoding=encoding, errors=errors, line_buffering=number == 2
    )


def _run(arguments: list[str]) -> int:
    """-> exit status as Python would give it at its end."""
    from keras_resnet.cli.main import main

    sys.argv = ["keras-resnet", *arguments]
    status = 0
    try:
        main()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001  Python would print it and end
        traceback.print_exc()
        status = FAILED_IN_FORK
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                if sys.stderr is not None:
                    traceback.print_exc()
                status = 120  # as Python's own
    return status


# --- what the commands work on ------------------------------------------------------------------------------------


def write_data(folder: Path) -> None:
    """Writes small pictures in the layouts of all tasks: `images/`, `scenes/`, `boxes/`, `tags.csv`, `arrays.npz`."""
    generator = np.random.default_rng(0)
    pixels, classes = [], np.arange(IMAGES) % CLASSES
    rows = ["file,labels"]
    for number, label in enumerate(classes):
        noise = generator.integers(0, 100, (SIDE + number % 3, SIDE, 3)) + 50 * label
        picture = noise.astype(np.uint8)
        pixels.append(picture[:SIDE])
        file = folder / "images" / f"class {label}" / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
        rows.append(f"{file.relative_to(folder)},{'one' if label else 'two'}{'|three' if number % 2 else ''}")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    arrays: dict[str, Any] = {}
    for split, part in (("train", np.s_[: IMAGES - 8]), ("val", np.s_[IMAGES - 8 :])):
        arrays |= {f"x_{split}": np.stack(pixels)[part], f"y_{split}": classes[part]}
    np.savez(folder / "arrays.npz", **arrays)
    for number in range(12):
        mask = (generator.integers(0, 2, (2, 2))).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        scene = (generator.integers(0, 60, (32, 32, 3)) + 150 * mask[..., None]).astype(np.uint8)
        split = "val" if number < 4 else "train"
        for kind, image in (("images", scene), ("masks", mask)):
            file = folder / "scenes" / split / kind / f"{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    (folder / "scenes" / "classes.csv").write_text("name\nground\nsquare\n")
    write_boxes(folder / "boxes", generator)


def write_boxes(folder: Path, generator: np.random.Generator) -> None:
    """Writes COCO files with masks, and their pictures of 64 x 64 pixels with up to three bright rectangles."""
    for split, count in (("train", 8), ("val", 4)):
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "bright"}]}
        for number in range(count):
            picture = generator.integers(0, 60, (64, 64, 3)).astype(np.uint8)
            content["images"].append({"id": number, "file_name": f"{split}{number}.png", "height": 64, "width": 64})
            for _ in range(number % 4):
                (left, top), (width, height) = generator.integers(0, 30, 2), generator.integers(12, 30, 2)
                picture[top : top + height, left : left + width] = 250
                corners = [left, top, left + width, top, left + width, top + height, left, top + height]
                box: dict[str, Any] = {"bbox": [left, top, width, height], "segmentation": [corners]}
                box |= {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
                content["annotations"].append(box)
            file = folder / f"{split}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
        (folder / f"instances_{split}.json").write_text(json.dumps(content, default=int))


TRAIN = {
    "classify": {"network": "resnet20", "size": SIDE, "crop": "padded", "batch-size": 8},
    "segment": {
        **{"network": "resnet18", "task": "segment", "architecture": "fcn", "size": 32, "crop": "scaled"},
        **{"batch-size": 4, "output-stride": 8},
    },
    "detect": {
        **{"network": "resnet18", "task": "detect", "detector": "mask_rcnn", "size": 64, "crop": "fitted"},
        **{"batch-size": 4, "anchor-sizes": "8,12,16,24,32", "pyramid-channels": 8, "box-units": 16},
        **{"proposals": 20, "box-samples": 8, "clip-norm": 10},
    },
    "tag": {
        **{"network": "resnet20", "task": "tag", "size": SIDE, "crop": "padded", "loss": "binary"},
        "batch-size": 8,
    },
}


def train_arguments(task: str, data: Path, **others: object) -> list[str]:
    """Task, data -> arguments of a training run of two short epochs that gives the same bits each time."""
    keys = {"epochs": 2, "learning-rate": 0.05, "warmup-epochs": 0.5, "xla": "off", "checkpoint-steps": 2}
    given = {**keys, **TRAIN[task], "data": data, **others}
    return ["train", "--deterministic", *(part for key, value in given.items() for part in (f"--{key}", str(value)))]


def waited(arguments: Sequence[object], said: Path, **how: Any) -> None:
    """Runs a command that must end well."""
    command = start(arguments, said, **how)
    if status := command.wait(300):
        raise RuntimeError(f"{arguments}: exit status {status}\n{command.stdout[-1000:]}\n{command.stderr[-3000:]}")


class Inputs:
    """What the commands read, each made when it is first asked for."""

    def __init__(self, work: Path) -> None:
        self.data, self.said = work / "data", work / "said"
        self.data.mkdir()
        write_data(self.data)

    def _made(self, name: str, *arguments: object) -> Path:
        waited([*arguments, self.data / name], self.said)
        return self.data / name

    @cached_property
    def run(self) -> Path:
        return self._made("run", *train_arguments("classify", self.data / "arrays.npz"), "--out")

    @cached_property
    def scenes(self) -> Path:
        return self._made("scene run", *train_arguments("segment", self.data / "scenes"), "--out")

    @cached_property
    def shards(self) -> Path:
        return self._made("shards", "data", "pack", "--shards", 3, self.data / "images")

    @cached_property
    def artifact(self) -> Path:
        model = self.run / "model.keras"
        return self._made("made", "export", "--model", model, "--formats", "onnx", "--out") / "model.onnx"

    @cached_property
    def older(self) -> Path:
        """Artifacts of another network."""
        formats = ("--formats", "saved_model,tflite,onnx")
        return self._made("older", "export", "--model", self.run / "model-last.keras", *formats, "--out")

    @cached_property
    def older_evaluation(self) -> Path:
        artifact = self.older / "model.onnx"
        return self._made("older evaluation", "evaluate", artifact, self.data / "arrays.npz", "--out")

    @cached_property
    def older_table(self) -> Path:
        return self._made("older.csv", "predict", self.data / "images/class 0", "--model", self.artifact, "--csv")


def files_under(folder: Path) -> Iterator[Path]:
    """Folder -> all files in it, hidden ones too; a folder that does not exist has none."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def damage(file: Path) -> str:
    """File under a final name -> why it is not whole, or an empty text; a kind without a structure counts as whole."""
    try:
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".toml":
            tomllib.loads(file.read_text())
        elif file.suffix in (".csv", ".md", ".html"):
            if not file.read_bytes().endswith(b"\n"):
                return "its last line has no end"
        elif file.suffix == ".png":
            with Image.open(file) as picture:
                picture.load()
        elif file.suffix in (".keras", ".npz"):
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() or ""
        elif file.suffix == ".safetensors":
            with safetensors.safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118  it is no mapping
                    tensors.get_tensor(name)
    except Exception as error:  # noqa: BLE001  whatever a reader makes of it
        return f"{type(error).__name__}: {error}"
    return ""


def is_temporary(file: Path, folder: Path) -> bool:
    """File in a folder that a command writes -> whether it or a folder above it has a name that is not final."""
    parts = file.relative_to(folder).parts
    return any(part.endswith((".unverified", ".replaced")) or part.startswith(".") for part in parts)
