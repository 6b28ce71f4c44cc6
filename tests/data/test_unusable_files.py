"""Files that can't be read, and unusual ones: the epoch finishes, and the report names each."""

import csv
import io
import os

import numpy as np
import pytest
from pictures import jpeg, picture, write_folder
from PIL import Image

from keras_resnet.data import pipeline
from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import evaluation_batches, training_batches
from keras_resnet.data.problems import Problem, Problems
from keras_resnet.preprocessing import load_image
from keras_resnet.tasks.sources import open_source
from keras_resnet.variants import InputContract

STILL = Augmentation(crop="none", flip=False)
COUNT, SEED = 120, 2


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Folder of 240 files, of which 2 % can't be read and 3 are unusual -> the folder, what is wrong with each."""
    folder = write_folder(tmp_path_factory.mktemp("broken"), {"ant": COUNT, "bee": COUNT})
    whole, tall = jpeg(picture(60, 80, 999)), jpeg(picture(300, 60, 997))
    colours = Image.fromarray(picture(60, 80, 998))
    contents = {
        "ant/003.jpg": (b"", "the file is empty"),
        "ant/050.jpg": (b"no image at all", "not an image"),
        "bee/007.jpg": (whole[: len(whole) // 2], "truncated"),
        "bee/021.jpg": (tall[: len(tall) * 9 // 10], "truncated"),  # below the part that is decoded
        "bee/020.jpg": (whole[:200], "broken|not an image"),
        "bee/099.jpg": (whole + b"padding", None),  # which the quick way leaves to Pillow
        "ant/077.jpg": (jpeg(picture(30, 2000, 5)), "2,000 x 30 pixels"),
        "bee/044.jpg": (encoded(colours.convert("CMYK"), "JPEG", quality=95), "CMYK, converted"),
        "bee/045.jpg": (encoded(colours, "PNG"), None),
        "bee/046.jpg": (encoded(colours.convert("L"), "JPEG", quality=95), None),
        "bee/047.jpg": (encoded(colours, "JPEG", progressive=True, quality=95), None),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / "ant" / "111.jpg").unlink()
    (folder / "ant" / "111.jpg").symlink_to("nowhere.jpg")
    reasons = {name: reason for name, (_, reason) in contents.items() if reason} | {"ant/111.jpg": "No such file"}
    return folder, reasons


UNUSUAL = ("ant/077.jpg", "bee/044.jpg")


def epoch(source, problems, **options):
    options = {"size": 32, "batch_size": 8, "seed": SEED, "epoch": 0} | options
    return [
        tuple(part.numpy() for part in batch) for batch in training_batches(source, STILL, problems=problems, **options)
    ]


def assert_reported(problems, reasons, names):
    found = {problem.name: problem for problem in problems.found}
    assert len(found) == len(problems.found)
    assert found.keys() == reasons.keys() & names
    for name, problem in found.items():
        assert any(part in problem.reason for part in reasons[name].split("|")), problem
        assert problem.used == (name in UNUSUAL)
    assert problems.unusable == len(found) - sum(name in UNUSUAL for name in found)


def test_an_epoch_finishes_and_the_report_names_each(broken):
    folder, reasons = broken
    source, problems = open_source(folder, "train"), Problems(limit=5)
    batches = epoch(source, problems)
    assert len(batches) == source.count // 8
    order = source.order(SEED, 0)
    names = {source.name_of(index) for index in order[: 8 * len(batches)]}
    assert_reported(problems, reasons, names)
    assert problems.exceeded == (problems.unusable > 5)
    unusable = [source.name_of(index) in reasons and source.name_of(index) not in UNUSUAL for index in order]
    other_classes = 0
    for number, (images, labels) in enumerate(batches):
        rows = np.arange(8 * number, 8 * number + 8)
        for row in rows[np.array(unusable)[rows]]:
            after = next(other for other in (*range(row + 1, rows[-1] + 1), *rows) if not unusable[other])
            np.testing.assert_array_equal(images[row - rows[0]], images[after - rows[0]])
            np.testing.assert_array_equal(labels[row - rows[0]], labels[after - rows[0]])
            assert labels[row - rows[0]].argmax() == source.labels[order[after]]
            other_classes += source.labels[order[row]] != source.labels[order[after]]
    assert other_classes  # or the labels would be right by chance


def test_what_stands_in_for_a_bad_file_is_the_same_each_time(broken):
    source = open_source(broken[0], "train")
    whole, again = epoch(source, Problems(9)), epoch(source, Problems(9), first_batch=11)
    assert len(again) == len(whole) - 11
    for (images, labels), (others, other_labels) in zip(whole[11:], again, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, other_labels)


def test_a_batch_of_bad_files_alone_gets_the_next_image_of_the_epoch(broken):
    source, problems = open_source(broken[0], "train"), Problems(9)
    order = source.order(SEED, 0)
    images = epoch(source, problems, batch_size=1)
    assert_reported(problems, broken[1], set(source.names))
    usable = [name not in broken[1] or name in UNUSUAL for name in (source.name_of(index) for index in order)]
    for place in np.flatnonzero(~np.array(usable)):
        after = next(other for other in (*range(place + 1, source.count), *range(place)) if usable[other])
        difference = images[place][0].astype(int) - images[after][0]
        assert np.abs(difference).mean() < 12  # the same image, with the other way's resize
        np.testing.assert_array_equal(images[place][1], images[after][1])


def test_a_set_of_bad_files_alone_ends_in_black_and_a_report(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(4):
            (tmp_path / name / f"{index}.jpg").write_text("no image")
    source, problems = open_source(tmp_path, "train"), Problems(2)
    batches = epoch(source, problems, batch_size=3)
    assert [images.max() for images, _ in batches] == [0, 0]
    assert problems.unusable == 6
    assert problems.exceeded


def test_evaluation_leaves_them_out_and_has_pillows_pixels(broken):
    folder, reasons = broken
    contract = InputContract(size=32, resize=40)
    for split in ("train", "val"):
        source, problems = open_source(folder, split), Problems(9)
        batches = [
            (x.numpy(), y.numpy()) for x, y in evaluation_batches(source, contract, batch_size=7, problems=problems)
        ]
        assert_reported(problems, reasons, set(source.names))
        kept = [
            index
            for index in range(source.count)
            if source.name_of(index) not in reasons or source.name_of(index) in UNUSUAL
        ]
        assert [len(images) for images, _ in batches[:-1]] == [7] * (len(batches) - 1)
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        np.testing.assert_array_equal(images, [load_image(folder / source.name_of(i), contract) for i in kept])
        np.testing.assert_array_equal(labels, np.eye(2, dtype="float32")[source.labels[kept]])


def test_workers_evaluate_a_part_each(broken):
    source, contract = open_source(broken[0], "val"), InputContract(32, 32)
    whole = np.concatenate([x for x, _ in evaluation_batches(source, contract, batch_size=8, problems=Problems(9))])
    parts = [
        np.concatenate(
            [
                x
                for x, _ in evaluation_batches(
                    source, contract, batch_size=8, problems=Problems(9), worker=worker, workers=2
                )
            ]
        )
        for worker in (0, 1)
    ]
    np.testing.assert_array_equal(np.sort(whole, axis=0), np.sort(np.concatenate(parts), axis=0))


def test_a_file_with_too_many_pixels_is_not_decoded(broken, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", str(80 * 100))
    folder = write_folder(tmp_path, {"ant": 4})
    (folder / "ant" / "002.jpg").write_bytes(jpeg(picture(90, 100, 7)))
    source, problems = open_source(folder, "train"), Problems(0)
    pipeline.jpeg_cropper.cache_clear()
    names = {source.name_of(index) for index in range(source.count)}
    epoch(source, problems, batch_size=source.count)
    pipeline.jpeg_cropper.cache_clear()
    assert [problem.name for problem in problems.found] == ["ant/002.jpg"] if "ant/002.jpg" in names else []
    assert all("too many pixels" in problem.reason for problem in problems.found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_and_devices_are_neither_waited_for_nor_read(tmp_path):
    """TensorFlow reads the files of a training batch itself, and would do both."""
    folder = write_folder(tmp_path, {"ant": 8, "bee": 8})
    for name in ("ant/003.jpg", "bee/004.jpg", "bee/005.jpg"):
        (folder / name).unlink()
    os.mkfifo(folder / "ant" / "003.jpg")
    (folder / "bee" / "004.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (folder / "bee" / "005.jpg").symlink_to(tmp_path / "pipe")
    source, problems = open_source(folder, "train"), Problems(0)
    assert [images.shape for images, _ in epoch(source, problems, batch_size=source.count)] == [
        (source.count, 32, 32, 3)
    ]
    special = {"ant/003.jpg", "bee/004.jpg", "bee/005.jpg"} & {source.name_of(i) for i in range(source.count)}
    assert {problem.name: problem.reason for problem in problems.found} == dict.fromkeys(special, "not a regular file")
    assert len(special) >= 2


def test_large_images_on_the_slow_path_become_equal_pixels(tmp_path, monkeypatch):
    (tmp_path / "ant").mkdir()
    for number in range(4):
        content = encoded(Image.fromarray(picture(60, 80, number)), "PNG")
        (tmp_path / "ant" / f"{number}.png").write_bytes(content)
    source = open_source(tmp_path, "train")
    [(images, _)] = epoch(source, Problems(0), batch_size=source.count)
    monkeypatch.setattr("keras_resnet.data.crop.LARGE_PIXELS", 60 * 80 - 1)
    [(in_turn, _)] = epoch(source, Problems(0), batch_size=source.count)
    np.testing.assert_array_equal(in_turn, images)


def test_pictures_stand_upright_as_exif_says(tmp_path):
    exif = Image.Exif()
    (tmp_path / "ant").mkdir()
    for orientation in range(1, 11):
        exif[0x0112] = orientation
        content = jpeg(picture(96, 160, orientation), exif=exif.tobytes())
        (tmp_path / "ant" / f"{orientation}.jpg").write_bytes(content)
    for split in ("train", "val"):  # nine, and one
        source = open_source(tmp_path, split)
        images, _ = epoch(source, Problems(0), size=48, batch_size=source.count)[0]
        for image, index in zip(images, source.order(SEED, 0), strict=True):
            wanted = load_image(tmp_path / source.name_of(index), InputContract(48, 48))
            assert np.abs(image.astype(int) - wanted).mean() < 2.5
            for other in (image[::-1], image[:, ::-1], image.transpose(1, 0, 2)):
                assert np.abs(other.astype(int) - wanted).mean() > 10


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_random_part_of_a_turned_picture_is_that_of_the_upright_one(orientation, tmp_path):
    """The same pixels, stored upright and turned: the same random areas of them are taken."""
    upright = picture(90, 130, 4)
    stored = np.rot90(upright, 1) if orientation == 6 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    results = []
    for name, content in (("turned", jpeg(stored, exif=exif.tobytes())), ("upright", jpeg(upright))):
        folder = write_folder(tmp_path / name, {"ant": 9})
        for file in folder.rglob("*.jpg"):
            file.write_bytes(content)
        batches = training_batches(
            open_source(folder, "train"), Augmentation(), size=32, batch_size=8, seed=1, epoch=0, problems=Problems(0)
        )
        results.append(next(iter(batches))[0].numpy().astype(int))
    assert np.abs(results[0] - results[1]).mean() < 2
    assert np.abs(results[0][0] - results[0][1]).mean() > 10


def test_problems_are_kept_once_and_written(tmp_path):
    problems = Problems(limit=1)
    problems.add("a, b.jpg", "the file is empty", used=False)
    problems.add("a, b.jpg", "another reason", used=False)
    assert not problems.exceeded
    problems.add("c\udcff.jpg", "CMYK, converted", used=True)
    assert not problems.exceeded
    problems.add("d.jpg", "not an image", used=False)
    assert problems.exceeded
    assert problems.found[0] == Problem("a, b.jpg", "the file is empty", False)
    problems.write_csv(tmp_path / "problems.csv")
    with (tmp_path / "problems.csv").open(newline="", errors="surrogateescape") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["name", "reason", "used"]
    assert rows[2] == ["c\udcff.jpg", "CMYK, converted", "True"]
    assert len(rows) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["problems.csv"]


@pytest.mark.parametrize(("side", "contract"), [(32, InputContract(32, 32)), (20, InputContract(24, 28, "bicubic"))])
def test_arrays_are_evaluated_as_files_of_the_same_pixels(side, contract, tmp_path):
    draw = np.random.default_rng(2)
    x, y = draw.integers(0, 256, (23, side, side + 4), np.uint8), draw.integers(0, 4, 23)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_val=x, y_val=y)
    source = open_source(tmp_path / "a.npz", "val")
    batches = [
        (a.numpy(), b.numpy()) for a, b in evaluation_batches(source, contract, batch_size=10, problems=Problems(0))
    ]
    assert [len(images) for images, _ in batches] == [10, 10, 3]
    wanted = [load_image(encoded(Image.fromarray(pixels), "PNG"), contract) for pixels in x]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), wanted)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), np.eye(4)[y])
