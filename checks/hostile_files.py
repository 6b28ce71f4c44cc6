"""Damaged files of every kind that this package opens: what comes of each.

A tiny ResNet-18 (4 channels in place of 64) is exported and saved; each file is mutated at random and then opened and
run through the package, in a worker process that is replaced when it crashes or takes too long. Of a folder, one file
is mutated or deleted. The kinds "... of other make" carry no hash of this package: there, the runtime itself reads the
mutated file.

    python checks/hostile_files.py --out benchmarks/results/hostile_files.json

| outcome | is |
| --- | --- |
| clear error | an error of this package whose message names the file |
| unharmed | the answers, or weights, of the whole file: the mutation hit nothing that counts |
| other answers | other ones, without a word |
| crash, time-out, other exception | none of these is wanted |
"""

import functools
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_resnet.answers import PROBABILITIES
from keras_resnet.measure.memory import peak_memory_mb, reset_peak_memory_mb
from keras_resnet.measure.record import write_record
from keras_resnet.quiet import quiet_stderr

SIZE = 32  # pixels a side of the network's input
FEW_BYTES = 4096  # at either end of a file, where most of its structure stands
MEMORY_LIMIT_BYTES = 24_000_000_000  # of a worker's addresses; TensorFlow alone takes several 10^9

FORMATS = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8")
NO_CHECKSUM = ("safetensors", "weights.h5")  # formats that carry none: other values are other weights
OTHER_MAKE = " of other make"
SLOW_COUNT = 300  # at most, of SavedModels that TensorFlow itself reads: half a second each


@dataclass(frozen=True)
class Source:
    """A whole file, and how to use one of its kind: path -> answers or weights."""

    kind: str
    path: Path
    use: str  # function of this module


# --- mutations ----------------------------------------------------------------------------------------------------


def mutate(data: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    """Content of a file -> name of a mutation, and what it makes of the content."""
    mutations: dict[str, Callable[[], bytes]] = {
        "cut short": lambda: data[: _place(data, random)],
        "one bit": lambda: _flip(data, random, 1),
        "64 bits": lambda: _flip(data, random, 64),
        "random block": lambda: _overwrite(data, random, random.bytes),
        "block of zeros": lambda: _overwrite(data, random, bytes),
        "blocks swapped": lambda: _swap(data, random),
        "bytes repeated": lambda: _insert(data, random, repeated=True),
        "bytes inserted": lambda: _insert(data, random, repeated=False),
        "empty": lambda: b"",
    }
    weights = np.array([1 if name == "empty" else 5 for name in mutations], float)
    name = str(random.choice(list(mutations), p=weights / weights.sum()))
    return name, mutations[name]()


def _place(data: bytes, random: np.random.Generator) -> int:
    """-> an offset: every other one near either end."""
    if len(data) > 2 * FEW_BYTES and random.integers(2):
        offset = int(random.integers(FEW_BYTES))
        return offset if random.integers(2) else len(data) - 1 - offset
    return int(random.integers(max(len(data), 1)))


def _flip(data: bytes, random: np.random.Generator, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count if data else 0):
        changed[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _overwrite(data: bytes, random: np.random.Generator, block_of: Callable[[int], bytes]) -> bytes:
    start = _place(data, random)
    block = block_of(int(random.integers(1, 513)))[: len(data) - start]
    return data[:start] + block + data[start + len(block) :]


def _swap(data: bytes, random: np.random.Generator) -> bytes:
    length = int(random.integers(1, max(2, min(513, len(data) // 2))))
    first, second = sorted((_place(data, random), _place(data, random)))
    if second < first + length or second + length > len(data):
        return data[length:] + data[:length]
    swapped, between = data[second : second + length], data[first + length : second]
    return data[:first] + swapped + between + data[first : first + length] + data[second + length :]


def _insert(data: bytes, random: np.random.Generator, repeated: bool) -> bytes:
    place, length = _place(data, random), int(random.integers(1, 513))
    block = data[place : place + length] if repeated else random.bytes(length)
    return data[:place] + block + data[place:]


def mutate_copy(source: Path, copy: Path, random: np.random.Generator) -> str:
    """File or folder -> a mutated copy; the name of the mutation."""
    if source.is_file():
        name, content = mutate(source.read_bytes(), random)
        copy.write_bytes(content)
        return name
    shutil.copytree(source, copy)
    files = sorted(file for file in copy.rglob("*") if file.is_file())
    file = files[int(random.integers(len(files)))]
    if random.integers(8) == 0:
        file.unlink()
        return f"no {file.name}"
    name, content = mutate(file.read_bytes(), random)
    file.write_bytes(content)
    return f"{name} of {file.name}"


# --- whole files --------------------------------------------------------------------------------------------------


def tiny_resnet18() -> Any:
    """-> ResNet-18 with every layer under its own name, 4 to 32 channels, 10 classes, all weights from a seed."""
    import keras

    from keras_resnet import layer_names
    from keras_resnet.backbone import resnet_backbone
    from keras_resnet.heads.classification import classification_head
    from keras_resnet.preprocessing import normalisation_layer
    from keras_resnet.variants import IMAGENET, VARIANTS

    narrow = replace(VARIANTS["resnet18"], design=replace(IMAGENET, filters=4))
    image = keras.Input((SIZE, SIZE, 3), name=layer_names.IMAGE)
    x = resnet_backbone(normalisation_layer(3)(image), narrow, IMAGENET.output_stride)["C5"]
    model = keras.Model(image, classification_head(x, 10, "softmax"), name="resnet18")
    random = np.random.default_rng(4)
    for variable in model.weights:
        spread = np.sqrt(2 / np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.2
        around = 1 if variable.name in ("gamma", "moving_variance") else 0
        variable.assign(np.clip(random.normal(around, spread, variable.shape), around - 0.7, None))
    return model


def make_sources(folder: Path, of_other_make: bool) -> list[Source]:
    """Writes a whole file of each kind."""
    from safetensors.numpy import save_file

    from keras_resnet.export import export, pipeline
    from keras_resnet.export.images import synthetic_images
    from keras_resnet.export.to_savedmodel import write_savedmodel
    from keras_resnet.variants import VARIANTS
    from keras_resnet.weights import torchvision_names

    model, images = tiny_resnet18(), synthetic_images((SIZE, SIZE, 3), count=40, seed=5)
    if of_other_make:
        embed, pipeline.embed = pipeline.embed, lambda path, description: None
        try:
            made = export(model, folder / "other", FORMATS[1:], calibration=images)
        finally:
            pipeline.embed = embed
        write_savedmodel(model, folder / "other" / "saved_model", batch_size=None)
        paths = {"saved_model": folder / "other" / "saved_model", **made.paths}
        return [Source(name + OTHER_MAKE, path, "_answers") for name, path in paths.items()]

    made = export(model, folder / "made", FORMATS, calibration=images, class_names=[f"class {i}" for i in range(10)])
    sources = [Source(name, path, "_answers") for name, path in made.paths.items()]
    whole, weights, tensors = folder / "whole.keras", folder / "whole.weights.h5", folder / "whole.safetensors"
    model.save(whole)
    model.save_weights(weights)
    layers = {name: model.get_layer(layer) for name, (layer, _) in torchvision_names(VARIANTS["resnet18"]).items()}
    values = {}
    for name, (_, variable) in torchvision_names(VARIANTS["resnet18"]).items():
        value = next(np.asarray(v) for v in layers[name].weights if v.name == variable)
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
        values[name] = np.ascontiguousarray(value if axes is None else value.transpose(axes))
    save_file(values, tensors)
    return [
        *sources,
        Source("keras, as a model", whole, "_answers"),
        Source("keras, its weights", whole, "_weights"),
        Source("weights.h5", weights, "_weights"),
        Source("safetensors", tensors, "_weights"),
    ]


# --- the worker ---------------------------------------------------------------------------------------------------


def work(connection: Any, sources: list[Source]) -> None:
    """Takes (index of the source, path of a mutated copy) and answers (outcome, detail, seconds, MB), until None."""
    from keras_resnet.errors import KerasResnetError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    wanted: dict[int, list[np.ndarray]] = {}
    while (job := connection.recv()) is not None:
        index, path = job
        use = globals()[sources[index].use]
        if index not in wanted:
            wanted[index] = use(sources[index].path)
        before_mb = reset_peak_memory_mb()
        start = time.perf_counter()
        try:
            outcome, detail = _compare(use(path), wanted[index]), ""
        except KerasResnetError as error:
            outcome, detail = "clear error" if str(path) in str(error) else "unclear error", str(error)
        except Exception as error:  # noqa: BLE001  what comes is what is looked for
            outcome, detail = f"other exception: {type(error).__name__}", str(error)
        connection.send((outcome, detail, time.perf_counter() - start, peak_memory_mb() - before_mb))


def _compare(answers: list[np.ndarray], wanted: list[np.ndarray]) -> str:
    same = len(answers) == len(wanted) and all(np.array_equal(*pair) for pair in zip(answers, wanted, strict=True))
    return "unharmed" if same else "other answers"


def _answers(path: Path) -> list[np.ndarray]:
    from keras_resnet.export.images import synthetic_images
    from keras_resnet.loading import open_predictor

    pixels = synthetic_images((SIZE, SIZE, 3), count=2, seed=9)
    return [open_predictor(str(path), None, threads=1).run(pixels)[PROBABILITIES]]


def _weights(path: Path) -> list[np.ndarray]:
    from keras_resnet.variants import VARIANTS
    from keras_resnet.weights import load_weights

    model = _receiver()
    load_weights(model, VARIANTS["resnet18"], path)
    return list(model.get_weights())


_receiver = functools.cache(tiny_resnet18)


class Worker:
    """A process that does one job after the other, and a new one after a crash or a time-out."""

    def __init__(self, sources: list[Source], limit_s: float):
        self._sources, self._limit_s = sources, limit_s
        self._process: Any = None

    def do(self, index: int, path: Path) -> tuple[str, str, float, float]:
        """-> outcome, detail, seconds, MB of memory beyond what the process held before."""
        if self._process is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["tensorflow", "keras_resnet.export", "keras_resnet.cli.network"])
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=work, args=(theirs, self._sources), daemon=True)
            with quiet_stderr():  # what TensorFlow says when it is imported
                self._process.start()
            theirs.close()
            self._ask(index, self._sources[index].path, 300)  # the imports are no part of a file's time
        return self._ask(index, path, self._limit_s)

    def _ask(self, index: int, path: Path, limit_s: float) -> tuple[str, str, float, float]:
        start = time.perf_counter()
        self._connection.send((index, path))
        try:
            if self._connection.poll(limit_s):
                answer: tuple[str, str, float, float] = self._connection.recv()
                return answer
            outcome = "time-out"
            self._process.kill()
        except (EOFError, ConnectionError):
            outcome = "crash"
        self._process.join()
        code, self._process = self._process.exitcode, None
        return outcome if outcome == "time-out" else f"crash: {-code}", "", time.perf_counter() - start, 0.0

    def close(self) -> None:
        if self._process is not None:
            self._connection.send(None)
            self._process.join()


def main(
    out: Annotated[Path, typer.Option()],
    count: Annotated[int, typer.Option(min=1, help="Mutations of each kind of file.")] = 300,
    other_make: Annotated[int, typer.Option(help="Of each kind without this package's hash.")] = 3000,
    seed: int = 0,
    limit_s: Annotated[float, typer.Option(help="Longest time that one file may take.")] = 30.0,
) -> None:
    """Mutates, opens and runs; prints and records the outcomes. Exit status 1 if one of this package's is unwanted."""
    results: dict[str, Any] = {}
    unwanted = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = make_sources(folder, of_other_make=False)
        if other_make:
            sources += make_sources(folder, of_other_make=True)
        worker = Worker(sources, limit_s)
        for index, source in enumerate(sources):
            times = other_make if source.kind.endswith(OTHER_MAKE) else count
            if source.kind == "saved_model" + OTHER_MAKE:
                times = min(times, SLOW_COUNT)
            result = _run(worker, index, source, times, np.random.default_rng([seed, index]), folder)
            results[source.kind] = result
            figures = f"{result['longest_s']} s, {result['peak_memory_mb']} MB"
            print(source.kind, result["outcomes"], figures, *result["unwanted"][:5], sep="\n    ", flush=True)
            unwanted |= bool(result["unwanted"]) and not source.kind.endswith(OTHER_MAKE)
        worker.close()
    total = Counter[str]()
    for kind, result in results.items():
        total.update({} if kind.endswith(OTHER_MAKE) else result["outcomes"])
    print(f"{sum(total.values())} mutations: {dict(total)}")
    settings = {"count": count, "other_make": other_make, "seed": seed, "limit_s": limit_s}
    write_record(out, "hostile_files", settings, {"total": dict(total), "kinds": results})
    sys.exit(unwanted)


def _run(
    worker: Worker, index: int, source: Source, times: int, random: np.random.Generator, folder: Path
) -> dict[str, Any]:
    outcomes, mutations, unwanted = Counter[str](), Counter[str](), []
    longest_s = peak_mb = 0.0
    for number in range(times):
        copy = folder / f"{number}-{source.path.name}"
        mutation = mutate_copy(source.path, copy, random)
        outcome, detail, seconds, memory_mb = worker.do(index, copy)
        outcomes[outcome] += 1
        mutations[f"{mutation.partition(' of ')[0]}: {outcome}"] += 1
        longest_s, peak_mb = max(longest_s, seconds), max(peak_mb, memory_mb)
        unchecked = source.kind in NO_CHECKSUM or source.kind.endswith(OTHER_MAKE)
        if outcome not in ("clear error", "unharmed", *(["other answers"] if unchecked else [])):
            unwanted.append(f"{number} {mutation}: {outcome}: {detail[:300]}".replace(str(folder), ""))
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
    files = [source.path] if source.path.is_file() else source.path.rglob("*")
    return {
        "outcomes": dict(outcomes),
        "longest_s": round(longest_s, 3),
        "peak_memory_mb": round(peak_mb, 1),
        "file_bytes": sum(file.stat().st_size for file in files),
        "mutations": dict(sorted(mutations.items())),
        "unwanted": unwanted,
    }


if __name__ == "__main__":
    typer.run(main)
