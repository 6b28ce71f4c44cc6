"""Images -> TFRecord shards with an index, in parallel; a run that was killed continues where it stopped."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_resnet.array_files import Arrays
from keras_resnet.data.base import HELD_OUT_RULE, EncodedSource, Source
from keras_resnet.data.check import check_image, percentiles
from keras_resnet.data.problems import Problem
from keras_resnet.data.shards import (
    DESCRIPTION,
    FORMAT,
    INDEX,
    VERSION,
    names_from,
    names_to,
    read_dataset_description,
)
from keras_resnet.errors import ArgumentError, reason
from keras_resnet.one_writer import only_writer
from keras_resnet.regular_files import read_text
from keras_resnet.whole_files import partial_files, remove_partial_files, whole_file, write_whole
from keras_resnet.whole_images import whole_image

PLAN = ".plan.json"  # describes the data of an unfinished run
SHARD_MB = 128
SAMPLE = 256  # number of images from which the size of the set is estimated
SEED = 0  # seed for the order of the records

# A record of a TFRecord file has 12 bytes of length and checksum, the data, and a checksum of 4 bytes.
_HEAD_BYTES, _FRAME_BYTES = 12, 16

ShardProgress = Callable[[int, int], None]  # finished shards, all shards


class ShardJob(NamedTuple):
    """One shard to write."""

    name: str
    source: EncodedSource
    indices: np.ndarray


def pack_sources(
    opened: Mapping[str, Source],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shards: int | None = None,
    shard_mb: float = SHARD_MB,
    workers: int | None = None,
    progress: ShardProgress = lambda done, total: None,
) -> dict[str, Any]:
    """Sources by split ("train" and "val"), data as the user named it, folder -> shards in that folder, and the content
    of `dataset.json`; see `packing.pack`.

    Raises:
        ArgumentError: The data has no files, or the folder holds other files.
    """
    out = Path(out)
    sources = {split: _checked(source, data) for split, source in opened.items()}
    plan = _plan(sources, shards, shard_mb)
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out):
        _claim(out, plan)
        jobs = _jobs(sources, plan)
        if not (out / DESCRIPTION).is_file():  # else an earlier run was killed after its last step
            _write_shards(jobs, out, workers, progress)
            _finish(out, sources, jobs, data, plan)
        return _clean(out, jobs)


def _checked(source: Source, data: str | os.PathLike[str]) -> EncodedSource:
    if not isinstance(source, EncodedSource) or source.kind == "shards":
        raise ArgumentError(f"only image files can be packed. Received: {data}, whose images are {source.kind}")
    return source


def _plan(sources: dict[str, EncodedSource], shards: int | None, shard_mb: float) -> dict[str, Any]:
    """-> fingerprint and number of shards of each split. A run continues only where these are equal."""
    train = sources["train"]
    if shards is None:
        sample = np.linspace(0, train.count - 1, min(SAMPLE, train.count)).astype(int)
        mean_bytes = np.mean([len(train._read_or_nothing(index)) for index in sample])
        shards = max(1, round(mean_bytes * train.count / (shard_mb * 1e6)))
    if not 1 <= shards <= train.count:
        raise ArgumentError(
            f"`shards` (--shards) must lie in 1..{train.count}, the number of training images. Received: {shards}"
        )
    share = shards / train.count
    return {
        split: {
            "fingerprint": source.fingerprint,
            "shards": shards if split == "train" else max(1, round(share * source.count)),
        }
        for split, source in sources.items()
    }


def _claim(out: Path, plan: dict[str, Any]) -> None:
    """Takes an empty folder, or continues the run in it, which may have been killed after its last step."""
    if (out / DESCRIPTION).is_file() and read_dataset_description(out).get("packed_from") == plan:
        return
    if (out / PLAN).is_file():
        with contextlib.suppress(ValueError, RecursionError):  # a damaged plan is none of this run
            if json.loads(read_text(out / PLAN)) == plan:
                remove_partial_files(out)
                return
        raise ArgumentError(
            f"{out} holds an unfinished `data pack` of other images or another number of shards. Remove the folder, or "
            "give another one"
        )
    plans = partial_files(out / PLAN)  # a run that was killed while it wrote its first file leaves one
    if any(path not in plans for path in out.iterdir()):
        raise ArgumentError(f"the folder to pack into must be new or empty, or hold an unfinished run. Received: {out}")
    remove_partial_files(out)
    write_whole(out / PLAN, json.dumps(plan).encode())


def _jobs(sources: dict[str, EncodedSource], plan: dict[str, Any]) -> list[ShardJob]:
    jobs = []
    for split, source in sources.items():
        count = plan[split]["shards"]
        parts = np.array_split(np.random.default_rng(SEED).permutation(source.count), count)
        jobs += [
            ShardJob(f"{split}-{number:05d}-of-{count:05d}.tfrecord", source, part) for number, part in enumerate(parts)
        ]
    return jobs


def _write_shards(jobs: Sequence[ShardJob], out: Path, workers: int | None, progress: ShardProgress) -> None:
    """Writes the shards in threads, which end at the next image if one of them fails or the user interrupts the run."""
    begun, stopped = threading.Event(), threading.Event()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            waiting = [pool.submit(_write_shard, job, out / job.name, begun, stopped) for job in jobs]
            begun.set()  # only now: a signal while a thread starts leaves a thread for which the pool does not wait
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                progress(done, len(jobs))
        except BaseException as error:
            stopped.set()
            begun.set()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, tf.errors.OpError):  # TensorFlow's own type for a full disk
                raise ArgumentError(
                    f"a shard can't be written to {out}: {reason(error)}. Finished shards stay; make room and give the "
                    "same command again"
                ) from error
            raise


def _write_shard(job: ShardJob, path: Path, begun: threading.Event, stopped: threading.Event) -> None:
    """Writes one shard, and its part of the index before the shard gets its name. An existing shard is kept."""
    begun.wait()
    if stopped.is_set() or (path.is_file() and _side(path).is_file()):
        return
    source = job.source
    records: list[tuple[int, ...]] = []  # values in the order of `columns`
    kind, classes = source.target, len(source.classes)
    columns = ("offset", "length", *kind.columns, "height", "width")
    counts = np.zeros(classes, np.int64)
    names, problems, position = [], [], 0
    with whole_file(path) as partial:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for index in job.indices.tolist():
                if stopped.is_set():
                    raise CancelledError
                with whole_image():
                    name, checked = source.name_of(index), check_image(source, index)
                    if checked.problem is not None:
                        problems.append(checked.problem)
                    if checked.encoded is None or checked.target is None:
                        continue
                    begin = position + _HEAD_BYTES
                    packed = kind.packed(checked.target)
                    record = _example(checked.encoded, name, **{kind.feature: _feature(packed)})
                    target = (begin + record.index(packed), len(packed)) if isinstance(packed, bytes) else (packed,)
                    counts += kind.counts(checked.target, classes)
                    records.append(
                        (begin + record.index(checked.encoded), len(checked.encoded), *target, *checked.size)
                    )
                    names.append(name)
                    writer.write(record)
                    position += _FRAME_BYTES + len(record)
        text, ends = names_to(names)
        arrays = {
            **dict(zip(columns, np.array(records, "int64").reshape(-1, len(columns)).T, strict=True)),
            "class_counts": counts,
            "names": text,
            "name_ends": ends,
            "problems": np.frombuffer(json.dumps([asdict(problem) for problem in problems]).encode(), np.uint8),
        }
        _write_arrays(_side(path), arrays)


def _of_bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _feature(value: bytes | int) -> tf.train.Feature:
    if isinstance(value, bytes):
        return _of_bytes(value)
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _example(encoded: bytes, name: str, **target: tf.train.Feature) -> bytes:
    features = {
        "image": _of_bytes(encoded),
        **target,
        "name": _of_bytes(name.encode("utf-8", "surrogateescape")),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _finish(
    out: Path,
    sources: dict[str, EncodedSource],
    jobs: list[ShardJob],
    data: str | os.PathLike[str],
    plan: dict[str, Any],
) -> None:
    """Joins the shards' parts of the index, and writes the index and `dataset.json`."""
    index: dict[str, np.ndarray] = {}
    splits: dict[str, Any] = {}
    sizes: list[np.ndarray] = []
    problems: list[Problem] = []
    for split, source in sources.items():
        files = [job.name for job in jobs if job.source is source]
        sides = [_arrays_in(_side(out / name)) for name in files]
        columns = ("offset", "length", *source.target.columns)
        joined = {key: np.concatenate([side[key] for side in sides]) for key in columns}
        names = [name for side in sides for name in names_from(side["names"], side["name_ends"])]
        joined["shard"] = np.repeat(np.arange(len(sides)), [len(side["offset"]) for side in sides])
        joined["names"], joined["name_ends"] = names_to(names)
        index |= {f"{split}_{key}": value for key, value in joined.items()}
        splits[split] = {
            "count": len(names),
            "class_counts": np.sum([side["class_counts"] for side in sides], axis=0).tolist(),
            "image_bytes": int(joined["length"].sum()),
            # fingerprint of the source that reads the shards
            "fingerprint": source.target.fingerprint(names, joined, len(source.classes)),
            "shards": [
                {"file": name, "count": len(side["offset"]), "bytes": (out / name).stat().st_size}
                for name, side in zip(files, sides, strict=True)
            ],
        }
        sizes += [np.stack([side["height"], side["width"]], 1) for side in sides]
        problems += [Problem(**entry) for side in sides for entry in json.loads(side["problems"].tobytes())]
    _write_arrays(out / INDEX, index)
    listed = sorted(problems, key=lambda problem: problem.name)
    description = {
        "format": FORMAT,
        "version": VERSION,
        "task": sources["train"].target.task,
        "source": os.fspath(data),
        "packed_from": plan,
        "classes": list(sources["train"].classes),
        "validation": f"held out: {HELD_OUT_RULE}" if sources["val"].held_out else "its own",
        "splits": splits,
        "pixels": percentiles(np.concatenate(sizes)),
        "unreadable": [{"name": each.name, "reason": each.reason} for each in listed if not each.used],
        "unusual": [{"name": each.name, "reason": each.reason} for each in listed if each.used],
    }
    write_whole(out / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())


def _clean(out: Path, jobs: list[ShardJob]) -> dict[str, Any]:
    """Removes the files that only an unfinished run needs -> content of `dataset.json`."""
    for path in (*(_side(out / job.name) for job in jobs), out / PLAN):
        path.unlink(missing_ok=True)
    return read_dataset_description(out)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with whole_file(path) as partial, partial.open("xb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _arrays_in(path: Path) -> dict[str, np.ndarray]:
    with Arrays(path) as archive:
        return {name: archive[name] for name in archive.names}


def _side(path: Path) -> Path:
    """Shard -> file beside it that holds its part of the index until all parts are joined."""
    return path.with_name(f".{path.name}.npz")
