"""Folders, CSV files and masks as people have them: what is taken, what is left aside, and what is refused."""

import csv
import os

import numpy as np
import pytest
from command_line import in_process
from masked_pictures import png
from pictures import jpeg, picture
from PIL import Image

from keras_resnet.data.reading import Reading
from keras_resnet.data.taken import account, left_aside
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.tasks.sources import open_source, task_of_data

PETS = {"cat": 5, "dog": 6}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_classes(folder, counts=PETS, first=0):
    """Class folders of JPEG files, each other than all others."""
    for place, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write(folder / name / f"{index:03}.jpg", jpeg(picture(16, 20, 1000 * place + first + index)))
    return folder


def both(data, **choices):
    """-> training and validation images, as `train` opens them."""
    reading = Reading(**choices)
    train = open_source(data, "train", reading=reading)
    return train, open_source(data, "val", train.classes, reading)


def counts(source):
    return dict(zip(source.classes, source.class_counts.tolist(), strict=True))


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["", "val/"])
def test_hidden_and_system_files_are_never_data(split, tmp_path):
    write_classes(tmp_path / "train" if split else tmp_path)
    if split:
        write_classes(tmp_path / "val", {"cat": 2, "dog": 2}, first=50)
    for name in (".ipynb_checkpoints/0-checkpoint.jpg", "__MACOSX/cat/._0.jpg", "@eaDir/0.jpg", "cat/._000.jpg"):
        write(tmp_path / split / name, jpeg(picture(8, 8, 7)))
    for name in (".DS_Store", "cat/Thumbs.db", "cat/desktop.ini"):
        write(tmp_path / split / name, b"\0\1")
    train, val = both(tmp_path)
    assert train.classes == ("cat", "dog")
    assert train.count + val.count == 11 + 4 * bool(split)
    assert left_aside([train, val]).counts == {"hidden or system file": 7}


def test_a_test_split_is_not_used_unless_it_is_named(tmp_path):
    write_classes(tmp_path / "train", {"cat": 30, "dog": 20})
    write_classes(tmp_path / "test", {"cat": 2, "dog": 3}, first=100)
    train, val = both(tmp_path)
    assert (train.count, val.count, val.held_out) == (45, 5, True)
    assert left_aside([train, val]).examples == {"split that is not used (see --validation-split)": "test/"}
    train, val = both(tmp_path, validation_split="test")
    assert (train.count, counts(val), val.held_out) == (50, {"cat": 2, "dog": 3}, False)


def test_folders_that_can_be_splits_or_classes_are_asked_about(tmp_path):
    """Of vehicles, train is one."""
    for name in ("bus", "car", "train"):
        write_classes(tmp_path / name, {"red": 2, "blue": 2})
    with pytest.raises(ArgumentError, match=r"can be splits \(train/\) or classes \(bus/, car/, train/\)\. Choose one"):
        open_source(tmp_path, "train")
    assert open_source(tmp_path, "train", reading=Reading(folders="classes")).classes == ("bus", "car", "train")
    assert open_source(tmp_path, "train", reading=Reading(folders="splits")).classes == ("blue", "red")


def test_classes_that_are_called_like_splits_are_classes_where_they_have_no_folders(tmp_path):
    write_classes(tmp_path, {"bus": 4, "car": 4, "train": 4})
    assert open_source(tmp_path, "train").classes == ("bus", "car", "train")


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("train", "val", "Validation"):
        write_classes(tmp_path / name)
    with pytest.raises(ArgumentError, match="Validation/ and val/ can both be the val split"):
        open_source(tmp_path, "train")


def test_splits_without_training_images_are_refused(tmp_path):
    write_classes(tmp_path / "val")
    with pytest.raises(ArgumentError, match=r"has val/ and no training images. Name the folder"):
        open_source(tmp_path, "train")
    assert open_source(tmp_path / "val", "train").classes == ("cat", "dog")


def test_content_tells_what_is_an_image(tmp_path):
    write_classes(tmp_path)
    encoded = jpeg(picture(8, 9, 3))
    for name in ("a.jfif", "without_suffix", "b.JPE", "photo.jpg_large"):
        write(tmp_path / "cat" / name, encoded)
    Image.fromarray(picture(8, 9, 4)).save(tmp_path / "cat" / "c.avif")
    write(tmp_path / "dog" / "notes.txt", b"no image")
    (tmp_path / "empty").mkdir()
    train, val = both(tmp_path)
    assert dict(zip(train.classes, train.class_counts + val.class_counts, strict=True)) == {"cat": 10, "dog": 6}
    assert left_aside([train]).examples == {"not an image": "dog/notes.txt", "class folder without an image": "empty/"}
    for source in (train, val):
        for index in range(source.count):
            assert source.decode(index).pixels.shape[2] == 3


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    write_classes(tmp_path / "store")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "first").symlink_to(tmp_path / "store" / "cat")
    (tmp_path / "data" / "cat" / "circle").symlink_to(tmp_path / "data" / "cat")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "store" / "dog")
    train, val = both(tmp_path / "data")
    assert train.count + val.count == 11
    assert left_aside([train]).examples == {"link to a folder above itself": "cat/circle"}


def test_a_class_that_only_validation_has_is_named_as_such(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "val", {"cat": 1, "fox": 2}, first=50)
    with pytest.raises(ArgumentError, match=r"val: classes that are not in train/: 1\n  fox"):
        both(tmp_path)


def test_images_without_class_folders_are_refused_with_a_way_out(tmp_path):
    for index in range(4):
        write(tmp_path / f"cat.{index}.jpg", jpeg(picture(8, 8, index)))
    with pytest.raises(
        ImageError, match=r"It has 4 files, for example cat\.0\.jpg\. Make a folder for each class,.* or name a CSV"
    ):
        open_source(tmp_path, "train")


def test_folders_inside_class_folders_are_told(tmp_path):
    for name in ("animals/cat", "animals/dog", "plants/rose"):
        write_classes(tmp_path / name.partition("/")[0], {name.partition("/")[2]: 4}, first=len(name))
    train, val = both(tmp_path)
    assert (train.class_counts + val.class_counts).tolist() == [8, 4]
    assert next(account("pets", [train, val])) == "data: pets: class folders; images in animals/cat/ count for animals"
    status, lines, _ = in_process("data", "check", tmp_path)
    assert status == 1
    assert (
        "  images lie in folders inside class folders: 2 (such as animals/cat/), and count for the outer class, "
        "animals. If the inner folders are the classes, move them up"
    ) in lines


def test_batches_of_images_in_class_folders_are_no_classes(tmp_path):
    for name in ("cat", "dog"):
        write_classes(tmp_path / name, {"batch1": 3, "batch2": 3}, first=len(name) + 10 * (name == "cat"))
    assert both(tmp_path)[0].taken.inner == []


def test_a_folder_in_a_folder_that_is_no_class(tmp_path):
    """An archive that was unpacked into a folder of its own name."""
    write_classes(tmp_path / "flowers", {"daisy": 4, "rose": 4})
    command = ["train", "--data", tmp_path, "--network", "resnet20", "--size", 32, "--batch-size", 2]
    status, _, errors = in_process(*command, "--out", tmp_path / "run")
    assert status == 1
    assert errors[-1].endswith(
        "It has one: flowers. Its images lie in folders, such as flowers/daisy/: if these are the classes, name the "
        "folder above them"
    )


def test_the_folder_of_a_run_is_no_class(tmp_path):
    write_classes(tmp_path)
    for name in ("run/curves.png", "runs/first/evaluation/mistakes.png"):
        write(tmp_path / name, jpeg(picture(8, 8, 1)))
    for name in ("run", "runs/first"):
        write(tmp_path / name / "recipe.toml", b"")
    train, _ = both(tmp_path)
    assert train.classes == ("cat", "dog")
    assert left_aside([train]).counts["folder of a training run"] == 2


def test_classes_that_differ_only_in_capitals_look_wrong(tmp_path):
    write_classes(tmp_path, {"Hot dog": 3, "hot_dog": 3, "cat": 3})
    _, lines, _ = in_process("data", "check", tmp_path)
    assert "  classes whose names differ only in capitals, spaces or the like: Hot dog, hot_dog" in lines


def test_images_and_masks_in_one_folder_are_told_where_to_go(tmp_path):
    for index in range(3):
        write(tmp_path / f"{index}.png", jpeg(picture(8, 8, index)))
        write(tmp_path / f"{index}_L.png", jpeg(picture(8, 8, 10 + index)))
    with pytest.raises(
        ImageError, match=r"If 0_L\.png is a mask, put the images into images/ and the masks into masks/"
    ):
        open_source(tmp_path, "train")


def test_strict_makes_an_error_of_what_is_left_aside(tmp_path):
    write_classes(tmp_path)
    open_source(tmp_path, "train", reading=Reading(strict=True))
    write(tmp_path / "cat" / "notes.txt", b"no image")
    with pytest.raises(ArgumentError, match=r"\(--strict\):\n  not an image: 1 \(such as cat/notes\.txt\)"):
        open_source(tmp_path, "train", reading=Reading(strict=True))


def test_the_account_has_at_most_six_lines(tmp_path):
    write_classes(tmp_path / "Train", {f"class {index}": 1 + index for index in range(8)})
    write_classes(tmp_path / "valid", {"class 3": 2}, first=100)
    write(tmp_path / "test" / "class 1" / "1.jpg", jpeg(picture(8, 8, 1)))
    write(tmp_path / "Train" / "class 1" / ".hidden.jpg", b"")
    lines = list(account("pets", both(tmp_path)))
    assert lines == [
        "data: pets: class folders in Train/ and valid/",
        "train: 36 images of 8 classes in Train/: class 7 8, class 6 7, class 5 6, class 4 5, class 3 4 and 3 more",
        "val: 2 images of 8 classes in valid/: class 3 2, class 0 0, class 1 0, class 2 0, class 4 0 and 3 more",
        "left aside: hidden or system file: 1 (such as class 1/.hidden.jpg); "
        "split that is not used (see --validation-split): 1 (such as test/)",
    ]


# --- CSV files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("pets"), {"고양이": 4, "dog": 4})


def table(folder, header, rows, encoding="utf-8", delimiter=","):
    path = folder / "table.csv"
    with path.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return path


def rows_of(write_path=lambda path: path):
    return [[write_path(f"{name}/{index:03}.jpg"), name] for name in ("고양이", "dog") for index in range(4)]


@pytest.mark.parametrize(
    ("header", "path", "encoding", "delimiter"),
    [
        (["file", "label"], str, "utf-8-sig", ","),
        (["file", "label"], str, "utf-16", "\t"),
        (["file", "label"], str, "utf-8", ";"),
        (["File Name", " Class"], str, "utf-8", ","),
        (["image_id", "CATEGORY"], lambda path: path.removesuffix(".jpg"), "utf-8", ","),
        (["image-path", "class_name"], lambda path: path.replace("/", "\\"), "utf-8", ","),
        (["img", "name"], lambda path: "./" + path, "utf-8", "\t"),
    ],
)
def test_csv_files_of_many_programs(header, path, encoding, delimiter, pets):
    train, val = both(table(pets, header, rows_of(path), encoding, delimiter))
    assert (train.classes, train.count, val.count) == (("dog", "고양이"), 6, 2)
    for source in (train, val):
        for index in range(source.count):
            assert (
                source.read(index)
                == (pets / source.classes[source.labels[index]])
                .joinpath(os.path.basename(source.path_of(index)))
                .read_bytes()
            )


def test_absolute_paths(pets):
    train, _ = both(table(pets, ["file", "label"], rows_of(lambda path: str(pets / path))))
    assert (train.count, train.read(0)[:3]) == (6, b"\xff\xd8\xff")


def test_another_encoding_is_asked_for(pets):
    file = table(pets, ["file", "label"], rows_of(), "cp949")
    with pytest.raises(ArgumentError, match=r"not a CSV file in UTF-8: .*--encoding cp949 \(Korean Windows\)"):
        open_source(file, "train")
    assert open_source(file, "train", reading=Reading(encoding="cp949")).classes == ("dog", "고양이")
    with pytest.raises(
        ArgumentError, match=r"`encoding` \(--encoding\) must be one that Python knows. Received: klingon"
    ):
        open_source(file, "train", reading=Reading(encoding="klingon"))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["file", "label"], [["dog/000.jpg", "dog"], ["dog/001.jpg", ""]], "column 'label' is empty in row 3"),
        (["file", "label"], [["", "dog"], ["", "dog"]], "column 'file' is empty in rows 2, 3"),
        (["file", "label", "split"], [["a.jpg", "dog", ""]], "column 'split' is empty in row 2"),
        (["file", "label", "split"], [["a.jpg", "dog", "fold1"]], "Received: fold1 in row 2"),
        (["dog/000.jpg", "dog"], [["dog/001.jpg", "dog"]], "first line must name the columns, for example file,label"),
        (["file", "file", "label"], [["a", "b", "c"]], "a name of its own. Received twice: file"),
        (["file", "path", "label"], [["a", "b", "c"]], "file and path can both .*--image-column file"),
        (["file", "class", "label"], [["a", "b", "c"]], "label and class can both .*--label-column label"),
        (["photo", "label"], [["a", "b"]], "columns are photo, label; .*--image-column COLUMN"),
        (["file", "animal"], [["a", "b"]], "columns are file, animal; .*--label-column COLUMN"),
        (["file", "label"], [["a", "b", "c"]], r"row 2 has more cells than the header: \['c'\]"),
        (["file", "index"], [["a", "one"]], "a whole number from 0, of at most 6 digits. Received: one"),
        (["file", "index", "label"], [["a", "0", "cat"], ["b", "0", "dog"]],
         "row 3 has index 0 and name 'dog', but index 0 is 'cat'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_said_with_row_and_column(header, rows, message, pets):
    with pytest.raises(ArgumentError, match=message):
        open_source(table(pets, header, rows), "train")


def test_columns_are_chosen_by_option(pets):
    rows = [[f"dog/{index:03}.jpg", name, "x", part] for index, (name, part) in enumerate(
        [("old", "train"), ("new", "train"), ("old", "holdout"), ("new", "val")]
    )]  # fmt: skip
    rows[2][3] = "valid"
    file = table(pets, ["photo", "age", "label", "part"], rows)
    train, val = both(file, image_column="photo", label_column="age", split_column="part")
    assert (counts(train), counts(val)) == ({"new": 1, "old": 1}, {"new": 1, "old": 1})
    with pytest.raises(ArgumentError, match=r"--label-column must name one of its columns: photo, age.*Received: ages"):
        both(file, image_column="photo", label_column="ages")


def test_an_index_is_an_index_and_a_label_is_a_name(pets):
    """Classes that are called 1, 2 and 10 have the places 0, 1 and 2."""
    names = ["1", "2", "10"]
    rows = [[f"dog/{index:03}.jpg", str(index % 3), names[index % 3]] for index in range(4)]
    by_index = open_source(table(pets, ["file", "index"], [row[:2] for row in rows]), "train", names)
    by_name = open_source(table(pets, ["file", "label"], [row[::2] for row in rows]), "train", names)
    assert by_index.classes == by_name.classes == ("1", "2", "10")
    np.testing.assert_array_equal(by_index.labels, by_name.labels)
    both_columns = open_source(table(pets, ["file", "index", "label"], rows), "train")
    assert both_columns.classes == ("1", "2", "10")
    with pytest.raises(ArgumentError, match=r"must be at most 1, since the model has 2 classes. Received: 2"):
        open_source(table(pets, ["file", "index"], [row[:2] for row in rows]), "train", ["a", "b"])
    with pytest.raises(ArgumentError, match="row 3 has index 1 and name '2', but index 1 is '10'"):
        open_source(table(pets, ["file", "index", "label"], rows), "train", ["1", "10", "2"])


def test_rows_of_a_test_split_are_left_aside(pets):
    parts = ["Training", "train", "TEST", "dev", "training", "train", "test", "valid"]
    file = table(pets, ["file", "label", "Subset"], [[*row, part] for row, part in zip(rows_of(), parts, strict=True)])
    train, val = both(file)
    assert (train.count, val.count, left_aside([train, val]).counts) == (
        4, 2, {"row of test, which is not used (see --validation-split)": 2},
    )  # fmt: skip
    assert both(file, validation_split="test")[1].count == 2


# --- masks --------------------------------------------------------------------------------------------------------


def write_pairs(folder, count=10, images="images", masks="masks", name="{}.png", values=(0, 1), make=png):
    """Images and masks with two values; each mask is other than all others."""
    for index in range(count):
        mask = np.full((20, 30), values[0], np.uint8)
        mask[3 + index % 5 : 12, 4 + index % 7 : 20] = values[1]
        write(folder / images / f"{index:03}.jpg", jpeg(picture(20, 30, index)))
        write(folder / masks / name.format(f"{index:03}"), make(mask))
    return folder


def encoded_as(kind):
    import io

    def make(mask):
        stream = io.BytesIO()
        Image.fromarray(mask).save(stream, kind)
        return stream.getvalue()

    return make


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"masks": "labels"}, "images in images/ and masks in labels/"),
        (
            {"images": "JPEGImages", "masks": "SegmentationClass"},
            "images in JPEGImages/ and masks in SegmentationClass/",
        ),
        ({"images": "Images", "masks": "Annotations"}, "images in Images/ and masks in Annotations/"),
        ({"name": "{}_mask.png"}, "images in images/ and masks in masks/"),
        ({"name": "{}.tif", "make": encoded_as("TIFF")}, "images in images/ and masks in masks/"),
        ({"make": lambda mask: png(np.stack([mask] * 3, -1))}, "images in images/ and masks in masks/"),
    ],
    ids=["labels", "VOC", "capitals", "suffix", "TIFF", "grey colours"],
)  # fmt: skip
def test_masks_under_their_common_names(options, where, tmp_path):
    write_pairs(tmp_path, **options)
    assert task_of_data(str(tmp_path)).name == "segment"
    train, val = both(tmp_path)
    assert (train.taken.layout, train.count, val.count, len(train.classes)) == (where, 9, 1, 2)
    expected = np.zeros((20, 30), np.uint8)
    number = int(os.path.basename(train.path_of(0))[:3])
    expected[3 + number % 5 : 12, 4 + number % 7 : 20] = 1
    np.testing.assert_array_equal(train.decode_target(0), expected)
    from keras_resnet.data.augment import Augmentation
    from keras_resnet.data.pipeline import training_batches
    from keras_resnet.data.problems import Problems

    problems = Problems(0)
    plain = Augmentation(crop="scaled", minimum_scale=1.0, maximum_scale=1.0, flip=False)
    keys = {"size": 32, "batch_size": 3, "seed": 0, "epoch": 0, "problems": problems}
    [(_, masks)] = training_batches(train, plain, **keys).take(1)
    assert ({*np.unique(masks)}, problems.found) == ({0, 1, 255}, [])


def test_lists_of_pascal_voc_are_its_splits(tmp_path):
    write_pairs(tmp_path, images="JPEGImages", masks="SegmentationClass")
    for split, names in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 9))):
        lines = "\n".join(f"{index:03}" for index in names)
        write(tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt", lines.encode())
    train, val = both(tmp_path)
    assert [name[-7:] for name in (*train.names, *val.names)] == [f"{index:03}.jpg" for index in range(8)]
    assert left_aside([train, val]).counts == {
        "image that no list of a split names": 1,
        "split that is not used (see --validation-split)": 1,
    }


def test_values_of_masks_are_chosen_by_option(tmp_path):
    write_pairs(tmp_path, values=(0, 255))
    with pytest.raises(
        ArgumentError, match=r"hold the values 0, 255. 255 normally marks .* only one class .*--mask-values 0,255"
    ):
        open_source(tmp_path, "train")
    train, _ = both(tmp_path, mask_values=(0, 255))
    assert (train.classes, {*np.unique(train.decode_target(0))}) == (("class 0", "class 1"), {0, 1})
    with pytest.raises(ArgumentError, match="one value for each of the 3 classes"):
        open_source(tmp_path, "train", ["a", "b", "c"], Reading(mask_values=(0, 255)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": (0, 200)},
         "hold the values 0, 200. .* 199 of the values 0 to 200 have no pixel. .*--mask-values 0,200"),
        ({"name": "{}.jpg", "make": encoded_as("JPEG")}, r"must not be JPEG .* Received: 10, for example 000\.jpg"),
        ({"make": lambda mask: png(np.stack([mask, 0 * mask, 9 * mask], -1))}, r"Its colours: 0,0,0; 1,0,9"),
    ],
)  # fmt: skip
def test_masks_that_can_not_be_meant_are_refused(options, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        open_source(write_pairs(tmp_path, **options), "train")


def test_several_masks_of_an_image_are_asked_about(tmp_path):
    write_pairs(tmp_path, name="{}_color.png")
    write_pairs(tmp_path, name="{}_ids.png")
    with pytest.raises(
        ArgumentError, match=r"end in _color and _ids. Choose one: `mask_suffix` \(--mask-suffix _color\)"
    ):
        open_source(tmp_path, "train")
    assert open_source(tmp_path, "train", reading=Reading(mask_suffix="_ids")).count == 9


def test_smoothed_masks_are_recognised(tmp_path):
    def smoothed(mask):
        return png(np.asarray(Image.fromarray(mask).resize((60, 40), Image.Resampling.BILINEAR).resize((30, 20))))

    with pytest.raises(ArgumentError, match="They look like masks of 0 and 255 that were resized with interpolation"):
        open_source(write_pairs(tmp_path, values=(0, 255), make=smoothed), "train")


# --- the commands -------------------------------------------------------------------------------------------------


def test_check_names_what_looks_wrong(tmp_path):
    write_classes(tmp_path / "train", {"images": 3, "dog": 4, "rare": 1})
    write_classes(tmp_path / "val", {"images": 2, "dog": 1}, first=50)
    write(tmp_path / "val" / "dog" / "again.jpg", (tmp_path / "train" / "dog" / "002.jpg").read_bytes())
    dark = Image.fromarray((10 * np.arange(400).reshape(20, 20)).astype(np.uint16))
    dark.save(tmp_path / "train" / "dog" / "dark.png")
    status, lines, _ = in_process("data", "check", tmp_path)
    assert status == 1
    wrong = lines[lines.index("looks wrong: 3") + 1 :][:3]
    assert wrong == [
        "  class 'images' has the name of a folder of images or masks, and is one class here",
        "  val has no image of rare",
        "  images of val that are training images, too: 1 (train/dog/002.jpg = val/dog/again.jpg)",
    ]
    assert "  train/dog/dark.png: 16 bits with values up to 3990: read as nearly black" in lines


def test_one_class_is_refused_by_training(tmp_path):
    write_classes(tmp_path / "data", {"cat": 6})
    status, lines, _ = in_process("data", "check", tmp_path / "data")
    assert status == 1
    assert "  there is one class, cat: a network learns to answer it whatever it sees" in lines
    command = ["train", "--data", tmp_path / "data", "--network", "resnet20", "--size", 32, "--batch-size", 2]
    status, _, errors = in_process(*command, "--out", tmp_path / "run")
    assert (status, (tmp_path / "run").exists()) == (1, False)
    assert "must have at least two classes. It has one: cat" in errors[-1]
