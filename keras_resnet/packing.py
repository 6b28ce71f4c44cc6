"""Images as users name them -> TFRecord shards, which training reads faster and in any order."""

import os
from typing import Any

from keras_resnet.data.pack import SHARD_MB, ShardProgress, pack_sources
from keras_resnet.data.reading import PLAIN, Reading
from keras_resnet.tasks.sources import open_source


def pack(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shards: int | None = None,
    shard_mb: float = SHARD_MB,
    workers: int | None = None,
    reading: Reading = PLAIN,
    task: str | None = None,
    progress: ShardProgress = lambda done, total: None,
) -> dict[str, Any]:
    """Image files, folder -> TFRecord shards in that folder, and the content of `dataset.json`.

    Each record is a `tf.train.Example` with `image` (the file's bytes), `label` (int64) and `name`. Records with masks
    have `mask` instead of the label, an 8-bit PNG file of classes, 255 where there is no class. Every image is decoded
    once; unreadable images are left out and listed. If the data has no validation split, the images that training would
    hold out become the validation split.

    Args:
        data: Data as `open_source` takes it, except for arrays and shards.
        shards: Number of training shards. Validation shards have about the same size.
        shard_mb: Size of a shard in megabytes, if the number of shards is not given.
        workers: Number of threads; None: one for each core.
        reading: As `open_source` takes it.
        task: Task that the images are for, as `open_source` takes it.

    Raises:
        ArgumentError: The data has no files, or the folder holds other files.
    """
    opened = {split: open_source(data, split, reading=reading, task=task) for split in ("train", "val")}
    return pack_sources(opened, data, out, shards=shards, shard_mb=shard_mb, workers=workers, progress=progress)
