"""Boxes and masks move with their images: mirrored, scaled, cropped, fitted; and back from batches."""

import json

import numpy as np
import pytest
import tensorflow as tf
from boxed_pictures import BRIGHT, Drawn, Rectangle, write_coco
from masked_pictures import write
from pictures import jpeg

from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import evaluation_batches, training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.data.reading import PLAIN
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.detect.sources import open_detected
from keras_resnet.tasks.detect.target import IGNORED, NOTHING, OBJECT, make_target, objects_of, taken_apart
from keras_resnet.variants import InputContract, WholeImage

SIZE = 72
FITTED = Augmentation(crop="fitted", flip=False, minimum_scale=0.6, maximum_scale=1.8)


def one_rectangle(seed: int) -> Drawn:
    """-> picture of a random asymmetric size with one rectangle, well away from a quarter of the sides."""
    draw = np.random.default_rng(seed)
    height, width = draw.integers(40, 130, 2).tolist()
    left, top = int(draw.integers(1, width // 2)), int(draw.integers(1, height // 2))
    right, bottom = int(draw.integers(left + 12, width)), int(draw.integers(top + 12, height))
    return Drawn(f"{seed:02d}.png", height, width, (Rectangle("ant", (left, top, right, bottom)),))


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory):
    """Folder of 24 pictures, a third of them JPEG files, with masks."""
    folder = tmp_path_factory.mktemp("boxes")
    pictures = tuple(map(one_rectangle, range(24)))
    pictures = tuple(
        each._replace(file=each.file.replace(".png", ".jpg")) if n % 3 else each for n, each in enumerate(pictures)
    )
    path = write_coco(folder, pictures, masks=True)
    for each in pictures:
        if each.file.endswith(".jpg"):
            write(folder / "images" / each.file, jpeg(each.pixels()))
    return path


def opened(path, split="all"):
    return open_detected(str(path), split, None, PLAIN)


def batches(source, augmentation, epoch=0, problems=None):
    options = {"size": SIZE, "batch_size": 4, "seed": 3, "epoch": epoch, "problems": problems or Problems(0)}
    for images, targets in training_batches(source, augmentation, **options):
        yield images.numpy(), taken_apart(targets.numpy(), source.most_objects, SIZE, SIZE)


def found_in(pixels: np.ndarray) -> np.ndarray:
    """Pixels of one picture -> corners of its bright rectangle."""
    rows, columns = np.nonzero(pixels.min(axis=2) > (BRIGHT + 60) // 2)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize(("crop", "jitter"), [("fitted", 0.0), ("scaled", 0.05)])
def test_rectangles_are_found_again(crop, jitter, rectangles):
    augmentation = Augmentation(crop=crop, minimum_scale=0.6, maximum_scale=1.8, colour_jitter=jitter)
    counts = dict.fromkeys((NOTHING, IGNORED, OBJECT), 0)
    for epoch in range(2):
        for images, found in batches(opened(rectangles), augmentation, epoch):
            objects = zip(images, found.boxes[:, 0], found.states[:, 0], found.instances, strict=True)
            for image, box, state, instances in objects:
                counts[state] += 1
                if state == NOTHING:
                    assert not (image.min(axis=2) > 200).any()
                    assert not instances.any()
                elif (box[2:] - box[:2]).min() >= 4:  # a narrower strip is blurred
                    assert np.abs(found_in(image) - box).max() <= 1.1
                    rows, columns = np.nonzero(instances)
                    mask = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    assert np.abs(mask - box).max() <= 1.0
    assert counts[OBJECT] > 30
    assert sum(counts.values()) == 48


def test_a_mirrored_target_by_its_numbers():
    instances = np.zeros((40, 60), np.uint16)
    instances[10:20, 10:30], instances[:, 38] = 1, 3
    kind = objects_of(7, True)
    mirrored = kind.mirrored(tf.constant(make_target((40, 60), BOXES, CLASSES, IS_IGNORED, 7, instances)))
    found = taken_apart(mirrored.numpy(), 7, 40, 60)
    assert found.boxes[0].tolist() == [30, 10, 50, 20]
    assert found.boxes[2].tolist() == [20.5, 0, 22, 40]
    assert not found.boxes[5:].any()  # padding stays where it is
    np.testing.assert_array_equal(found.instances, instances[:, ::-1])
    assert (found.classes.tolist(), found.states[0]) == ([1, 0, 2, 0, 3, 0, 0], OBJECT)


def test_evaluated_images_have_boxes_of_their_pixels(rectangles):
    source, contract = opened(rectangles), WholeImage(64, 96)
    for images, targets in evaluation_batches(source, contract, batch_size=4, problems=Problems(0)):
        found = taken_apart(targets.numpy(), 1, 64, 96)
        for image, box, instances in zip(images.numpy(), found.boxes[:, 0], found.instances, strict=True):
            if (box[2:] - box[:2]).min() >= 4:
                assert np.abs(found_in(image) - box).max() <= 1.0
                assert instances[int(box[1]) + 2, int(box[0]) + 2] == 1
    with pytest.raises(TypeError, match="must be a WholeImage for detection"):
        source.target.fit(source.decode_target(0), InputContract(64, 64, "bilinear"))


def test_an_image_of_another_size_is_reported_and_replaced(rectangles, tmp_path):
    content = json.loads(rectangles.read_text())
    content["images"][5]["height"] += 1
    del content["annotations"][5]  # its outline would fail first
    file = content["images"][5]["file_name"]
    (tmp_path / "images").symlink_to(rectangles.parent / "images")
    write(tmp_path / "boxes.json", json.dumps(content).encode())
    problems = Problems(1)
    assert len([*batches(opened(tmp_path / "boxes.json"), FITTED, problems=problems)]) == 6
    [problem] = problems.found
    assert (problem.name, problem.used) == (f"images/{file}", False)
    assert problem.reason.startswith("its boxes are for ")


# --- one crop, by its numbers -------------------------------------------------------------------------------------

BOXES = np.array([[10, 10, 30, 20], [35, 5, 55, 25], [38, 0, 39.5, 40], [0, 0, 9, 9], [12, 12, 18, 16]], "float32")
CLASSES, IS_IGNORED = np.array([1, 0, 2, 0, 3], "int32"), np.array([0, 0, 0, 0, 1], bool)


def cropped(part, size, instances=None):
    """Part of an image of 40 x 60 pixels with `BOXES`, padded to seven -> the target of the resized part."""
    kind = objects_of(7, instances is not None)
    target = make_target((40, 60), BOXES, CLASSES, IS_IGNORED, 7, instances)
    cut = kind.cut(tf.constant(target), tf.constant(part), tf.constant([40, 60]), size)
    assert kind.spec(size).shape == cut.shape
    return taken_apart(cut.numpy(), 7, size, size)


def test_what_a_crop_leaves_of_each_object():
    found = cropped([8, 10, 20, 30], 60)  # top, left, height, width: three rows and two columns a pixel
    expected = [
        [0, 6, 40, 36],  # whole
        [50, 0, 60, 51],  # a quarter of its width, 17 of 20 rows: 21 %
        [56, 0, 59, 60],  # a half
        [0, 0, 0, 0],  # gone
        [4, 12, 16, 24],  # whole, and ignored
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    np.testing.assert_allclose(found.boxes, expected, atol=1e-4)
    assert found.states.tolist() == [OBJECT, OBJECT, OBJECT, NOTHING, IGNORED, NOTHING, NOTHING]
    assert found.classes.tolist() == [1, 0, 2, 0, 3, 0, 0]


def test_objects_cut_away_are_ignored():
    found = cropped([8, 10, 20, 28], 60)
    assert found.states.tolist() == [OBJECT, IGNORED, NOTHING, NOTHING, IGNORED, NOTHING, NOTHING]  # 13 % of the second
    np.testing.assert_allclose(found.boxes[1], [25 * 60 / 28, 0, 60, 51], atol=1e-4)
    assert cropped([8, 10, 20, 30], 15).states[2] == IGNORED  # narrower than a pixel


def test_objects_without_a_pixel_of_the_mask_are_ignored():
    instances = np.zeros((40, 60), np.uint16)
    instances[10:20, 10:30], instances[5:25, 45:55] = 1, 2
    found = cropped([8, 10, 20, 30], 60, instances)
    assert found.states.tolist() == [OBJECT, IGNORED, IGNORED, NOTHING, IGNORED, NOTHING, NOTHING]
    assert (found.instances == 1).sum() == 40 * 30
    assert not (found.instances == 2).any()


def test_a_window_that_sticks_out_has_background_there():
    instances = np.zeros((40, 60), np.uint16)
    instances[0:9, 0:9] = 4
    found = cropped([-10, -20, 80, 80], 40, instances)
    np.testing.assert_allclose(found.boxes[3], [10, 5, 14.5, 9.5])
    assert found.states[3] == OBJECT
    assert {*zip(*np.nonzero(found.instances), strict=True)} == {(r, c) for r in range(5, 9) for c in range(10, 14)}


def test_a_target_of_another_size_fails():
    with pytest.raises(tf.errors.InvalidArgumentError, match="not of one size"):
        objects_of(1, False).cut(
            tf.constant([40.0, 61, 0, 0, 0, 0, 0, 0]), tf.zeros(4, tf.int32) + 9, tf.constant([40, 60]), 9
        )


@pytest.mark.parametrize("name", objects_of(1, False).refused)
def test_augmentation_without_a_meaning_is_refused(name, rectangles):
    with pytest.raises(ArgumentError, match=f"`{name}` must be 0 for detection"):
        next(batches(opened(rectangles), Augmentation(crop="fitted", **{name: 1})))


@pytest.mark.parametrize("crop", ["resized", "padded", "none"])
def test_crops_without_a_meaning_are_refused(crop, rectangles):
    with pytest.raises(ArgumentError, match="`crop` must be one of fitted, scaled for detection"):
        next(batches(opened(rectangles), Augmentation(crop=crop)))


def test_fitted_is_for_detection(rectangles):
    from keras_resnet.data.augment import AUGMENTATION

    assert [
        task for task in ("classify", "tag", "segment", "detect") if "fitted" in AUGMENTATION["crop"].choices_for(task)
    ] == ["detect"]
