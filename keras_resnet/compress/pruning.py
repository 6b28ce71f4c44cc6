"""Trained model -> model with most of its weights zero (Zhu & Gupta 2017, arXiv 1710.01878)."""

from typing import Any

import keras

from keras_resnet.compress.legacy import batched, carry_back, legacy_packages, train_wrapped

DEFAULT_SPARSITY = 0.8
PRUNED_AFTER = 0.75  # share of the steps until pruning ends; the later steps restore accuracy
UPDATES = 100  # number of updates of the mask during the run


def prune(
    model: keras.Model,
    data: Any,
    *,
    sparsity: float | None = None,
    pattern: str | None = None,
    epochs: int = 10,
    learning_rate: float = 1e-4,
) -> keras.Model:
    """Classifier `[N, H, W, C]` -> `[N, classes]`, labelled images -> copy with sparse kernels, trained further.

    The smallest weights of each kernel become zero, more and more of them over three quarters of the run. With pattern
    "2:4", two of each four neighbours along the input channels are zero from the first step, as sparse matrix units
    require. A file gets smaller only when it is compressed.

    Args:
        model: A trained network of this package.
        data: (pixels `[N, H, W, C]`, integer labels `[N]`), or a tf.data.Dataset of batches of both.
        sparsity: Share of zeros in each kernel. Default 0.8; leave it out for "2:4", whose share is 0.5.
        pattern: None or "2:4".
        epochs: Number of passes over the data.
        learning_rate: Learning rate of Adam.

    Raises:
        ValueError: The model has a layer that can't be pruned, or an argument is out of its range.
        MissingDependencyError: The packages of the extra `qat` are not installed.
    """
    if pattern not in (None, "2:4"):
        raise ValueError(f"`pattern` must be None or '2:4'. Received: pattern={pattern!r}")
    if pattern is not None and sparsity is not None:
        raise ValueError(f"`sparsity` must be left out with pattern '2:4' (it is 0.5). Received: sparsity={sparsity!r}")
    sparsity = DEFAULT_SPARSITY if sparsity is None else sparsity
    if not 0 < sparsity < 1:
        raise ValueError(f"`sparsity` must be between 0 and 1. Received: sparsity={sparsity!r}")
    tfmot = legacy_packages().tfmot.sparsity.keras
    data = batched(data)
    steps = epochs * int(data.cardinality())
    frequency = max(1, steps // UPDATES)
    end = max(1, int(PRUNED_AFTER * steps) // frequency) * frequency  # the last update comes at the end
    if pattern is None:
        schedule = tfmot.PolynomialDecay(0.0, sparsity, begin_step=0, end_step=end, frequency=frequency)
    else:
        schedule = tfmot.ConstantSparsity(0.5, begin_step=0, end_step=end, frequency=frequency)
    twin = train_wrapped(
        model,
        lambda layer: tfmot.prune_low_magnitude(
            layer, pruning_schedule=schedule, sparsity_m_by_n=None if pattern is None else (2, 4)
        ),
        data,
        epochs=epochs,
        learning_rate=learning_rate,
        callbacks=[tfmot.UpdatePruningStep()],
    )
    return carry_back(tfmot.strip_pruning(twin), model)
