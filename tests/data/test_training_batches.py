"""A training batch is a function of the seed, the epoch and its number; its pixels are what they should be."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import decoded, jpeg, picture, write_folder
from PIL import Image

from keras_resnet.data import transforms
from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.data.sources import open_source
from keras_resnet.data.transforms import _rand_augment, mixing
from keras_resnet.errors import ArgumentError, ImageError

COUNTS = {"ant": 14, "bee": 22, "cow": 9}
TRAINED = 40  # of these 45: 1, 2 and 1 are held out, and one more that completes no batch is left out

PLAIN = Augmentation()
EVERYTHING = Augmentation(
    randaugment_operations=1,
    randaugment_magnitude=0.5,
    colour_jitter=0.3,
    erasing_probability=0.5,
    mixup_alpha=0.4,
    cutmix_alpha=1.0,
    label_smoothing=0.1,
)
UNMIXED = Augmentation(randaugment_operations=1, randaugment_magnitude=0.4, colour_jitter=0.3, erasing_probability=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), COUNTS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "small.npz"
    draw = np.random.default_rng(3)
    np.savez(path, x_train=draw.integers(0, 256, (45, 32, 32, 3), np.uint8), y_train=draw.integers(0, 3, 45))
    return path


@pytest.fixture(params=["folder", "archive"])
def source(request):
    return open_source(request.getfixturevalue(request.param), "train")


def batches(source, augmentation=PLAIN, problems=None, **options):
    options = {"size": 32, "batch_size": 8, "seed": 5, "epoch": 2, "problems": problems or Problems(0)} | options
    return [tuple(part.numpy() for part in element) for element in training_batches(source, augmentation, **options)]


def assert_equal(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


PADDED = Augmentation(crop="padded")
CASES = [("folder", PLAIN), ("folder", EVERYTHING), ("archive", PLAIN), ("archive", PADDED)]
CASE_NAMES = ["files", "files, everything", "arrays", "arrays, padded"]


@pytest.mark.parametrize(("data", "augmentation"), CASES, ids=CASE_NAMES)
def test_an_epoch_can_be_entered_at_any_batch(data, augmentation, request):
    source = open_source(request.getfixturevalue(data), "train")
    whole = batches(source, augmentation, class_weights=[1.0, 2.0, 3.0])
    assert len(whole) == 5
    assert_equal(whole[3:], batches(source, augmentation, class_weights=[1.0, 2.0, 3.0], first_batch=3))


def test_seed_and_epoch_change_order_and_pixels(source):
    whole = batches(source)
    assert_equal(whole, batches(source))
    for other in (batches(source, epoch=3), batches(source, seed=6)):
        assert (whole[0][0] != other[0][0]).mean() > 0.5
        assert any((a[1] != b[1]).any() for a, b in zip(whole, other, strict=True))


CASES = [("folder", PLAIN), ("folder", UNMIXED), ("archive", UNMIXED), ("archive", PADDED)]
CASE_NAMES = ["files", "files, layers", "arrays, layers", "arrays, padded"]


@pytest.mark.parametrize(("data", "augmentation"), CASES, ids=CASE_NAMES)
def test_workers_share_each_batch(data, augmentation, request):
    source = open_source(request.getfixturevalue(data), "train")
    whole = batches(source, augmentation)
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
    still = Augmentation(crop="none", flip=False)
    seen = np.concatenate([images for images, _ in batches(source, still)]).reshape(TRAINED, -1)
    assert len(np.unique(seen, axis=0)) == TRAINED
    one_by_one = np.concatenate([images for images, _ in batches(source, still, batch_size=1)])
    rest = {image.tobytes() for image in one_by_one} - {image.tobytes() for image in seen}
    assert len(rest) == source.count - TRAINED < 8


def test_labels_belong_to_their_images(source):
    still = Augmentation(crop="none", flip=False)
    by_image = {
        image.tobytes(): label
        for images, labels in batches(source, still)
        for image, label in zip(images, labels, strict=True)
    }
    for images, labels in batches(source, still, seed=9, batch_size=5):
        for image, label in zip(images, labels, strict=True):
            if image.tobytes() in by_image:
                np.testing.assert_array_equal(by_image[image.tobytes()], label)
    counts = np.sum([labels.sum(axis=0) for _, labels in batches(source, still, batch_size=1)], axis=0)
    np.testing.assert_array_equal(counts, source.class_counts)


def test_arrays_keep_their_pixels_where_nothing_is_done(archive):
    source = open_source(archive, "train")
    order = source.order(5, 2)
    seen = np.concatenate([images for images, _ in batches(source, Augmentation(crop="none", flip=False))])
    np.testing.assert_array_equal(seen, source.images[order[:TRAINED]])


def test_padded_crops_are_shifts_of_the_image(archive):
    """Each is one of the 9 x 9 x 2 that NumPy makes of the image and four zeros around it, and all shifts occur."""
    source = open_source(archive, "train")
    order, shifts = source.order(5, 2), []
    seen = np.concatenate([images for images, _ in batches(source, Augmentation(crop="padded"))])
    for image, index in zip(seen, order, strict=False):
        padded = np.pad(source.images[index], ((4, 4), (4, 4), (0, 0)))
        found = [
            (top, left, flipped)
            for top in range(9)
            for left in range(9)
            for flipped in (False, True)
            if np.array_equal(image[:, ::-1] if flipped else image, padded[top : top + 32, left : left + 32])
        ]
        assert len(found) == 1
        shifts += found
    tops, lefts, flips = np.array(shifts).T
    assert len(set(tops)) >= 7
    assert len(set(lefts)) >= 7
    assert 8 <= flips.sum() <= 32
    assert not np.array_equal(tops, lefts)


def test_files_are_resized_and_cropped_at_their_centre(folder):
    """Against Pillow's antialiased resize of the centred square; photographs this smooth need no antialiasing."""
    source = open_source(folder, "train")
    order = source.order(5, 2)
    seen = np.concatenate([images for images, _ in batches(source, Augmentation(crop="none", flip=False), size=40)])
    for image, index in zip(seen, order, strict=False):
        pixels = decoded(source.read(index))
        height, width = pixels.shape[:2]
        top, left = (height - min(height, width)) // 2, (width - min(height, width)) // 2
        square = pixels[top : top + min(height, width), left : left + min(height, width)]
        wanted = np.asarray(Image.fromarray(square).resize((40, 40), Image.Resampling.BILINEAR))
        assert np.abs(image.astype(int) - wanted).max() <= 12  # at the crop's right edge, where colours are upsampled
        assert np.abs(image.astype(int) - wanted).mean() < 0.7


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [1, 3, 5, 9])
def test_large_files_are_decoded_at_a_fraction_of_their_size(interpolation, scale, tmp_path):
    folder = write_folder(tmp_path / "large", {"ant": 2}, height=64 * scale, width=64 * scale)
    source = open_source(folder, "train")
    still = Augmentation(crop="none", flip=False)
    image = batches(source, still, batch_size=1, size=48, interpolation=interpolation)[0][0][0]
    pixels = decoded(source.read(0))
    height, width = pixels.shape[:2]
    top, left = (height - min(height, width)) // 2, (width - min(height, width)) // 2
    square = Image.fromarray(pixels[top : top + min(height, width), left : left + min(height, width)])
    wanted = np.asarray(square.resize((48, 48), getattr(Image.Resampling, interpolation.upper())))
    assert np.abs(image.astype(int) - wanted).mean() < 5  # another part of the picture: above 40


def bilinear(pixels, size):
    """uint8 `[H, W, 3]` -> `[size, size, 3]`, rounded; two neighbours along each axis, pixel centres aligned."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(place).astype(int)
        share = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        above = np.take(pixels, np.minimum(low + 1, length - 1), axis)
        pixels = np.take(pixels, low, axis) * (1 - share) + above * share
    return np.floor(pixels + 0.5)


# Arrays that shrink are antialiased.
@pytest.mark.parametrize(("kind", "side"), [("file", 29), ("file", 48), ("file", 70), ("array", 29), ("array", 48)])
def test_pixels_are_those_of_numpys_interpolation(kind, side, tmp_path):
    pixels = picture(side, side, 8)
    if kind == "file":
        for name in ("0.jpg", "1.jpg"):
            (tmp_path / "ant").mkdir(exist_ok=True)
            (tmp_path / "ant" / name).write_bytes(jpeg(pixels))
        source, pixels = open_source(tmp_path, "train"), decoded(jpeg(pixels))
    else:
        np.savez(tmp_path / "a.npz", x_train=np.stack([pixels] * 2), y_train=np.zeros(2, int))
        source = open_source(tmp_path / "a.npz", "train")
    image = batches(source, Augmentation(crop="none", flip=False), batch_size=1, size=48)[0][0][0]
    difference = image - bilinear(pixels.astype(float), 48)
    assert np.abs(difference).max() <= 1  # where the sum lies next to a half
    assert (difference != 0).mean() < 0.01


def test_ordinary_files_are_never_left_to_pillow(tmp_path, monkeypatch):
    def fail(encoded):
        raise ImageError("left to Pillow")

    turned = Image.Exif()
    turned[0x0112] = 6
    pixels = picture(90, 120, 6)
    (tmp_path / "ant").mkdir()
    for name, content in {
        "plain": jpeg(pixels),
        "grey": jpeg(pixels[..., 0]),
        "progressive": jpeg(pixels, progressive=True),
        "turned": jpeg(pixels, exif=turned.tobytes()),
        "half": jpeg(picture(200, 210, 1)),
        "quarter": jpeg(picture(330, 300, 2)),
        "eighth": jpeg(picture(600, 700, 3)),
        "other": jpeg(picture(33, 32, 4)),
    }.items():
        (tmp_path / "ant" / f"{name}.jpg").write_bytes(content)
    monkeypatch.setattr("keras_resnet.data.crop.decode_image", fail)
    for augmentation in (Augmentation(crop="none"), Augmentation(crop="padded"), PLAIN):
        problems = Problems(0)
        source = open_source(tmp_path, "train")
        images = batches(source, augmentation, problems, batch_size=source.count)[0][0]
        assert problems.found == []
        assert (images.reshape(len(images), -1).std(axis=1) > 5).all()


def test_random_areas_cover_what_they_should(folder):
    """Of an image whose red rises to the right and whose green rises downwards, the crop can be read off."""
    ramp = np.zeros((250, 250, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(250), np.arange(250)[:, None]
    path = folder.parent / "ramp.npz"
    np.savez(path, x_train=np.repeat(ramp[None], 400, 0), y_train=np.zeros(400, int))
    source = open_source(path, "train")
    images = np.concatenate([x for x, _ in batches(source, Augmentation(minimum_area=0.2, flip=False), batch_size=40)])
    widths = (images[:, 16, -1, 0].astype(float) - images[:, 16, 0, 0]) * 32 / 31
    heights = (images[:, -1, 16, 1].astype(float) - images[:, 0, 16, 1]) * 32 / 31
    areas, ratios = widths * heights / 250**2, widths / heights
    assert 0.18 < areas.min() < 0.3
    assert 0.85 < areas.max() < 1.02
    assert 0.44 < areas.mean() < 0.56  # large ones that are not square fit less often
    assert 0.72 < ratios.min() < 0.85
    assert 1.18 < ratios.max() < 1.38
    flipped = np.concatenate([x for x, _ in batches(source, Augmentation(minimum_area=0.2), batch_size=40)])
    mirrored = flipped[:, 16, -1, 0] < flipped[:, 16, 0, 0]
    assert 0.4 < mirrored.mean() < 0.6
    np.testing.assert_array_equal(np.where(mirrored[:, None, None, None], flipped[:, :, ::-1], flipped), images)


def test_mixtures_are_of_the_images_of_their_labels(archive):
    source = open_source(archive, "train")
    plain = batches(source, Augmentation(crop="none", flip=False))
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
    plain = batches(source, Augmentation(crop="none", flip=False))
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
    plain = batches(source, Augmentation(crop="none", flip=False))
    kinds = set()
    for epoch in (2, 3):
        plain = batches(source, Augmentation(crop="none", flip=False), epoch=epoch)
        for (images, _), (mixed, _) in zip(plain, batches(source, both, epoch=epoch), strict=True):
            known = np.array([[(image == other).all(axis=-1) for other in images] for image in mixed]).any(axis=1)
            kinds.add("cutmix" if known.all() else "mixup")
    assert kinds == {"cutmix", "mixup"}


def test_smoothing_and_class_weights(source):
    plain = batches(source, Augmentation(mixup_alpha=0.5))
    smooth = batches(source, Augmentation(mixup_alpha=0.5, label_smoothing=0.3), class_weights=[0.5, 1.0, 4.0])
    for (_, shares), (_, labels, weights) in zip(plain, smooth, strict=True):
        np.testing.assert_allclose(labels, shares * 0.7 + 0.1, atol=1e-6)
        np.testing.assert_allclose(weights, shares @ [0.5, 1.0, 4.0], rtol=1e-6)


def test_erasing_fills_a_rectangle_of_as_many_images_as_asked(archive):
    source = open_source(archive, "train")
    plain = batches(source, Augmentation(crop="none", flip=False))
    erased = batches(source, Augmentation(crop="none", flip=False, erasing_probability=0.5))
    images, others = (np.concatenate([x for x, _ in part]) for part in (plain, erased))
    changed = (images != others).any(axis=-1)
    assert 10 <= changed.any(axis=(1, 2)).sum() <= 30
    np.testing.assert_array_equal(others[changed], np.broadcast_to([124, 116, 104], others[changed].shape))


def test_each_image_draws_its_own_operations(folder):
    """RandAugment at most moves an image: which of eleven ways, its neighbours in the batch do not share."""
    still = {"crop": "none", "flip": False}
    source = open_source(folder, "train")
    plain = np.concatenate([x for x, _ in batches(source, Augmentation(**still))])
    moved = batches(source, Augmentation(**still, randaugment_operations=1, randaugment_magnitude=0.6))
    changes = np.abs(plain.astype(int) - np.concatenate([x for x, _ in moved])).mean(axis=(1, 2, 3))
    assert len(np.unique(changes[:8].round(1))) >= 5
    assert changes.mean() > 5


def test_colour_jitter_goes_both_ways(folder):
    still = {"crop": "none", "flip": False}
    source = open_source(folder, "train")
    plain = np.concatenate([x for x, _ in batches(source, Augmentation(**still))]).astype(float)
    jittered = np.concatenate([x for x, _ in batches(source, Augmentation(**still, colour_jitter=0.4))]).astype(float)
    for measure in (np.mean, np.std):
        change = measure(jittered, axis=(1, 2, 3)) - measure(plain, axis=(1, 2, 3))
        assert (change > 1).sum() >= 5
        assert (change < -1).sum() >= 5


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


def test_an_alpha_that_keras_does_not_take_is_said(source):
    with pytest.raises(ArgumentError, match="cutmix_alpha"):
        batches(source, Augmentation(cutmix_alpha=1.5))


JOB = """
import hashlib, sys
sys.path.insert(0, {tests!r})
import keras
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
keras.config.set_dtype_policy("mixed_bfloat16")
from test_training_batches import digest, open_source
print(keras.backend.backend(), digest(open_source({folder!r}, "train")))
"""


def digest(source):
    hashed = hashlib.sha256()
    for element in batches(source, EVERYTHING):
        for part in element:
            hashed.update(part.tobytes())
    return hashed.hexdigest()


def test_neither_backend_nor_policy_nor_determinism_change_a_bit(folder):
    pytest.importorskip("jax")
    code = JOB.format(tests=str(Path(__file__).parent), folder=str(folder))
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["jax", digest(open_source(folder, "train"))]


def test_elements_have_shapes_that_a_step_can_be_compiled_for(source):
    dataset = training_batches(
        source, EVERYTHING, size=32, batch_size=8, seed=0, epoch=0, problems=Problems(0), class_weights=[1.0] * 3
    )
    assert [part.shape.as_list() for part in dataset.element_spec] == [[8, 32, 32, 3], [8, 3], [8]]
    assert [part.dtype for part in dataset.element_spec] == [tf.uint8, tf.float32, tf.float32]


def test_equalization_counts_as_keras_does():
    pixels = np.random.default_rng(0).integers(0, 200, (1, 40, 50, 3)).astype("float32")
    step = _rand_augment(0.0)  # at no strength, but equalization has none
    results = [step(tf.constant(pixels), tf.constant([1, seed], tf.int64)).numpy() for seed in range(60)]
    wanted = np.asarray(keras.layers.Equalization()(pixels))
    assert np.abs(wanted - pixels).mean() > 5
    assert any(np.array_equal(result, wanted) for result in results)


def test_what_others_draw_is_left_alone(folder):
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    for cached in (transforms._rand_augment, transforms._colour_jitter, transforms._erasing):
        cached.cache_clear()
    batches(open_source(folder, "train"), EVERYTHING)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


def test_an_epoch_that_is_over_has_no_batch_left(source):
    assert batches(source, first_batch=5) == []


def test_tiny_and_narrow_files(tmp_path):
    (tmp_path / "ant").mkdir()
    for index, (height, width) in enumerate([(1, 1), (1, 40), (40, 1), (2, 3), (8, 8), (15, 17)]):
        (tmp_path / "ant" / f"{index}.jpg").write_bytes(jpeg(picture(height, width, index)))
    for augmentation in (PLAIN, PADDED, Augmentation(crop="none")):
        problems = Problems(0)
        images = batches(open_source(tmp_path, "train"), augmentation, problems, batch_size=5)[0][0]
        assert images.shape == (5, 32, 32, 3)
        assert not problems.exceeded
