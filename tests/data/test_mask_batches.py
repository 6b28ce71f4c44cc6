"""Images and their masks: cut, scaled and mirrored together; batches that are functions of seed, epoch and number."""

import io

import numpy as np
import pytest
from few_images import assert_equal
from few_images import batches as epoch_of
from masked_pictures import CLASSES, labels, png, write, write_masked
from pictures import jpeg, picture
from PIL import Image

from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import evaluation_batches, training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.data.reading import Reading
from keras_resnet.errors import ArgumentError
from keras_resnet.preprocessing import MEAN_COLOUR
from keras_resnet.tasks.sources import open_source
from keras_resnet.variants import InputContract, WholeImage

SCALED = Augmentation(crop="scaled")
COUNT = 23  # of which 2 are held out


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return write_masked(tmp_path_factory.mktemp("masked"), COUNT)


@pytest.fixture(scope="module")
def source(masked):
    return open_source(masked, "train")


@pytest.fixture(scope="module")
def whole(source):
    """Epoch that several tests look at."""
    return batches(source)


def batches(source, augmentation=SCALED, problems=None, **options):
    return epoch_of(source, augmentation, problems, **({"size": 40, "batch_size": 4} | options))


@pytest.fixture(scope="module", params=["jpeg", "turned", "png"])
def ramps(request, tmp_path_factory):
    """Images whose grey is twice the column, or the row, and masks whose label is the column, or the row."""
    folder, kind = tmp_path_factory.mktemp("ramps"), request.param
    for index in range(12):
        height, width = 70 + index, 100 - index
        axis = index % 2
        place = np.broadcast_to(np.arange(width) if axis else np.arange(height)[:, None], (height, width))
        place = place.astype(np.uint8)
        pixels, options = 2 * place, {}
        if kind == "turned":
            exif = Image.Exif()
            exif[0x0112] = 6
            pixels, options = np.rot90(pixels), {"exif": exif.tobytes()}
        encoded = png(pixels) if kind == "png" else jpeg(pixels, **options)
        write(folder / "images" / f"{index:02d}.{'png' if kind == 'png' else 'jpg'}", encoded)
        write(folder / "masks" / f"{index:02d}.png", png(place, "P" if index % 3 == 0 else None))
    return open_source(folder, "train", class_names=[str(index) for index in range(100)])


def away_from_others(area):
    """bool `[H, W]` -> whether all within two pixels, up, down, left and right, are of the area too."""
    shifts = [np.roll(area, shift, axis) for axis in (0, 1) for shift in (-2, -1, 1, 2)]
    return np.logical_and.reduce([area, *shifts])


@pytest.mark.parametrize(
    "augmentation",
    [SCALED, Augmentation(crop="resized", minimum_area=0.2), Augmentation(crop="none")],
    ids=lambda augmentation: augmentation.crop,
)
def test_masks_stay_on_their_images(ramps, augmentation):
    """Wherever the crop lies: the image's grey tells the place in it, and the mask's label does."""
    problems, differences, voids = Problems(0), [], 0
    for images, masks in batches(ramps, augmentation, problems, size=96):
        inside = masks != 255
        voids += np.sum(~inside)
        for image, mask, area in zip(images, masks, inside, strict=True):
            # Bilinear resize mixes the border with the mean colour.
            core, outside = away_from_others(area), away_from_others(~area)
            difference = image[..., 0] / 2 - mask
            differences.append(difference[core & (mask > 1) & (mask < mask[area].max() - 1)])
            assert (image[outside] == MEAN_COLOUR).all()
    difference = np.concatenate(differences)
    assert problems.found == []
    assert difference.size > 1000
    assert np.abs(difference).max() <= 0.75  # measured: 0.5, as far as the nearest pixel can be; JPEG may round
    assert np.abs(difference.mean()) < 0.06  # measured: 0.036, of equally near pixels; half a pixel: 0.25 to 1
    assert (voids > 1000) == (augmentation.crop == "scaled")


def test_masks_are_the_nearest_pixels_of_the_same_window(masked, source):
    """Against NumPy, without a scale: every crop of a mask is a part of it, found once, in void."""
    still = Augmentation(crop="scaled", minimum_scale=1.0, maximum_scale=1.0)
    order = source.order(5, 2)
    seen = np.concatenate([masks for _, masks in batches(source, still, size=70)])
    offsets = []
    for mask, index in zip(seen, order, strict=False):
        whole = np.pad(source.decode_target(index), 70, constant_values=255)
        found = [
            (top, left)
            for top in range(whole.shape[0] - 70)
            for left in range(whole.shape[1] - 70)
            if whole[top + 35, left + 35] in (mask[35, 35], mask[35, 34])
            and any(np.array_equal(turned, whole[top : top + 70, left : left + 70]) for turned in (mask, mask[:, ::-1]))
        ]
        assert found
        offsets.append(found[0])
    tops, lefts = np.array(offsets).T
    assert tops.min() >= 60  # 60 to 66 rows, in 70: above the mask lies void, or nothing
    assert tops.max() <= 70
    assert len(set(lefts)) > 5


def test_scales_lie_in_their_range_and_flips_occur(tmp_path):
    for index in range(40):
        ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (200, 200))
        write(tmp_path / "images" / f"{index:02d}.jpg", jpeg(np.ascontiguousarray(ramp)))
        write(tmp_path / "masks" / f"{index:02d}.png", png(np.ascontiguousarray(ramp)))
    source = open_source(tmp_path, "train", class_names=[str(index) for index in range(200)])
    narrow = Augmentation(crop="scaled", minimum_scale=0.8, maximum_scale=1.6)
    masks = np.concatenate([masks for _, masks in batches(source, narrow, size=80)]).astype(float)
    slopes = (masks[:, 40, -1] - masks[:, 40, 0]) / 79
    scales = 1 / np.abs(slopes)
    assert 0.78 < scales.min() < 1.0
    assert 1.4 < scales.max() < 1.65
    assert 6 < np.sum(slopes < 0) < 30


def test_colours_change_and_masks_do_not(source, whole):
    jittered = batches(source, Augmentation(crop="scaled", colour_jitter=0.4))
    for (images, masks), (others, other_masks) in zip(whole, jittered, strict=True):
        np.testing.assert_array_equal(masks, other_masks)
        assert (images != others).mean() > 0.5


def test_a_batch_is_a_function_of_seed_epoch_and_number_whoever_computes_it(source, whole):
    assert len(whole) == 5
    assert [part.dtype for part in whole[0]] == [np.uint8, np.uint8]
    assert_equal(whole[3:], batches(source, first_batch=3))
    assert_equal([(x[1::2], y[1::2]) for x, y in whole], batches(source, worker=1, workers=2))
    for other in (batches(source, epoch=3), batches(source, seed=6)):
        assert all((whole[0][part] != other[0][part]).mean() > 0.2 for part in (0, 1))


def test_elements_have_shapes_that_a_step_can_be_compiled_for(source):
    options = {"size": 40, "batch_size": 4, "seed": 0, "epoch": 0, "problems": Problems(0)}
    dataset = training_batches(source, SCALED, **options)
    assert [part.shape.as_list() for part in dataset.element_spec] == [[4, 40, 40, 3], [4, 40, 40]]


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"mixup_alpha": 0.2, "label_smoothing": 0.1}, "`mixup_alpha` and `label_smoothing` must be 0 for segmentat"),
        ({"randaugment_operations": 2}, "Received: randaugment_operations = 2"),
        ({"crop": "padded"}, "`crop` must be one of resized, scaled, none for segmentation. Received: crop = 'padded'"),
    ],
)
def test_augmentation_that_masks_do_not_have_is_refused(augmentation, message, source):
    with pytest.raises(ArgumentError, match=message):
        batches(source, Augmentation(**({"crop": "scaled"} | augmentation)))
    with pytest.raises(ArgumentError, match="`class_weights` must be None for segmentation"):
        batches(source, class_weights=[1.0] * CLASSES)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Folder of 24 pairs, of which 6 can't be used -> folder, what is wrong with each."""
    folder = write_masked(tmp_path_factory.mktemp("broken"), 24)
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = {
        "images/002.jpg": (b"", "the file is empty"),
        "masks/005.png": (b"no mask", r"its mask masks/005.png: not an image"),
        "masks/007.png": (
            png(labels(66, 85, 1)),
            "masks/007.png has 85 x 66 pixels, but the upright image has 87 x 60",
        ),
        "masks/011.png": (
            png(np.full((64, 80), 9, np.uint8)),
            "5,120 pixels have the label 9, which is neither one of the 5",
        ),
        "masks/013.png": (png(labels(66, 82, 14))[:120], "its mask masks/013.png: "),
        "images/014.jpg": (jpeg(picture(60, 83, 1), exif=exif.tobytes()), "upright image has 60 x 83"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    return folder, {f"images/{name[-7:-4]}.jpg": reason for name, (_, reason) in contents.items()}


def test_an_image_or_a_mask_that_can_not_be_used_is_named_and_replaced(broken):
    folder, reasons = broken
    names = [f"class {index}" for index in range(CLASSES)]
    source, problems = open_source(folder, "train", class_names=names), Problems(2)
    order = source.order(5, 2)
    seen = batches(source, Augmentation(crop="none", flip=False), problems, size=60)
    trained = [source.name_of(index) for index in order[: 4 * len(seen)]]
    assert {problem.name for problem in problems.found} == {*trained} & {*reasons}
    assert len(problems.found) >= 4
    for problem in problems.found:
        assert reasons[problem.name] in problem.reason
        assert not problem.used
    for number, parts in enumerate(seen):
        rows = trained[4 * number : 4 * number + 4]
        for row in (row for row in range(4) if rows[row] in reasons):
            after = next(other for other in (*range(row + 1, 4), *range(4)) if rows[other] not in reasons)
            for part in parts:
                np.testing.assert_array_equal(part[row], part[after])
    again = batches(source, Augmentation(crop="none", flip=False), size=60, first_batch=2)
    assert_equal(seen[2:], again)
    left, problems = [], Problems(9)
    for split in ("train", "val"):
        part = open_source(folder, split, class_names=names)
        left += [*evaluation_batches(part, WholeImage(), batch_size=4, problems=problems)]
    assert len(left) == 24 - 6
    assert {problem.name: problem.reason for problem in problems.found}.keys() == reasons.keys()


def test_evaluation_has_each_whole_image_at_its_own_size(masked, source):
    seen = [*evaluation_batches(source, WholeImage(), batch_size=8, problems=Problems(0))]
    assert len(seen) == source.count
    for index, (images, masks) in enumerate(seen):
        np.testing.assert_array_equal(images[0], Image.open(masked / source.name_of(index)))
        np.testing.assert_array_equal(masks[0], source.decode_target(index))
    parts = [*evaluation_batches(source, WholeImage(), batch_size=8, problems=Problems(0), worker=1, workers=2)]
    for (images, _), (others, _) in zip(parts, seen[1::2], strict=True):
        np.testing.assert_array_equal(images, others)


@pytest.mark.parametrize(("height", "width"), [(50, 40), (96, 150)])
def test_evaluation_fits_images_into_a_size(height, width, masked, source):
    """As Pillow resizes them, with one factor for both sides, and the rest void."""
    contract = WholeImage(height, width)
    seen = [*evaluation_batches(source, contract, batch_size=8, problems=Problems(0))]
    assert [len(images) for images, _ in seen] == [8, 8, 5]
    images, masks = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        stored, whole = Image.open(masked / source.name_of(index)), source.decode_target(index)
        factor = min(height / stored.height, width / stored.width)
        size = round(factor * stored.width), round(factor * stored.height)
        np.testing.assert_array_equal(image[: size[1], : size[0]], stored.resize(size, Image.Resampling.BILINEAR))
        nearest = whole[(2 * np.arange(size[1]) + 1) * whole.shape[0] // (2 * size[1])]
        nearest = nearest[:, (2 * np.arange(size[0]) + 1) * whole.shape[1] // (2 * size[0])]
        np.testing.assert_array_equal(mask[: size[1], : size[0]], nearest)
        for part, value in ((image, MEAN_COLOUR), (mask, 255)):
            assert (part[size[1] :] == value).all()
            assert (part[:, size[0] :] == value).all()


def test_contracts_of_another_task_are_refused(source, folder):
    with pytest.raises(Exception, match="`contract` must be a WholeImage for segmentation"):
        list(evaluation_batches(source, InputContract(8, 8), batch_size=2, problems=Problems(0)))
    with pytest.raises(ValueError, match="`height` and `width` must both be at least 1, or both None"):
        WholeImage(height=4)


def test_images_of_classes_are_scaled_too(archive, folder):
    """The mean colour stands around an image that is smaller than the crop; else no pixel of it is new."""
    small = Augmentation(crop="scaled", minimum_scale=0.5, maximum_scale=0.5)
    for data, side, least, most in ((archive, 32, 0.66, 0.74), (folder, 100, 0.84, 0.89)):
        images = np.concatenate([images for images, _ in epoch_of(open_source(data, "train"), small, size=side)])
        shares = (images == MEAN_COLOUR).all(axis=-1).mean(axis=(1, 2))
        assert shares.min() > least
        assert shares.max() < most


def test_packing_keeps_images_and_classes(masked, tmp_path):
    import tensorflow as tf
    from command_line import in_process

    from keras_resnet.packing import pack

    description = pack(masked, tmp_path / "out", shards=3, reading=Reading(void_labels=(2,)))
    assert description["task"] == "segment"
    for split in ("train", "val"):
        files = open_source(masked, split, reading=Reading(void_labels=(2,)))
        records = open_source(tmp_path / "out", split)
        assert records.classes == files.classes
        assert records.kind == "shards"
        assert description["splits"][split]["class_counts"] == files.class_counts.tolist()
        assert description["splits"][split]["fingerprint"] == records.fingerprint
        assert sorted(records.names) == sorted(files.names)
        for index, name in enumerate(records.names):
            assert records.read(index) == files.read(files.names.index(name))
            np.testing.assert_array_equal(records.decode_target(index), files.decode_target(files.names.index(name)))
    turned = open_source(tmp_path / "out", "val", class_names=[*records.classes[::-1]])
    expected = np.array([3, 2, 1, 0, 255])[np.minimum(records.decode_target(0), 4)]
    np.testing.assert_array_equal(turned.decode_target(0), expected)
    [record] = tf.data.TFRecordDataset(sorted(map(str, (tmp_path / "out").glob("val-*")))).take(1)
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image", "mask", "name")}
    example = tf.io.parse_single_example(record, features)
    assert example["name"].numpy().decode() == records.names[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(example["mask"].numpy()))), records.decode_target(0))
    images, masks = batches(open_source(tmp_path / "out", "train"))[0]
    assert images.shape == (4, 40, 40, 3)
    assert set(np.unique(masks)) <= {0, 1, 2, 3, 255}
    status, out, _ = in_process("data", "check", masked, "--void-label", 2)
    assert status == 0
    out = out[out.index("") + 1 :]
    assert out[0].split() == ["pixels", "of", "class", "train", "val"]
    assert out[5].split() == ["all", "images", "21", "2"]
    with pytest.raises(ArgumentError, match="packed masks hold classes already"):
        open_source(tmp_path / "out", "train", reading=Reading(void_labels=(1,)))
