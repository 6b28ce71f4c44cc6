"""tf.data pipelines whose iterators end with their last element."""

from typing import Any


def untuned(dataset: Any) -> Any:
    """tf.data.Dataset -> the same elements, without the thread that tunes the pipeline's degrees of parallelism.

    That thread sleeps for 10 ms, then for twice as long as before, up to a minute. Whoever drops the iterator waits
    until it wakes up: at the end of each `fit` and `evaluate`, as long as the steps took in the worst case.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    # Rewriting the pipeline's graph takes longer than making it, and finds nothing: what is to be parallel says so.
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def batches_of_arrays(images: Any, targets: Any, batch_size: int) -> Any:
    """Arrays `[N, ...]` -> dataset of their batches, in order, for `fit` and `evaluate`."""
    import tensorflow as tf

    return untuned(tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch_size).prefetch(1))
