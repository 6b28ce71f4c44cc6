"""Exports of labelling tools: what is taken of each, and what is refused with the name of the tool."""

import json
import os
import unicodedata
import zipfile

import numpy as np
import pytest
from masked_pictures import png
from pictures import jpeg, picture

from keras_resnet.data.reading import Reading
from keras_resnet.data.taken import left_aside
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.sources import open_source, task_of_data


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def images(folder, names, first=0):
    for seed, name in enumerate(names, start=first):
        write(folder / name, jpeg(picture(12, 15, seed)))
    return folder


def table(path, *rows):
    return write(path, "\n".join(",".join(map(str, row)) for row in rows) + "\n")


def both(data, task=None, **choices):
    reading = Reading(**choices)
    train = open_source(data, "train", reading=reading, task=task)
    return train, open_source(data, "val", train.classes, reading, task)


def labels(train, val):
    """-> name of the class, or names of the classes, by the name of the file."""
    found = {}
    for source in (train, val):
        for index in range(source.count):
            assert os.path.isfile(source.path_of(index))
            target = source.decode(index).target
            names = (
                [source.classes[place] for place in np.flatnonzero(target)] if target.ndim else source.classes[target]
            )
            found[os.path.basename(source.path_of(index))] = names
    return found


# --- where the files of a table lie -------------------------------------------------------------------------------


def pets(count=10):
    return [(f"{index:03}.jpg", "cat" if index % 2 else "dog") for index in range(count)]


def test_missing_files_are_named_with_their_rows(tmp_path):
    images(tmp_path, [name for name, _ in pets()[:-2]])
    parts = ["train"] * 9 + ["val"]
    rows = [(*row, part) for row, part in zip(pets(), parts, strict=True)]
    file = table(tmp_path / "pets.csv", ("file", "label", "split"), *rows)
    with pytest.raises(ArgumentError) as caught:
        open_source(file, "train")
    assert str(caught.value).splitlines() == [
        f"{file}: files of train that do not exist: 1 of 9",
        "  row 10: 008.jpg",
        f"Paths count from {tmp_path}. Correct the paths, add the files, or remove the rows",
    ]
    with pytest.raises(ArgumentError, match=r"files of val that do not exist: 1 of 1\n  row 11: 009\.jpg"):
        open_source(file, "val")


def test_files_of_a_split_that_is_not_used_may_be_missing(tmp_path):
    images(tmp_path, [name for name, _ in pets(6)])
    parts = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    file = table(
        tmp_path / "pets.csv", ("file", "label", "split"), *((*row, p) for row, p in zip(pets(), parts, strict=True))
    )
    train, val = both(file)
    assert (train.count, val.count) == (4, 2)
    with pytest.raises(ArgumentError, match="files of val that do not exist: 4 of 4"):
        both(file, validation_split="test")


def test_a_missing_mask_is_named(tmp_path):
    images(tmp_path, ["a.jpg", "b.jpg"])
    write(tmp_path / "a.png", png(np.zeros((12, 15), np.uint8)))
    file = table(tmp_path / "t.csv", ("file", "mask"), ("a.jpg", "a.png"), ("b.jpg", "b.png"))
    with pytest.raises(ArgumentError, match=r"do not exist: 1 of 1\n  row 3: b\.png"):
        both(file)


def test_images_in_one_folder_beside_the_table_are_found(tmp_path):
    """As in competitions of Kaggle: train.csv has names without suffix, and the files are in train/."""
    images(tmp_path / "train", [name for name, _ in pets()])
    images(tmp_path / "test", ["777.jpg"])
    rows = [(name.removesuffix(".jpg"), label) for name, label in pets()]
    file = table(tmp_path / "train.csv", ("ImageId", "LabelName"), *rows)
    train, val = both(file)
    assert labels(train, val) == dict(pets())
    assert train.taken.layout == "CSV file with the columns ImageId, LabelName; files in train/"
    images(tmp_path / "test", [name for name, _ in pets()])
    with pytest.raises(ArgumentError, match="can be found in two ways: files in test/ and files in train/"):
        open_source(file, "train")
    (tmp_path / "train" / "003.jpg").unlink()
    (tmp_path / "test" / "004.jpg").unlink()
    with pytest.raises(ArgumentError, match="In other places, there are: files in test/: 9; files in train/: 9"):
        open_source(file, "train")


def test_addresses_on_the_web_are_refused(tmp_path):
    file = table(tmp_path / "t.csv", ("file", "label"), ("https://example.org/a.jpg", "cat"), ("b.jpg", "dog"))
    with pytest.raises(ArgumentError, match=r"must be a file on a disk. Received: https://example\.org/a\.jpg"):
        open_source(file, "train")


def test_an_image_with_two_classes_is_refused(tmp_path):
    """A table with a row for each label, which would give one image two classes."""
    images(tmp_path, [name for name, _ in pets()])
    file = table(tmp_path / "t.csv", ("file", "label"), *pets(), ("004.jpg", "fox"))
    with pytest.raises(ArgumentError, match=r"rows 6 and 12 give the image 004\.jpg different classes"):
        open_source(file, "train")


def test_letters_in_another_form_are_found(tmp_path):
    """macOS writes names with decomposed letters, most editors write composed ones."""
    names = [f"고양이 {index}.jpg" for index in range(6)]
    images(tmp_path, [unicodedata.normalize("NFD", name) for name in names])
    rows = [(name, "cat" if index % 2 else "dog") for index, name in enumerate(names)]
    train, val = both(table(tmp_path / "t.csv", ("file", "label"), *rows))
    assert sorted(labels(train, val)) == sorted(unicodedata.normalize("NFD", name) for name in names)


def test_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("cat/1.jpg", jpeg(picture(12, 15, 0)))
    with pytest.raises(ArgumentError, match=r"pets\.zip: is an archive\. Unpack it"):
        open_source(tmp_path / "pets.zip", "train")


def test_a_list_with_spaces_is_refused(tmp_path):
    """As PaddleClas and others have it."""
    file = write(images(tmp_path, ["a.jpg", "b.jpg"]) / "list.txt", "a.jpg 0\nb.jpg 1\n")
    with pytest.raises(ArgumentError, match=r"commas must stand between the cells.*file,index .* Received: a\.jpg 0"):
        open_source(file, "train")


@pytest.mark.parametrize("mark", [" ", ", ", ";"])
def test_classes_with_another_mark_between_them_are_refused(mark, tmp_path):
    names = images(tmp_path, [name for name, _ in pets(4)])
    cells = [f'"{mark.join(found)}"' for found in (("clear", "water"), ("clear",), ("cloudy", "water"), ("cloudy",))]
    file = table(
        names / "t.csv", ("file", "tags"), *((name, cell) for (name, _), cell in zip(pets(4), cells, strict=True))
    )
    with pytest.raises(ArgumentError, match=rf"must have \| between them. Received, in cells of 3 words: clear{mark}"):
        open_source(file, "train")


def test_a_class_of_two_words_is_one_class(tmp_path):
    file = table(tmp_path / "t.csv", ("file", "tags"), *((n, f"wild {x}") for n, x in pets()))
    images(tmp_path, [name for name, _ in pets()])
    assert both(file)[0].classes == ("wild cat", "wild dog")


# --- Label Studio -------------------------------------------------------------------------------------------------


def uploaded(index):
    return f"/data/upload/7/{index:08x}-{index:03}.jpg"


@pytest.mark.parametrize("own", [True, False], ids=["uploads", "originals"])
def test_a_table_of_label_studio_with_the_uploads_or_the_original_files(own, tmp_path):
    images(tmp_path / "photos", [os.path.basename(uploaded(i)) if own else f"{i:03}.jpg" for i in range(10)])
    rows = [(uploaded(index), index, label, 1) for index, (_, label) in enumerate(pets())]
    train, val = both(table(tmp_path / "export.csv", ("image", "id", "choice", "annotator"), *rows))
    assert {name[-7:]: label for name, label in labels(train, val).items()} == dict(pets())
    words = "paths of Label Studio" if own else "names without the prefix of Label Studio"
    assert train.taken.layout == f"CSV file with the columns image, choice; {words}, files in photos/"


def test_files_of_its_own_disk(tmp_path):
    images(tmp_path / "my photos", [name for name, _ in pets()])
    rows = [(f"/data/local-files/?d=my%20photos/{name}", label) for name, label in pets()]
    train, val = both(table(tmp_path / "export.csv", ("image", "choice"), *rows))
    assert labels(train, val) == dict(pets())


def test_several_choices_in_a_table(tmp_path):
    images(tmp_path, [name for name, _ in pets()])
    cell = '"{""choices"": [""cat"", ""out""]}"'
    rows = [(name, cell if label == "cat" else label) for name, label in pets()]
    train, val = both(table(tmp_path / "export.csv", ("image", "choice"), *rows))
    assert labels(train, val) == {name: ["cat", "out"] if label == "cat" else ["dog"] for name, label in pets()}


def as_task(name, choices):
    results = [{"type": "choices", "value": {"choices": choices}}] if choices else []
    return {"data": {"image": name, "text": "x"}, "annotations": [{"was_cancelled": False, "result": results}]}


def as_object(name, choices):
    return {
        "image": name,
        "id": 3,
        **({"choice": choices[0] if len(choices) == 1 else {"choices": choices}} if choices else {}),
    }


@pytest.mark.parametrize("make", [as_task, as_object], ids=["JSON", "JSON-MIN"])
@pytest.mark.parametrize("several", [False, True])
def test_its_json_files(make, several, tmp_path):
    images(tmp_path, [name for name, _ in pets(12)])
    wanted = {name: [label, "out"] if several and label == "cat" else [label] for name, label in pets()}
    tasks = [make(name, choices) for name, choices in wanted.items()] + [make("011.jpg", [])]
    train, val = both(write(tmp_path / "export.json", json.dumps(tasks)))
    assert labels(train, val) == (wanted if several else dict(pets()))
    assert left_aside([train, val]).lines == ["image without a class: 1 (such as 011.jpg)"]


def test_annotators_who_disagree_are_counted(tmp_path):
    images(tmp_path, [name for name, _ in pets()])
    tasks = [as_task(name, [label]) for name, label in pets()]
    tasks[4]["annotations"].append({"result": [{"type": "choices", "value": {"choices": ["cat"]}}]})
    tasks[5]["annotations"].append({"result": [{"type": "choices", "value": {"choices": ["cat"]}}]})
    train, val = both(write(tmp_path / "export.json", json.dumps(tasks)))
    assert train.count + val.count == 9
    assert left_aside([train, val]).lines == ["image whose annotators disagree: 1 (such as 004.jpg)"]


# --- COCO and Roboflow --------------------------------------------------------------------------------------------


def coco(names):
    """Names of files -> their classes, as COCO has them: numbers with gaps, and a box for each."""
    numbers = {"cat": 3, "dog": 17}
    return json.dumps(
        {
            "images": [{"id": 100 + place, "file_name": name} for place, name in enumerate(names)],
            "categories": [{"id": number, "name": name} for name, number in numbers.items()],
            "annotations": [
                {"id": 0, "image_id": 100 + place, "category_id": numbers[label], "bbox": [1, 1, 3, 3]}
                for place, found in enumerate(names.values())
                for label in [*found, *found]
            ],
        }
    )


def test_the_categories_of_a_coco_file(tmp_path):
    images(tmp_path / "val2017", [name for name, _ in pets()])
    one = {name: [label] for name, label in pets()} | {"009.jpg": []}
    train, val = both(write(tmp_path / "annotations" / "one.json", coco(one)), "classify")
    assert labels(train, val) == dict(pets(9))
    assert left_aside([train, val]).lines == ["image without a class: 1 (such as 009.jpg)"]
    assert train.taken.layout == "categories of a COCO file, without its boxes and polygons; files in ../val2017/"
    several = one | {"000.jpg": ["cat", "dog"]}
    train, val = both(write(tmp_path / "annotations" / "several.json", coco(several)), "tag")
    assert labels(train, val) == several
    assert left_aside([train, val]).lines == []


def roboflow(folder, name, content):
    for split, first in (("train", 0), ("valid", 6)):
        part = dict(pets()[first : first + (6 if split == "train" else 4)])
        images(folder / split, part, first)
        write(folder / split / name, content(part))
    return folder


def test_coco_files_of_roboflow(tmp_path):
    roboflow(tmp_path, "_annotations.coco.json", lambda part: coco({n: [x] for n, x in part.items()}))
    train, val = both(tmp_path, "classify")
    assert (labels(train, val), train.count, val.count) == (dict(pets()), 6, 4)
    assert [task_of_data(str(tmp_path), wanted=name).name for name in ("classify", "detect", None)] == [
        "classify",
        "detect",
        "detect",
    ]
    boxes, _ = both(tmp_path)
    assert (boxes.target.task, boxes.class_counts.tolist()) == ("detect", [6, 6])


def test_classes_of_roboflow(tmp_path):
    def content(part):
        lines = [f"{name}, {int(label == 'cat')}, 1" for name, label in part.items()]
        return "\n".join(["filename, cat, animal", *lines])

    train, val = both(roboflow(tmp_path, "_classes.csv", content))
    assert labels(train, val) == {n: ["cat", "animal"] if label == "cat" else ["animal"] for n, label in pets()}
    assert (train.count, val.count) == (6, 4)


def test_masks_of_roboflow(tmp_path):
    roboflow(tmp_path, "_classes.csv", lambda part: "Pixel Value, Class\n0, background\n1, cell\n2, rare")
    for split in ("train", "valid"):
        for file in list((tmp_path / split).glob("*.jpg")):
            mask = np.zeros((12, 15), np.uint8)
            mask[3:, int(file.stem) : 12] = 1
            write(file.with_name(f"{file.stem}_mask.png"), png(mask))
    train, val = both(tmp_path)
    assert (train.classes, train.count, val.count) == (("background", "cell", "rare"), 6, 4)
    assert train.class_counts.tolist() == [6 * 180 - 9 * (12 * 6 - 15), 9 * (12 * 6 - 15), 0]
    assert train.taken.layout == "Roboflow folder: masks beside the images"


# --- CVAT ---------------------------------------------------------------------------------------------------------


def cvat(folder, label_map):
    for index in range(10):
        mask = np.zeros((12, 15, 3), np.uint8)
        mask[:4] = (176, 112, 32) if index % 2 else (48, 112, 32)
        write(folder / "SegmentationClass" / f"{index}.png", png(mask))
    images(folder / "JPEGImages", [f"{index}.jpg" for index in range(10)])
    write(folder / "labelmap.txt", label_map)
    return folder


def test_masks_of_cvat_with_its_label_map(tmp_path):
    text = "# label:color_rgb:parts:actions\ncat:48,112,32::\nbackground:0,0,0::\ndog:176,112,32::\n"
    train, val = both(cvat(tmp_path, text))
    assert train.classes == ("cat", "background", "dog")
    assert (train.class_counts + val.class_counts).tolist() == [300, 1200, 300]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat:48,112::\n", r"labelmap\.txt: each line must be a name and a colour, such as cat:128,0,0::\."),
        ("cat\n", r"labelmap\.txt: each line must be a name and a colour"),
        ("cat:1,2,3::\ncat:4,5,6::\n", r"must not be empty or occur twice. Received: \['cat'\]"),
    ],
)
def test_a_label_map_that_is_wrong_is_refused(text, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        open_source(cvat(tmp_path, text), "train")


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels/train/a.txt": "0 .5 .5 .1 .1"}, r"is for detection: give task = detect \(--task detect\)"),
        ({"Annotations/a.xml": "<annotation/>"}, r"is for detection: give task = detect \(--task detect\)"),
        ({"labels/train/a.txt": "cat 1 2"}, "such as labels/train/a.txt, whose lines do not have the form of YOLO"),
        ({"Annotations/a.xml": "<other/>"}, "has XML files, such as Annotations/a.xml, which are not of Pascal VOC"),
        ({"annotations.xml": "<annotations/>"}, 'annotations.xml of CVAT. Export .* "Segmentation mask"'),
        ({"annotations/instances.json": "{}"}, "name that file: .*annotations/instances.json"),
    ],
)
def test_folders_with_boxes_and_polygons(files, message, tmp_path):
    images(tmp_path / "images" / "train", ["a.jpg", "b.jpg"])
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(ArgumentError, match=message):
        open_source(tmp_path, "train", task="classify")


def test_a_folder_of_labelme(tmp_path):
    images(tmp_path, ["a.jpg", "b.jpg"])
    write(tmp_path / "a.json", '{"shapes": []}')
    with pytest.raises(ArgumentError, match=r"as Labelme writes it: a\.json\. Its polygons are not read"):
        open_source(tmp_path, "train")
    with pytest.raises(ArgumentError, match=r"must be a COCO file, or .* Received: a file of Labelme"):
        open_source(tmp_path / "a.json", "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not a JSON file: "),
        ("[1]", "Received: a JSON file of another kind"),
        (coco({"a.jpg": []}), "none of its 1 images has a class"),
        (coco({"a.jpg": ["cat"]}).replace("file_name", "path"), "an image, annotation or category lacks 'file_name'"),
        (json.dumps([as_task("a.jpg", ["cat|dog"])]), r"must not be empty or contain \|. Received: 'cat\|dog'"),
        (json.dumps([{"data": {}, "annotations": []}]), r"the data of each task must name one image. Received: \{\}"),
        (
            '[{"data": {"img": "a.jpg"}, "annotations": [{"result": [{"type": "brushlabels", "value": {}}]}]}]',
            'Received from Label Studio: brushlabels. For masks, export as "Brush labels to PNG"',
        ),
        (
            '[{"data": {"img": "a.jpg"}, "annotations": [{"result": ["cat"]}]}]',
            r"not a JSON file of Label Studio: .* \('str' object has no attribute 'get'\)\. Export it again",
        ),
        (json.dumps([as_task("a.jpg", [1, "cat"])]), r"not a JSON file of Label Studio: .* \(choices must be texts\)"),
        (json.dumps([as_task("a.jpg", ["cat"]), {"id": 2}]), r"not a JSON file of Label Studio: .* \('data'\)"),
        (json.dumps([{"image": "a.jpg", "label": [{"x": 1}]}]), "no key has the classes of the images as text"),
    ],
)  # fmt: skip
def test_json_files_without_classes(content, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        open_source(write(images(tmp_path, ["a.jpg"]) / "x.json", content), "train")


def test_open_images(tmp_path):
    images(tmp_path, ["a.jpg"])
    file = table(tmp_path / "t.csv", ("ImageID", "Source", "LabelName", "Confidence"), ("a", "machine", "/m/01", 1))
    with pytest.raises(ArgumentError, match="is a file of Open Images, with a row for each label"):
        open_source(file, "train")
