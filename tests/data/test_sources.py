"""What the user names as data -> classes, counts, names and splits."""

import csv
import json
import sys
import types
import zipfile

import numpy as np
import pytest
from pictures import jpeg, picture, write_folder

from keras_resnet.data.splits import held_out
from keras_resnet.errors import ArgumentError, ImageError, MissingDependencyError
from keras_resnet.tasks.sources import open_source


def names(source):
    return [source.name_of(index) for index in range(source.count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("plain"), {"cow": 30, "ant": 12, "bee": 1}, 8, 8)


def test_a_folder_of_class_folders_gives_a_tenth_away(folder):
    train, val = open_source(folder, "train"), open_source(folder, "val")
    assert train.classes == val.classes == ("ant", "bee", "cow")
    np.testing.assert_array_equal(train.class_counts, [11, 1, 27])
    np.testing.assert_array_equal(val.class_counts, [1, 0, 3])
    assert sorted(names(train) + names(val)) == sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    assert [train.classes[label] for label in train.labels] == [name.split("/")[0] for name in names(train)]
    assert train.read(3) == (folder / names(train)[3]).read_bytes()


def test_the_summary_says_what_a_run_is_resumed_on(folder, tmp_path):
    summary = open_source(folder, "train").summary()
    assert json.loads(json.dumps(summary)) == summary
    assert {key: summary[key] for key in ("kind", "path", "split", "classes", "count", "class_counts")} == {
        "kind": "folder",
        "path": str(folder),
        "split": "train",
        "classes": ["ant", "bee", "cow"],
        "count": 39,
        "class_counts": [11, 1, 27],
    }
    assert summary["validation"].startswith("held out: a tenth of each class")
    assert len(summary["fingerprint"]) == 64
    moved = write_folder(tmp_path / "moved", {"cow": 30, "ant": 12, "bee": 1}, 8, 8)
    assert open_source(moved, "train").summary()["fingerprint"] == summary["fingerprint"]
    (moved / "cow" / "004.jpg").rename(moved / "cow" / "other.jpg")
    assert open_source(moved, "train").summary()["fingerprint"] != summary["fingerprint"]


def test_another_image_moves_one_at_most():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 5, 400)
    all_names = [f"{label}/{index}.jpg" for index, label in enumerate(labels)]
    before = {name for name, chosen in zip(all_names, held_out(all_names, labels), strict=True) if chosen}
    shuffled = draw.permutation(400)
    again = held_out([all_names[index] for index in shuffled], labels[shuffled])
    assert {all_names[index] for index in shuffled[again]} == before
    for extra in range(5):
        more = held_out([*all_names, f"{extra}/new.jpg"], np.append(labels, extra))
        after = {name for name, chosen in zip([*all_names, "new"], more, strict=True) if chosen}
        assert len(before - after) <= 1
        assert len(after - before) <= 1
    for label in range(5):
        count = (labels == label).sum()
        assert abs(sum(name.startswith(f"{label}/") for name in before) - count / 10) <= 0.5


@pytest.mark.parametrize(
    ("train", "name"), [("train", "val"), ("Training", "Validation"), ("TRAIN", "valid"), ("trn", "dev")]
)
def test_a_folder_with_its_own_validation_split(train, name, tmp_path):
    write_folder(tmp_path / train, {"ant": 5, "bee": 6}, 8, 8)
    write_folder(tmp_path / name, {"bee": 2}, 8, 8)
    train, val = open_source(tmp_path, "train"), open_source(tmp_path, "val")
    assert (train.count, val.count) == (11, 2)
    assert val.classes == ("ant", "bee")
    np.testing.assert_array_equal(val.class_counts, [0, 2])
    assert names(val)[0] == f"{name}/bee/000.jpg"
    assert val.summary()["validation"] == "its own"
    assert val.read(0) == (tmp_path / names(val)[0]).read_bytes()


def test_a_class_that_training_does_not_have_is_named(tmp_path):
    write_folder(tmp_path / "train", {"ant": 5, "bee": 6}, 8, 8)
    write_folder(tmp_path / "val", {"beee": 2}, 8, 8)
    with pytest.raises(ArgumentError, match=r"beee \(did you mean bee\?\)"):
        open_source(tmp_path, "val")


def test_labels_give_the_order_and_the_names_that_are_known(folder):
    source = open_source(folder, "train", class_names=["cow", "dog", "bee", "ant"])
    assert source.classes == ("cow", "dog", "bee", "ant")
    np.testing.assert_array_equal(source.class_counts, [27, 0, 1, 11])
    with pytest.raises(ArgumentError, match="classes that are unknown to the model: 1"):
        open_source(folder, "train", class_names=["cow", "bee"])


def test_numbers_are_sorted_by_their_value(tmp_path):
    write_folder(tmp_path, {"10": 2, "9": 2, "0": 2}, 8, 8)
    assert open_source(tmp_path, "train").classes == ("0", "9", "10")


def test_folders_may_be_links_and_nest_and_hold_other_files(folder, tmp_path):
    (tmp_path / "linked").symlink_to(folder / "ant")
    (tmp_path / "nested" / "deep").mkdir(parents=True)
    (tmp_path / "nested" / "deep" / "a.JPG").write_bytes(jpeg(picture(8, 8, 1)))
    (tmp_path / "nested" / "notes.txt").write_text("no image")
    (tmp_path / "loose.jpg").write_bytes(jpeg(picture(8, 8, 1)))
    (tmp_path / "empty").mkdir()
    source = open_source(tmp_path, "train")
    assert source.classes == ("linked", "nested")
    np.testing.assert_array_equal(source.class_counts, [11, 1])
    assert names(source)[-1] == "nested/deep/a.JPG"


@pytest.mark.parametrize("with_split", [False, True])
def test_a_csv_file(with_split, folder):
    file = folder / f"{with_split}.csv"
    rows = [(f"cow/{index:03d}.jpg", "cow", "Train" if index % 4 else "valid") for index in range(30)]
    rows += [(f"ant/{index:03d}.jpg", "ant", "train" if index % 3 else "VAL") for index in range(12)]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split") if with_split else ("path", "label"))
        writer.writerows(rows if with_split else [row[:2] for row in rows])
    train, val = open_source(file, "train"), open_source(file, "val")
    assert train.classes == ("ant", "cow")
    np.testing.assert_array_equal(val.class_counts, [4, 8] if with_split else [1, 3])
    np.testing.assert_array_equal(train.class_counts + val.class_counts, [12, 30])
    assert train.summary()["validation"] == ("its own" if with_split else val.summary()["validation"])
    assert train.read(0) == (folder / names(train)[0]).read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label,split\na.jpg,b,trian\n", "column 'split' must hold train, val or test. Received: trian in row 2"),
        ("path,label,split\na.jpg,b,val\n", "no row has train in the column 'split'. Received: val"),
        ("path,wrong\na.jpg,b\n", "Its columns are path, wrong; .*--label-column COLUMN"),
        ("path,label\na.jpg,b\n", "no class has two images"),
    ],
)
def test_a_csv_file_that_can_not_be_used_is_named(content, message, tmp_path):
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(ArgumentError, match=message):
        open_source(tmp_path / "bad.csv", "val")


def archive(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_an_archive_of_arrays(channels, tmp_path):
    draw = np.random.default_rng(1)
    shape = (8, 9) if channels is None else (8, 9, channels)
    x, y = draw.integers(0, 256, (50, *shape), np.uint8), np.arange(50)[:, None] % 5
    path = archive(tmp_path / "a.npz", x_train=x[:40], y_train=y[:40], x_val=x[40:], y_val=y[40:])
    train, val = open_source(path, "train"), open_source(path, "val")
    assert train.classes == ("0", "1", "2", "3", "4")
    np.testing.assert_array_equal(val.images, x[40:].reshape(10, 8, 9, channels or 1))
    np.testing.assert_array_equal(val.labels, y[40:, 0])
    assert val.name_of(3) == "val/3"
    assert open_source(path, "val", class_names=list("abcdefg")).classes == tuple("abcdefg")
    with pytest.raises(ArgumentError, match="5 classes, but the model has 2"):
        open_source(path, "val", class_names=["a", "b"])


def test_an_archive_without_validation_gives_a_tenth_away(tmp_path):
    x, y = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), np.uint8), np.arange(40) % 2
    path = archive(tmp_path / "a.npz", x_train=x, y_train=y)
    train, val = open_source(path, "train"), open_source(path, "val")
    assert (train.count, val.count) == (36, 4)
    for source in (train, val):
        for index in range(source.count):
            where = int(source.name_of(index).split("/")[1])
            np.testing.assert_array_equal(source.images[index], x[where])
            assert source.labels[index] == y[where]


IMAGES, LABELS = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES / 255, "y_train": LABELS}, "uint8 pixels.*Received: float64"),
        ({"x_train": IMAGES[..., :2], "y_train": LABELS}, r"Received: uint8 \[4, 8, 8, 2\]"),
        ({"x_train": IMAGES, "y_train": LABELS[:3]}, "4 images, y_train 3 labels"),
        ({"x_train": IMAGES, "y_train": LABELS - 1}, "-1 to 2"),
        ({"x_train": IMAGES, "y_train": np.eye(4)}, "class indices"),
        ({"images": IMAGES}, "Received: images"),
        ({"x_train": IMAGES, "y_train": np.array([1, "a", None, 2], object)}, "not an .npz archive of plain arrays"),
        ({"x_train": IMAGES, "y_train": np.array(["1", "2", "3", "4"])}, "y_train must hold numbers"),
    ],
)
def test_an_archive_that_can_not_be_used_is_named(arrays, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        open_source(archive(tmp_path / "bad.npz", **arrays), "train")


def test_what_is_no_data_is_named(tmp_path):
    with pytest.raises(ArgumentError, match="no such file or folder"):
        open_source(tmp_path / "nothing", "train")
    (tmp_path / "a.jpg").write_bytes(jpeg(picture(8, 8, 1)))
    with pytest.raises(ArgumentError, match=r"a\.jpg: not a CSV file"):
        open_source(tmp_path / "a.jpg", "train")
    with pytest.raises(ImageError, match="a folder for each class"):
        open_source(tmp_path, "train")
    with pytest.raises(ArgumentError, match="'train' or 'val'"):
        open_source(tmp_path, "test")
    with zipfile.ZipFile(tmp_path / "no-array.npz", "w") as no_array:
        no_array.writestr("x_train.npy", b"no array")
        no_array.writestr("y_train.npy", b"no array")
    with pytest.raises(ArgumentError, match=r"no-array\.npz: not an \.npz archive of plain arrays: \w_train must hold"):
        open_source(tmp_path / "no-array.npz", "train")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ArgumentError, match=r"not an \.npz archive"):
        open_source(tmp_path / "b.npz", "train")


class Records(list):
    """What `as_data_source` of tensorflow-datasets 4.9 gives: a sequence of dicts."""


def fake_tfds(splits, features=("image", "label")):
    """A module with what is used of tensorflow-datasets 4.9; each call checks how it is called."""
    named = types.SimpleNamespace(names=["dog", "cat"])

    class Builder:
        info = types.SimpleNamespace(
            splits=dict.fromkeys(splits),
            features={feature: named if feature == "label" else None for feature in features},
        )
        prepared = False

        def download_and_prepare(self):
            self.prepared = True

        def as_data_source(self, split, decoders):
            assert self.prepared
            assert decoders == {"image": "skipped"}
            start = 100 * list(splits).index(split)
            return Records(
                {"image": jpeg(picture(8, 8, start + index)), "label": np.int64(index % 2)}
                for index in range(splits[split])
            )

    def builder(name, file_format):
        if name != "pets":
            raise ValueError(f"Dataset {name} not found.")
        assert file_format == "array_record"
        return Builder()

    decode = types.SimpleNamespace(SkipDecoding=lambda: "skipped")
    return types.SimpleNamespace(builder=builder, decode=decode)


def test_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tfds({"train": 9, "validation": 4}))
    train, val = open_source("tfds:pets", "train"), open_source("tfds:pets", "val")
    assert train.classes == ("dog", "cat")
    np.testing.assert_array_equal(train.class_counts, [5, 4])
    assert (val.count, val.summary()["kind"], val.summary()["path"]) == (4, "tfds", "tfds:pets")
    assert val.read(2) == jpeg(picture(8, 8, 102))
    swapped = open_source("tfds:pets", "train", class_names=["cat", "cow", "dog"])
    np.testing.assert_array_equal(swapped.class_counts, [4, 0, 5])


def test_tensorflow_datasets_without_validation(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tfds({"train": 30}))
    train, val = open_source("tfds:pets", "train"), open_source("tfds:pets", "val")
    assert (train.count, val.count) == (26, 4)
    assert train.read(5) == jpeg(picture(8, 8, int(train.name_of(5).split("/")[1])))


def test_tensorflow_datasets_that_can_not_be_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tfds({"train": 30}, features=("image", "mask")))
    with pytest.raises(ArgumentError, match="Received: image, mask"):
        open_source("tfds:pets", "train")
    with pytest.raises(ArgumentError, match="tfds:birds: Dataset birds not found"):
        open_source("tfds:birds", "train")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingDependencyError, match="pip install tensorflow-datasets"):
        open_source("tfds:pets", "train")
