"""Trained model -> model whose kernels hold few different values (Han et al. 2015, arXiv 1510.00149)."""

from typing import Any

import keras

from keras_resnet.compress.legacy import batched, carry_back, legacy_packages, train_wrapped


def cluster(
    model: keras.Model, data: Any, *, clusters: int = 16, epochs: int = 3, learning_rate: float = 1e-4
) -> keras.Model:
    """Classifier `[N, H, W, C]` -> `[N, classes]`, labelled images -> copy with clustered kernels, trained further.

    Each kernel of a convolution or dense layer holds at most `clusters` values, which start as its k-means and are then
    trained. A file gets smaller only when it is compressed.

    Args:
        model: A trained network of this package.
        data: (pixels `[N, H, W, C]`, integer labels `[N]`), or a tf.data.Dataset of batches of both.
        clusters: Largest number of different values in a kernel, at least 2.
        epochs: Number of passes over the data.
        learning_rate: Learning rate of Adam.

    Raises:
        ValueError: The model has a layer that can't be clustered, or an argument is out of its range.
        MissingDependencyError: The packages of the extra `qat` are not installed.
    """
    if clusters < 2:
        raise ValueError(f"`clusters` must be at least 2. Received: clusters={clusters!r}")
    tfmot = legacy_packages().tfmot.clustering.keras
    start = tfmot.CentroidInitialization.KMEANS_PLUS_PLUS
    twin = train_wrapped(
        model,
        lambda layer: tfmot.cluster_weights(layer, number_of_clusters=clusters, cluster_centroids_init=start),
        batched(data),
        epochs=epochs,
        learning_rate=learning_rate,
    )
    return carry_back(tfmot.strip_clustering(twin), model)
