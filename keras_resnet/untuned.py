"""tf.data pipelines whose iterators end without waiting for tf.data's tuning thread."""

from typing import Any


def untuned(dataset: Any) -> Any:
    """tf.data.Dataset -> dataset of its elements, without the thread that tunes the pipeline's parallelism.

    That thread sleeps for 10 ms, then for twice as long each time, up to a minute. Dropping the iterator waits until
    the thread wakes up. At the end of `fit` or `evaluate`, the wait is in the worst case as long as all steps took.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    # Optimizing the pipeline's graph takes longer than building it, and finds nothing: parallel steps are declared.
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def batches_of_arrays(images: Any, targets: Any, batch_size: int) -> Any:
    """Arrays `[N, ...]` -> dataset of their batches in order, for `fit` and `evaluate`."""
    import tensorflow as tf

    return untuned(tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch_size).prefetch(1))
