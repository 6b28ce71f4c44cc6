"""What augmentation does to pixels and labels, and how often."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from few_images import STILL, batches, known

from keras_resnet.data.augment import Augmentation
from keras_resnet.data.transforms import _rand_augment, mixing
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.sources import open_source


def test_mixtures_are_of_the_images_of_their_labels(archive):
    source = open_source(archive, "train")
    plain = known(source.path, STILL)
    mixed = batches(source, Augmentation(crop="none", flip=False, mixup_alpha=1.0))
    for (images, labels), (soft, shares) in zip(plain, mixed, strict=True):
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
        for image, share in zip(soft, shares, strict=True):
            # The least squares solution in the batch's images tells which two they were, and how much of each.
            basis = images.reshape(8, -1).T.astype(float)
            weights = np.linalg.lstsq(basis, image.ravel().astype(float), rcond=None)[0]
            np.testing.assert_allclose(weights @ labels, share, atol=0.01)
            assert (np.abs(weights) > 0.01).sum() <= 2


def test_pasted_areas_are_of_the_images_of_their_labels(archive):
    source = open_source(archive, "train")
    plain = known(source.path, STILL)
    mixed = batches(source, Augmentation(crop="none", flip=False, cutmix_alpha=1.0))
    pasted = 0
    for (images, labels), (cut, shares) in zip(plain, mixed, strict=True):
        for row, image in enumerate(cut):
            same = np.array([(image == other).all(axis=-1) for other in images])  # [8, 32, 32]
            assert same.any(axis=0).all()
            assert (same.sum(axis=(1, 2)) > 0).sum() <= 2
            foreign = same.sum(axis=(1, 2)) * (np.arange(8) != row) / 32**2
            wanted = foreign @ labels + (1 - foreign.sum()) * labels[row]
            np.testing.assert_allclose(shares[row], wanted, atol=2 / 32)  # the layer's area is not in whole pixels
            pasted += foreign.sum() > 0.05
    assert pasted > 10


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("way", ["mixup_alpha", "cutmix_alpha"])
def test_shares_are_distributed_as_alpha_says(way, alpha):
    """Beta(alpha, alpha) has a variance of 1 / (8 alpha + 4)."""
    count = 2000
    batch = {"images": tf.random.stateless_uniform([count, 16, 16, 3], [1, 2]), "labels": tf.eye(count)}
    mix = tf.function(mixing(Augmentation(**{way: alpha})))
    shares = tf.linalg.diag_part(mix(batch, tf.constant([3, 4], tf.int64))["labels"]).numpy()
    assert abs(shares.mean() - 0.5) < 0.04
    assert abs(shares.var() * (8 * alpha + 4) - 1) < 0.1


def test_each_batch_is_mixed_one_way_of_the_two(archive):
    source = open_source(archive, "train")
    both = Augmentation(crop="none", flip=False, mixup_alpha=1.0, cutmix_alpha=1.0)
    kinds = set()
    for epoch in (2, 3):
        plain = known(source.path, STILL, epoch=epoch)
        for (images, _), (mixed, _) in zip(plain, batches(source, both, epoch=epoch), strict=True):
            unmixed = np.array([[(image == other).all(axis=-1) for other in images] for image in mixed]).any(axis=1)
            kinds.add("cutmix" if unmixed.all() else "mixup")
    assert kinds == {"cutmix", "mixup"}


def test_erasing_fills_a_rectangle_of_as_many_images_as_asked(archive):
    source = open_source(archive, "train")
    plain = known(source.path, STILL)
    erased = batches(source, Augmentation(crop="none", flip=False, erasing_probability=0.5))
    images, others = (np.concatenate([x for x, _ in part]) for part in (plain, erased))
    changed = (images != others).any(axis=-1)
    assert 10 <= changed.any(axis=(1, 2)).sum() <= 30
    np.testing.assert_array_equal(others[changed], np.broadcast_to([124, 116, 104], others[changed].shape))


def test_each_image_draws_its_own_operations(folder):
    """RandAugment at most moves an image: which of eleven ways, its neighbours in the batch do not share."""
    still = {"crop": "none", "flip": False}
    source = open_source(folder, "train")
    plain = np.concatenate([x for x, _ in known(source.path, STILL)])
    moved = batches(source, Augmentation(**still, randaugment_operations=1, randaugment_magnitude=0.6))
    changes = np.abs(plain.astype(int) - np.concatenate([x for x, _ in moved])).mean(axis=(1, 2, 3))
    assert len(np.unique(changes[:8].round(1))) >= 5
    assert changes.mean() > 5


def test_colour_jitter_goes_both_ways(folder):
    still = {"crop": "none", "flip": False}
    source = open_source(folder, "train")
    plain = np.concatenate([x for x, _ in known(source.path, STILL)]).astype(float)
    jittered = np.concatenate([x for x, _ in batches(source, Augmentation(**still, colour_jitter=0.4))]).astype(float)
    for measure in (np.mean, np.std):
        change = measure(jittered, axis=(1, 2, 3)) - measure(plain, axis=(1, 2, 3))
        assert (change > 1).sum() >= 5
        assert (change < -1).sum() >= 5


def test_equalization_counts_as_keras_does():
    pixels = np.random.default_rng(0).integers(0, 200, (1, 40, 50, 3)).astype("float32")
    step = _rand_augment(0.0)  # at no strength, but equalization has none
    results = [step(tf.constant(pixels), tf.constant([1, seed], tf.int64)).numpy() for seed in range(60)]
    wanted = np.asarray(keras.layers.Equalization()(pixels))
    assert np.abs(wanted - pixels).mean() > 5
    assert any(np.array_equal(result, wanted) for result in results)


def test_an_alpha_that_keras_does_not_take_is_said(source):
    with pytest.raises(ArgumentError, match="cutmix_alpha"):
        batches(source, Augmentation(cutmix_alpha=1.5))
