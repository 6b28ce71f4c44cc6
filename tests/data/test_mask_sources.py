"""Folders and CSV files of images with masks -> pairs, classes, void; and what each mistake is answered with."""

import csv
import json

import numpy as np
import pytest
from masked_pictures import CLASSES, COLOURS, labels, png, write, write_masked
from pictures import jpeg, picture

from keras_resnet.data.reading import Reading
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.tasks.segment.masks import decode_mask
from keras_resnet.tasks.sources import open_source

LAYOUTS = {
    "split above": {"train": ("train/images", "train/masks"), "val": ("val/images", "val/masks")},
    "split below": {"train": ("images/train", "masks/train"), "val": ("images/valid", "masks/valid")},
}


def masks_of(source):
    return [source.decode_target(index) for index in range(source.count)]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_folders_of_both_layouts(layout, tmp_path):
    for split, count in (("train", 7), ("val", 3)):
        images, masks = layout[split]
        write_masked(tmp_path, count, images=images, masks=masks)
    for split, count in (("train", 7), ("val", 3)):
        source = open_source(tmp_path, split)
        assert source.names == [f"{layout[split][0]}/{index:03d}.jpg" for index in range(count)]
        assert source.classes == tuple(f"class {index}" for index in range(CLASSES))
        assert source.target.task == "segment"
        for index, mask in enumerate(masks_of(source)):
            np.testing.assert_array_equal(mask, labels(60 + index % 7, 80 + index % 11, index + 1))
        assert source.read(2) == (tmp_path / source.names[2]).read_bytes()
        assert source.summary()["validation"] == "its own"


def test_a_folder_without_splits_and_a_csv_file_hold_the_same_tenth_out(tmp_path):
    write_masked(tmp_path, 20)
    with (tmp_path / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("mask", "file"), *((f"masks/{index:03d}.png", f"images/{index:03d}.jpg") for index in range(20))]
        )
    for split, count in (("train", 18), ("val", 2)):
        by_folder, by_csv = open_source(tmp_path, split), open_source(tmp_path / "pairs.csv", split)
        assert by_folder.count == by_csv.count == count
        assert by_csv.kind == "csv"
        assert by_folder.summary()["validation"].startswith("held out")
        counts = [sum((mask == label).sum() for mask in masks_of(by_folder)) for label in range(CLASSES)]
        np.testing.assert_array_equal(by_folder.class_counts, counts)
    assert {*by_folder.names} <= {f"images/{index:03d}.jpg" for index in range(20)}
    (tmp_path / "split.csv").write_text(
        "path,mask,split\nimages/000.jpg,masks/000.png,train\nimages/003.jpg,masks/003.png,val\n"
    )
    assert open_source(tmp_path / "split.csv", "val").names == ["images/003.jpg"]


def test_the_summary_says_what_a_run_is_resumed_on(tmp_path):
    folder = write_masked(tmp_path, 20)
    source = open_source(folder, "train")
    assert json.loads(json.dumps(source.summary())) == source.summary()
    assert (source.summary()["count"], source.summary()["kind"]) == (18, "folder")
    assert source.fingerprint == open_source(folder, "train").fingerprint
    assert source.fingerprint != open_source(folder, "train", reading=Reading(void_labels=(2,))).fingerprint
    np.testing.assert_array_equal(np.sort(source.order(3, 1)), np.arange(18))


def test_void_labels_are_no_classes_and_the_others_move_up(tmp_path):
    write_masked(tmp_path, 9)
    void = Reading(void_labels=(1, 3))
    source, plain = open_source(tmp_path, "train", reading=void), open_source(tmp_path, "train")
    assert source.classes == ("class 0", "class 1", "class 2")
    for mask, old in zip(masks_of(source), masks_of(plain), strict=True):
        np.testing.assert_array_equal(mask, np.array([0, 255, 1, 255, 2, 255])[np.minimum(old, 5)])
    named = open_source(tmp_path, "val", class_names=("a", "b", "c"), reading=void)
    assert named.classes == ("a", "b", "c")
    np.testing.assert_array_equal(named.legend.labels, source.legend.labels)
    twice = open_source(tmp_path, "val", class_names=("a", "b", "a"), reading=void)  # as two of ImageNet's are
    np.testing.assert_array_equal(twice.legend.labels, source.legend.labels)


def test_a_table_names_classes_and_colours_and_void(tmp_path):
    """Masks of colours and of labels give the same classes; a model's own order is kept."""
    names = ["road", "void", "tree", "car", "sky"]
    rows = [(name, *colour) for name, colour in zip(names, COLOURS.tolist(), strict=True)]
    for folder, table in (("colours", rows), ("labels", [row[:1] for row in rows])):
        for index in range(4):
            values = labels(20, 31, index)
            values = np.where(values == 255, 1, values).astype(np.uint8)
            write(tmp_path / folder / "images" / f"{index}.jpg", jpeg(picture(20, 31, index)))
            write(tmp_path / folder / "masks" / f"{index}.png", png(COLOURS[values] if folder == "colours" else values))
        with (tmp_path / folder / "classes.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("name", "red", "green", "blue")[: len(table[0])], *table])
    one, other = (open_source(tmp_path / folder, "train") for folder in ("colours", "labels"))
    assert one.classes == other.classes == ("road", "tree", "car", "sky")
    values = [labels(20, 31, int(name[7])) for name in other.names]
    for a, b, value in zip(masks_of(one), masks_of(other), values, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, np.array([0, 255, 1, 2, 3, 255])[np.minimum(value, 5)])
    turned = open_source(tmp_path / "colours", "train", class_names=("sky", "bus", "car", "tree", "road"))
    np.testing.assert_array_equal(masks_of(turned)[0], np.array([4, 3, 2, 0, 255])[np.minimum(masks_of(one)[0], 4)])
    with pytest.raises(ArgumentError, match="classes that are unknown to the model: 1\n  tree"):
        open_source(tmp_path / "colours", "train", class_names=("sky", "car", "road"))
    write(tmp_path / "colours" / "masks" / "0.png", png(np.full((20, 31, 3), 7, np.uint8)))
    with pytest.raises(ImageError, match=r"0\.png: 620 pixels have the colour 7, 7, 7, which classes\.csv does not"):
        [open_source(tmp_path / "colours", split).decode_target(0) for split in ("train", "val")]


@pytest.mark.parametrize("mode", [None, "P", "I;16", "1"])
def test_masks_of_all_modes_hold_the_labels_they_were_given(mode):
    values = labels(13, 18, 3, classes=2)
    values[values == 255] = 0 if mode == "1" else 255
    content = {
        "I;16": lambda: png(values.astype(np.uint16)),
        "1": lambda: png(values.astype(bool)),
    }.get(mode, lambda: png(values, mode))()
    np.testing.assert_array_equal(decode_mask(content), values)


def test_masks_that_have_no_labels_are_refused():
    with pytest.raises(ImageError, match="its pixels have the mode LA"):
        decode_mask(png(labels(4, 5, 1), "LA"))
    with pytest.raises(ImageError, match="of the formats PNG"):
        decode_mask(jpeg(picture(4, 5, 1)))


def test_images_and_masks_that_are_no_pairs_are_named(tmp_path):
    folder = write_masked(tmp_path, 5)
    (folder / "masks" / "003.png").unlink()
    write(folder / "masks" / "extra.png", png(labels(5, 5, 0)))
    write(folder / "images" / "002.png", png(picture(5, 5, 0)))
    with pytest.raises(ArgumentError) as raised:
        open_source(folder, "train")
    first, *lines = str(raised.value).splitlines()
    assert first == f"{folder / 'images'}: images and masks that are no pairs: 3"
    assert lines == [
        "  003.jpg: no mask 003.png",
        "  extra.png: no image of that name",
        "  002: 2 images of that name, which would share a mask",
        "The folder of masks has, for example, 000.png. A mask must have the name of its image; if all masks have an "
        "ending more, name it by `mask_suffix` (--mask-suffix _mask)",
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("title\na\n", "must have a row for each label, with the column name.*KeyError"),
        ("name,red,green,blue\na,1,2,x\n", "each 0..255. Received: ValueError"),
        ("name,red,green,blue\na,1,2,300\nb,1,2,3\n", r"must lie in 0..255. Received: 1..300"),
        ("name\na\na\n", r"twice. Received: \['a'\]"),
        ("name,red,green,blue\na,1,2,3\nb,1,2,3\n", "twice. Received: a repeated colour"),
        ("name\nonly\nvoid\n", "2 to 254 classes besides the void labels"),
    ],
)
def test_a_table_that_can_not_be_used_is_named(table, message, tmp_path):
    write_masked(tmp_path, 3)
    (tmp_path / "classes.csv").write_text(table)
    with pytest.raises(ArgumentError, match=message):
        open_source(tmp_path, "train")


def test_what_can_not_be_is_said(tmp_path, folder):
    masked = write_masked(tmp_path / "masked", 3)
    for options, message in (
        ({"void_labels": (256,)}, r"must lie in 0..255. Received: \[256\]"),
        ({"void_labels": (1, 2, 3, 4)}, "2 to 254 classes besides the void labels .1, 2, 3, 4, 255.. Received: 1"),
        ({"void_labels": (0, 1, 2, 3, 4)}, "none of the 3 masks can be read and has a label besides void"),
    ):
        with pytest.raises(ArgumentError, match=message):
            open_source(masked, "train", reading=Reading(**options))
    with pytest.raises(ArgumentError, match=r"`void_labels` \(--void-labels\) is for segmentation"):
        open_source(folder, "train", reading=Reading(void_labels=(3,)))
    write(masked / "masks" / "001.png", png(picture(61, 81, 2)))
    with pytest.raises(ArgumentError, match=r"has colours; add a classes\.csv with the columns name, red, green, blue"):
        open_source(masked, "train")


def test_camvid(shared_data):
    """Counted with Pillow and NumPy alone."""
    train, val = (
        open_source(shared_data / "camvid_240x180", split, reading=Reading(void_labels=(11,)))
        for split in ("train", "val")
    )
    assert (train.count, val.count, len(train.classes)) == (367, 101, 11)
    assert train.class_counts[[0, 3, 10]].tolist() == [2655759, 5040098, 46192]
