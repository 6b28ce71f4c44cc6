"""A training batch is a function of the seed, the epoch and its number, whoever computes it."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from few_images import EVERYTHING, PADDED, PLAIN, STILL, TRAINED, UNMIXED, assert_equal, batches, digest, known

from keras_resnet.data import transforms
from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.sources import open_source

ENTERED = {
    "files": ("folder", PLAIN),
    "files, everything": ("folder", EVERYTHING),
    "arrays": ("archive", PLAIN),
    "arrays, padded": ("archive", PADDED),
}
SHARED = {
    "files": ("folder", PLAIN),
    "files, layers": ("folder", UNMIXED),
    "arrays, layers": ("archive", UNMIXED),
    "arrays, padded": ("archive", PADDED),
}


def test_what_others_draw_is_left_alone(folder):
    """Neither when the layers are made nor when they are called; the first test, since the others need them too."""
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    for cached in (transforms._rand_augment, transforms._colour_jitter, transforms._erasing):
        cached.cache_clear()
    batches(open_source(folder, "train"), EVERYTHING)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


@pytest.mark.parametrize(("data", "augmentation"), ENTERED.values(), ids=ENTERED)
def test_an_epoch_can_be_entered_at_any_batch(data, augmentation, request):
    source = open_source(request.getfixturevalue(data), "train")
    whole = batches(source, augmentation, class_weights=[1.0, 2.0, 3.0])
    assert len(whole) == 5
    assert_equal(whole[3:], batches(source, augmentation, class_weights=[1.0, 2.0, 3.0], first_batch=3))


def test_seed_and_epoch_change_order_and_pixels(source):
    whole = known(source.path)
    assert_equal(whole, batches(source))
    for other in (batches(source, epoch=3), batches(source, seed=6)):
        assert (whole[0][0] != other[0][0]).mean() > 0.5
        assert any((a[1] != b[1]).any() for a, b in zip(whole, other, strict=True))


@pytest.mark.parametrize(("data", "augmentation"), SHARED.values(), ids=SHARED)
def test_workers_share_each_batch(data, augmentation, request):
    source = open_source(request.getfixturevalue(data), "train")
    whole = known(source.path, augmentation)
    for worker, workers in ((1, 2), (2, 4)):
        part = batches(source, augmentation, worker=worker, workers=workers)
        assert_equal([(x[worker::workers], y[worker::workers]) for x, y in whole], part)


def test_workers_mix_within_their_parts_and_differently(source):
    mixed = Augmentation(crop="none", flip=False, mixup_alpha=1.0)
    first, second = (batches(source, mixed, worker=worker, workers=2)[0] for worker in (0, 1))
    assert first[0].shape == (4, 32, 32, 3)
    assert not np.array_equal(np.sort(first[1].max(axis=1)), np.sort(second[1].max(axis=1)))


def test_an_epoch_has_each_image_once(source):
    """Told apart by their mean colours, which neither flips nor shifts of nothing change."""
    seen = np.concatenate([images for images, _ in known(source.path, STILL)]).reshape(TRAINED, -1)
    assert len(np.unique(seen, axis=0)) == TRAINED
    one_by_one = np.concatenate([images for images, _ in known(source.path, STILL, batch_size=1)])
    rest = {image.tobytes() for image in one_by_one} - {image.tobytes() for image in seen}
    assert len(rest) == source.count - TRAINED < 8


def test_labels_belong_to_their_images(source):
    by_image = {
        image.tobytes(): label
        for images, labels in known(source.path, STILL)
        for image, label in zip(images, labels, strict=True)
    }
    for images, labels in batches(source, STILL, seed=9, batch_size=5):
        for image, label in zip(images, labels, strict=True):
            if image.tobytes() in by_image:
                np.testing.assert_array_equal(by_image[image.tobytes()], label)
    counts = np.sum([labels.sum(axis=0) for _, labels in known(source.path, STILL, batch_size=1)], axis=0)
    np.testing.assert_array_equal(counts, source.class_counts)


def test_an_epoch_that_is_over_has_no_batch_left(source):
    assert batches(source, first_batch=5) == []


def test_smoothing_and_class_weights(source):
    plain = batches(source, Augmentation(mixup_alpha=0.5))
    smooth = batches(source, Augmentation(mixup_alpha=0.5, label_smoothing=0.3), class_weights=[0.5, 1.0, 4.0])
    for (_, shares), (_, labels, weights) in zip(plain, smooth, strict=True):
        np.testing.assert_allclose(labels, shares * 0.7 + 0.1, atol=1e-6)
        np.testing.assert_allclose(weights, shares @ [0.5, 1.0, 4.0], rtol=1e-6)


def test_elements_have_shapes_that_a_step_can_be_compiled_for(source):
    dataset = training_batches(
        source, EVERYTHING, size=32, batch_size=8, seed=0, epoch=0, problems=Problems(0), class_weights=[1.0] * 3
    )
    assert [part.shape.as_list() for part in dataset.element_spec] == [[8, 32, 32, 3], [8, 3], [8]]
    assert [part.dtype for part in dataset.element_spec] == [tf.uint8, tf.float32, tf.float32]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 64}, "fewer than a batch"),
        ({"batch_size": 9, "workers": 2}, "multiple of `workers`"),
        ({"class_weights": [1.0]}, "one for each of the 3 classes"),
    ],
)
def test_what_can_not_be_is_said(options, message, source):
    with pytest.raises(ArgumentError, match=message):
        batches(source, **options)


JOB = """
import hashlib, sys
sys.path.insert(0, {tests!r})
import keras
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
keras.config.set_dtype_policy("mixed_bfloat16")
from few_images import digest
from keras_resnet.tasks.sources import open_source
print(keras.backend.backend(), digest(open_source({folder!r}, "train")))
"""


def test_neither_backend_nor_policy_nor_determinism_change_a_bit(folder):
    pytest.importorskip("jax")
    code = JOB.format(tests=str(Path(__file__).parent), folder=str(folder))
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["jax", digest(open_source(folder, "train"))]
