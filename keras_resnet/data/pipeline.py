"""Source -> batches of pixels and targets, as a tf.data.Dataset.

A training batch is a pure function of the seed, the epoch and its number. A run that continues within an epoch
therefore starts at that batch, and decodes no earlier batch.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_resnet.data.arrays import ArraySource
from keras_resnet.data.augment import Augmentation
from keras_resnet.data.base import EncodedSource, Source
from keras_resnet.data.crop import (
    STICK_OUT,
    UNUSABLE,
    UNUSUAL,
    USED,
    Cropping,
    Interpolation,
    crop_any,
    crop_now,
    cropping_of,
    decode_any,
    describe_unusual,
    jpeg_cropper,
    pixels_of_part,
    resize_smoothly,
    to_uint8,
)
from keras_resnet.data.problems import Problems, reason_of
from keras_resnet.data.targets import check_augmentation
from keras_resnet.data.transforms import (
    CROP,
    MIXING,
    ROWS,
    mixing,
    row_layers,
    shift_and_flip,
    stream_key,
    uniform_draws,
)
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.untuned import untuned
from keras_resnet.variants import Contract
from keras_resnet.whole_images import whole_image

CHUNK = 16  # images that one call decodes in turn; as many calls run in parallel as there are cores
CORES = os.cpu_count() or 1  # parallel calls, fixed because tf.data's tuning delays the end of an epoch
READY = 2  # prefetched batches
RESCUES = 100  # number of images to try if a whole batch can't be read

do_not_convert = tf.autograph.experimental.do_not_convert  # AutoGraph would double tracing time

# For each row of each batch `[batches, B, ...]`: index, position in the epoch, random numbers `[3]`.
Elements = tuple[np.ndarray, np.ndarray, np.ndarray]


class Rows(NamedTuple):
    """Images on their way into a batch."""

    indices: tf.Tensor  # int64 `[n]`: places in the source
    positions: tf.Tensor  # int64 `[n]`: places in the epoch
    images: tf.Tensor  # uint8 `[n, size, size, 3]`
    targets: tf.Tensor  # int32 `[n]`, or uint8 `[n, size, size]`
    status: tf.Tensor  # int32 `[n]`: UNUSABLE, USED or UNUSUAL


def training_batches(
    source: Source,
    augmentation: Augmentation,
    *,
    size: int,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    worker: int = 0,
    workers: int = 1,
    problems: Problems,
    interpolation: Interpolation = "bilinear",
    class_weights: Sequence[float] | None = None,
) -> tf.data.Dataset:
    """Source, augmentation -> an epoch of (uint8 `[B, size, size, 3]`, float32 `[B, classes]`), shuffled.

    For a source with masks, an element is (uint8 `[B, size, size, 3]`, uint8 `[B, size, size]`), with the class of each
    pixel or `VOID`. With class weights, an element also has a weight for each image, float32 `[B]`: the mean weight of
    its classes, by their shares of the mixed label. B is `batch_size / workers`. A worker gets rows `worker`,
    `worker + workers`, ... of each batch. Batches do not depend on the number of workers, except that MixUp and CutMix
    mix only rows of one worker. An epoch has `source.count // batch_size` batches.

    An unreadable file is reported to `problems` and replaced by a copy of the next readable image of the worker's rows,
    or, if these have none, of the epoch.

    Args:
        size: Side of the images in pixels.
        batch_size: Number of images in a batch, over all workers.
        first_batch: Number of batches at the start of the epoch to skip, without decoding them.

    Raises:
        ArgumentError: The source has fewer images than a batch, the batch can't be divided among the workers, the class
            weights do not fit the classes, or the source's task does not have an augmentation.
    """
    _check_workers(batch_size, worker, workers)
    check_augmentation(source.target, augmentation)
    batches = source.count // batch_size
    if not batches:
        raise ArgumentError(
            f"{source.path}: its {source.count} {source.split} images are fewer than a batch; "
            f"lower `batch_size`. Received: batch_size={batch_size}"
        )
    if class_weights is not None and source.target.shares is None:
        raise ArgumentError(
            f"`class_weights` must be None for {source.target.title}; give them to the loss. Received: class_weights"
        )
    if class_weights is not None and len(class_weights) != len(source.classes):
        raise ArgumentError(
            f"`class_weights` must have one for each of the {len(source.classes)} classes. Received: {class_weights}"
        )
    order = source.order(seed, epoch)
    places = np.arange(batches * batch_size).reshape(batches, batch_size)[first_batch:, worker::workers]
    draws = uniform_draws(seed, epoch, batches * batch_size)
    elements = (order[places], places, draws[places])
    keys = {stream: stream_key(seed, epoch, stream) for stream in (CROP, ROWS, MIXING)}
    cropping = cropping_of(source.target, augmentation, size, interpolation)
    if isinstance(source, ArraySource):
        rows = _batches_of_arrays(source, augmentation, elements, keys, cropping)
    elif isinstance(source, EncodedSource):
        rows = _decoded_rows(source, augmentation, elements, keys, cropping)
        rows = _with_all_usable(rows, source, order, problems, cropping, keys[CROP])
    else:
        raise TypeError(f"`source` must come from `open_source`. Received: {source!r}")
    finish = _finish(source, augmentation, keys[MIXING], class_weights, (*places.shape[1:], size, size, 3), worker)
    return _ordered(rows.map(finish, num_parallel_calls=CORES).prefetch(READY))


def evaluation_batches(
    source: Source,
    contract: Contract,
    *,
    batch_size: int,
    problems: Problems,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Source, input contract -> (uint8 `[n, size, size, 3]`, float32 `[n, classes]`), each image once, in order.

    Pixels are equal to the result of `preprocessing.load_image`. n is `batch_size / workers`, and less in the last
    batch. Worker w gets the images w, w + `workers`, ... An unreadable image is reported to `problems` and left out.

    A source with masks takes a `WholeImage` as its contract, and yields (uint8 `[n, H, W, 3]`, uint8 `[n, H, W]`).
    If the images keep their own sizes, n is 1.
    """
    _check_workers(batch_size, worker, workers)
    elements = tf.data.Dataset.range(source.count).shard(workers, worker)
    rows = batch_size // workers
    if isinstance(source, EncodedSource):
        loaded = _loaded_files(source, contract, elements, problems)
        batches = loaded.batch(rows if loaded.element_spec[0].shape.is_fully_defined() else 1)
    elif isinstance(source, ArraySource):
        batches = _loaded_arrays(source, contract, elements.batch(rows))
    else:
        raise TypeError(f"`source` must come from `open_source`. Received: {source!r}")

    shares = source.target.shares

    @do_not_convert
    def finish(pixels: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return pixels, targets if shares is None else shares(targets, len(source.classes))

    return _ordered(batches.map(finish).prefetch(READY))


def _check_workers(batch_size: int, worker: int, workers: int) -> None:
    if batch_size % workers or not 0 <= worker < workers:
        raise ArgumentError(
            f"`batch_size` must be a multiple of `workers`, and 0 <= worker < workers. "
            f"Received: batch_size={batch_size}, worker={worker}, workers={workers}"
        )


def _loaded_files(
    source: EncodedSource, contract: Contract, elements: tf.data.Dataset, problems: Problems
) -> tf.data.Dataset:
    """Dataset of indices -> dataset of (uint8 `[H, W, 3]`, target), without unreadable images."""
    height, width = contract.sides
    nothing = np.zeros((height or 1, width or 1, 3), np.uint8)
    kind = source.target

    def load(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.bool_]:
        name = source.name_of(int(index))
        try:
            with whole_image():
                decoded = source.decode(int(index))
                pixels, shown = source.prepare(decoded, contract)
        except ImageError as error:
            problems.add(name, reason_of(error), used=False)
            return nothing, np.zeros(kind.shape(*nothing.shape[:2]), kind.dtype), np.False_
        notes = describe_unusual(decoded.encoded)
        if notes:
            problems.add(name, notes, used=True)
        return pixels, shown, np.True_

    @do_not_convert
    def one(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        pixels, shown, usable = tf.numpy_function(load, [index], (tf.uint8, kind.dtype, tf.bool))
        shown = tf.ensure_shape(shown, kind.shape(height, width))
        return tf.ensure_shape(pixels, [height, width, 3]), shown, tf.ensure_shape(usable, [])

    @do_not_convert
    def is_usable(pixels: tf.Tensor, shown: tf.Tensor, usable: tf.Tensor) -> tf.Tensor:
        return usable

    @do_not_convert
    def without_usable(pixels: tf.Tensor, shown: tf.Tensor, usable: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return pixels, shown

    loaded = elements.map(one, num_parallel_calls=CORES)
    return loaded.filter(is_usable).map(without_usable)


def _loaded_arrays(source: ArraySource, contract: Contract, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Dataset of indices -> dataset of (uint8 `[n, size, size, 3]`, labels)."""
    source.target.fit(source.labels, contract)  # raises if the contract is for another task

    def load(indices: np.ndarray) -> np.ndarray:
        return np.stack([source.load(index, contract) for index in indices])

    @do_not_convert
    def batch(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.numpy_function(load, [indices], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, [None, *contract.sides, 3]), source.locate_targets(indices)

    return batches.map(batch, num_parallel_calls=CORES)


def _ordered(batches: tf.data.Dataset) -> tf.data.Dataset:
    """-> dataset of the same batches, always in the same order."""
    options = tf.data.Options()
    options.deterministic = True
    # The caller gives each device its part of a batch, so that TensorFlow must not divide the batches again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return untuned(batches.with_options(options))


def _batches_of_arrays(
    source: ArraySource, augmentation: Augmentation, elements: Elements, keys: dict[int, int], cropping: Cropping
) -> tf.data.Dataset:
    """Arrays of images of one size, which need no decoding -> batches of `Rows`, each made in one step."""
    size, interpolation = cropping.size, cropping.interpolation
    pixels = tf.TensorSpec([size, size, 3], tf.uint8)

    @do_not_convert
    def batch(indices: tf.Tensor, positions: tf.Tensor, draws: tf.Tensor) -> Rows:
        def part(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            box = cropping.window(tf.constant(height), tf.constant(width), tf.stack([keys[CROP], row[1]]))
            return resize_smoothly(pixels_of_part(row[0], box, cropping.sticks_out), size, interpolation)

        images = source.pixels(indices)
        height, width = images.shape[1:3]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        if augmentation.crop in ("resized", *STICK_OUT):
            images = tf.map_fn(part, (images, positions), fn_output_signature=pixels)
        else:
            images = images[:, top : top + side, left : left + side]
            images = images if side == size else resize_smoothly(images, size, interpolation)
        images = shift_and_flip(images, draws, augmentation)
        images = _augmented(images, positions, augmentation, keys[ROWS])
        return Rows(indices, positions, images, source.locate_targets(indices), tf.fill(tf.shape(indices), USED))

    return tf.data.Dataset.from_tensor_slices(elements).map(batch, num_parallel_calls=CORES)


def _decoded_rows(
    source: EncodedSource, augmentation: Augmentation, elements: Elements, keys: dict[int, int], cropping: Cropping
) -> tf.data.Dataset:
    """Encoded images -> batches of `Rows`.

    An image that fails is dropped from its chunk and decoded again by Pillow, which decides whether it is usable.
    tf.data catches errors only for whole datasets; a dataset for each image would cost a tenth of the decoding time.
    """
    crop_jpeg, moved = jpeg_cropper(cropping), _moved(augmentation, cropping)
    size, target_spec = cropping.size, cropping.target.spec(cropping.size)

    @do_not_convert
    def chunk(indices: tf.Tensor, positions: tf.Tensor, draws: tf.Tensor) -> tf.data.Dataset:
        @do_not_convert
        def one(
            row: tf.Tensor, located: tf.Tensor, target: tf.Tensor, position: tf.Tensor, draws: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            encoded, seed = source.fetch(located), tf.stack([keys[CROP], position])
            pixels, target, status = crop_jpeg(encoded, source.fetch_target(target), seed)
            return row, *moved(pixels, target, draws), status

        rows = tf.range(tf.size(indices))
        located = source.locate(indices), source.locate_targets(indices)
        images = tf.data.Dataset.from_tensor_slices((rows, *located, positions, draws))
        done = images.map(one).ignore_errors(log_warning=False).batch(CHUNK)
        no_targets = tf.zeros([0, *target_spec.shape], target_spec.dtype)
        nothing = rows[:0], tf.zeros([0, size, size, 3], tf.uint8), no_targets, rows[:0]
        done = done.concatenate(tf.data.Dataset.from_tensors(nothing)).take(1)
        return done.map(do_not_convert(lambda *done: (indices, positions, draws, *done)))

    @do_not_convert
    def complete(
        indices: tf.Tensor,
        positions: tf.Tensor,
        draws: tf.Tensor,
        rows: tf.Tensor,
        *done: tf.Tensor,  # images, targets, status
    ) -> Rows:
        def late(row: tf.Tensor) -> tuple[tf.Tensor, ...]:
            pixels, target, status = crop_any(source, indices[row], tf.stack([keys[CROP], positions[row]]), cropping)
            return *moved(pixels, target, draws[row]), status

        def with_late() -> tuple[tf.Tensor, ...]:
            dropped = tf.sets.difference(tf.range(tf.size(indices))[None], rows[None]).values
            signature = (tf.TensorSpec([size, size, 3], tf.uint8), target_spec, tf.TensorSpec([], tf.int32))
            late_done = tf.map_fn(late, dropped, fn_output_signature=signature)
            return tuple(
                tf.dynamic_stitch([rows, dropped], [early, late]) for early, late in zip(done, late_done, strict=True)
            )

        all_done = tf.size(rows) == tf.size(indices)
        images, targets, status = tf.cond(all_done, lambda: done, with_late)
        return Rows(indices, positions, _augmented(images, positions, augmentation, keys[ROWS]), targets, status)

    flat = tuple(part.reshape(-1, *part.shape[2:]) for part in elements)
    decoded = (
        tf.data.Dataset.from_tensor_slices(flat)
        .batch(CHUNK)
        .interleave(
            chunk,
            cycle_length=CORES,
            block_length=1,
            num_parallel_calls=CORES,
            deterministic=True,
        )
    )
    completed = decoded.map(complete, num_parallel_calls=CORES)
    return completed.rebatch(elements[0].shape[1], drop_remainder=True)


@functools.cache  # traced once in a process, and not in every epoch
def _moved(augmentation: Augmentation, cropping: Cropping) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """-> function: (cropped pixels, target, random numbers `[3]`) -> shifted and mirrored pixels and target."""
    size, kind = cropping.size, cropping.target
    target_shape = kind.spec(size).shape

    @tf.function(autograph=False)
    def moved(pixels: tf.Tensor, target: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, target = tf.ensure_shape(pixels, [size, size, 3]), tf.ensure_shape(target, target_shape)
        if augmentation.crop == "padded":  # no target with places has this crop
            return shift_and_flip(pixels[None], draws[None], augmentation)[0], target
        if augmentation.flip:
            return tf.cond(
                draws[2] < 0.5, lambda: (tf.reverse(pixels, [1]), kind.mirrored(target)), lambda: (pixels, target)
            )
        return pixels, target

    return moved


def _augmented(images: tf.Tensor, positions: tf.Tensor, augmentation: Augmentation, key: int) -> tf.Tensor:
    """uint8 `[n, size, size, 3]`, places in the epoch, key of the seeds -> images, each augmented on its own."""
    layers = row_layers(augmentation)
    if layers is None:
        return images

    def one(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return layers(row[0][None], tf.stack([key, row[1]]))[0]

    return tf.map_fn(one, (images, positions), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.uint8))


def _with_all_usable(
    batches: tf.data.Dataset,
    source: EncodedSource,
    order: np.ndarray,
    problems: Problems,
    cropping: Cropping,
    key: int,
) -> tf.data.Dataset:
    """Batches of `Rows` -> batches with copies instead of unreadable images, which are reported."""

    def next_usable(position: int) -> int | None:
        for place in range(position + 1, position + 1 + RESCUES):
            index = int(order[place % len(order)])
            try:
                source.decode(index)
            except ImageError:
                continue
            return index
        return None

    def replaced(
        indices: np.ndarray, positions: np.ndarray, images: np.ndarray, targets: np.ndarray, status: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """-> indices, images and targets; unreadable and unusual images are reported."""
        for index, what in zip(indices.tolist(), status.tolist(), strict=True):
            if what == UNUSABLE:
                _report_unusable(source, index, problems)
            elif what == UNUSUAL:
                _report_unusual(source, index, problems)
        usable = np.flatnonzero(status != UNUSABLE)
        if usable.size:
            # A usable row keeps its place; an unusable row takes the place of the next usable one.
            chosen = usable[np.searchsorted(usable, np.arange(len(indices))) % usable.size]
            return indices[chosen], images[chosen], targets[chosen]
        index = next_usable(int(positions[-1]))
        index = int(indices[0]) if index is None else index
        with whole_image():
            whole, target, _ = decode_any(source, index, cropping)
            pixels, target = crop_now(whole, target, np.array([key, positions[0]]), cropping)
        return tuple(np.stack([part] * len(indices)) for part in (np.int64(index), pixels, target))

    @do_not_convert
    def all_usable(rows: Rows) -> Rows:
        def with_copies() -> Rows:
            kept = rows.indices, rows.images, rows.targets
            found = tf.numpy_function(replaced, [*rows], [part.dtype for part in kept])
            found = (tf.ensure_shape(part, own.shape) for part, own in zip(found, kept, strict=True))
            indices, images, targets = found
            return Rows(indices, rows.positions, images, targets, rows.status)

        return tf.cond(tf.reduce_all(rows.status == USED), lambda: rows, with_copies)

    return batches.map(all_usable, num_parallel_calls=CORES)


def _report_unusable(source: EncodedSource, index: int, problems: Problems) -> None:
    name = source.name_of(index)
    if not problems.knows(name):
        try:
            source.decode(index)
            reason = "it could not be read at first, but at a second attempt"
        except ImageError as error:
            reason = reason_of(error)
        problems.add(name, reason, used=False)


def _report_unusual(source: EncodedSource, index: int, problems: Problems) -> None:
    name = source.name_of(index)
    if not problems.knows(name):
        try:
            problems.add(name, describe_unusual(source.read(index)), used=True)
        except ImageError as error:  # the file could be read a moment ago
            problems.add(name, reason_of(error), used=True)


def _finish(
    source: Source,
    augmentation: Augmentation,
    key: int,
    class_weights: Sequence[float] | None,
    shape: tuple[int, ...],
    worker: int,
) -> Callable[..., tuple[tf.Tensor, ...]]:
    """-> function that makes an element of the dataset from the `Rows` of a batch, whose images have that shape."""
    with tf.device("CPU"):
        weights = None if class_weights is None else tf.constant(class_weights, tf.float32)[:, None]
    classes, mix = len(source.classes), mixing(augmentation)
    smoothing, shares = augmentation.label_smoothing, source.target.shares

    @do_not_convert
    def finish(rows: Rows) -> tuple[tf.Tensor, ...]:
        images = tf.ensure_shape(rows.images, shape)
        if shares is None:
            return images, rows.targets
        soft = tf.ensure_shape(shares(rows.targets, classes), [shape[0], classes])
        if mix is not None:
            seed = tf.random.fold_in(tf.stack([tf.constant(key, tf.int64), rows.positions[0]]), worker)
            mixed = mix({"images": tf.cast(images, tf.float32), "labels": soft}, seed)
            images, soft = to_uint8(mixed["images"]), mixed["labels"]
        smooth = soft * (1 - smoothing) + smoothing / classes if smoothing else soft
        return (images, smooth) if weights is None else (images, smooth, (soft @ weights)[:, 0])

    return finish
