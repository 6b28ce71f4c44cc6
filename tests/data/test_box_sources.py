"""Boxes from COCO, Pascal VOC, YOLO and CSV files: equal objects of all, and what is left aside by name."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boxed_pictures import (
    NAMES,
    PICTURES,
    WRITERS,
    Drawn,
    Rectangle,
    coco,
    rows,
    write_coco,
    write_images,
    write_rows,
    write_voc,
    write_yolo,
    xml,
)
from masked_pictures import png, write
from PIL import Image

from keras_resnet.data.pack import pack_sources
from keras_resnet.data.reading import PLAIN
from keras_resnet.data.taken import account
from keras_resnet.errors import ArgumentError, ImageError, MissingDependencyError
from keras_resnet.tasks.detect.outlines import instance_map, outline_problem, runs_of
from keras_resnet.tasks.detect.sources import is_detect_layout, open_detected
from keras_resnet.tasks.detect.target import IGNORED, NOTHING, OBJECT, taken_apart
from keras_resnet.tasks.sources import open_source


def opened(path, split="all", class_names=None, reading=PLAIN):
    return open_detected(str(path), split, class_names, reading)


def found(source):
    """-> by the name of each image, its objects as (class, left, top, right, bottom)."""
    return {
        Path(each.file).name: [
            (source.classes[place], *box) for place, box in zip(each.classes, each.boxes.round(3).tolist(), strict=True)
        ]
        for each in source.objects
    }


def drawn(pictures=PICTURES):
    return {each.file: [(name, *map(float, corners)) for name, corners in each.objects] for each in pictures}


def aside(source):
    return source.taken.aside.lines


@pytest.mark.parametrize("kind", WRITERS)
def test_the_objects_of_each_kind_of_files(kind, tmp_path):
    path = WRITERS[kind](tmp_path)
    assert is_detect_layout(str(path), PLAIN)
    source = opened(path)
    assert found(source) == drawn()
    assert (source.count, source.most_objects, aside(source)) == (3, 2, [])
    assert set(NAMES) <= {*source.classes}
    assert [source.decode(index).pixels.shape[:2] for index in range(3)] == [(50, 70), (64, 41), (33, 90)]


def test_the_account_names_the_kind_and_counts_objects(tmp_path):
    source = opened(write_voc(tmp_path))
    assert [*account("set", [source])] == [
        "data: set: Pascal VOC: boxes of XML files",
        "all: 3 images of 2 classes, 3 objects: ant 2, bee 1",
    ]
    assert source.summary()["class_counts"] == [2, 1]


def test_categories_keep_their_names_and_the_order_of_their_ids(tmp_path):
    assert opened(write_coco(tmp_path)).classes == ("bee", "ant", "cow")
    names = ("cow", "ant", "bee", "dog")
    source = opened(tmp_path / "boxes.json", class_names=names)
    assert (source.classes, found(source)) == (names, drawn())


@pytest.mark.parametrize("names", ["[ant, bee]", "{1: bee, 0: ant}", "\n  - ant\n  - bee"])
def test_names_of_yolo_as_a_list_and_as_a_mapping(names, tmp_path):
    write_yolo(tmp_path)
    write(tmp_path / "data.yaml", f"train: ../images\nnames: {names}\n".encode())
    for path in (tmp_path, tmp_path / "data.yaml"):
        assert (opened(path).classes, found(opened(path))) == (NAMES, drawn())


def test_yolo_without_a_yaml_file_has_numbers_or_a_list_of_names(tmp_path):
    (write_yolo(tmp_path) / "data.yaml").unlink()
    assert opened(tmp_path).classes == ("0", "1")
    write(tmp_path / "classes.txt", b"ant\nbee\n")
    assert found(opened(tmp_path)) == drawn()


def test_polygons_of_yolo_are_boxes_and_masks(tmp_path):
    source = opened(write_yolo(tmp_path, polygons=True))
    assert found(source) == drawn()
    assert source.taken.layout == "YOLO: label files, class names in data.yaml, with masks"
    instances = source.instances([each.file for each in source.objects].index("images/0.png"))
    assert [(instances == k).sum() for k in (1, 2)] == [20 * 40, 29 * 13]


def test_a_file_of_boxes_is_known_by_content(tmp_path):
    write_images(tmp_path / "cat")
    assert not is_detect_layout(str(tmp_path), PLAIN)
    write(tmp_path / "table.csv", b"file,label\ncat/0.png,cat\n")
    assert not is_detect_layout(str(tmp_path / "table.csv"), PLAIN)
    content = coco()
    for entry in content["annotations"]:
        del entry["bbox"]
    write(tmp_path / "categories.json", json.dumps(content).encode())
    assert not is_detect_layout(str(tmp_path / "categories.json"), PLAIN)
    write(tmp_path / "notes" / "labels" / "0.txt", b"1 cat\n")
    assert not is_detect_layout(str(tmp_path / "notes"), PLAIN)
    with pytest.raises(ArgumentError, match="must hold boxes: COCO, Pascal VOC, YOLO, or a CSV file"):
        opened(tmp_path / "cat")


def test_two_kinds_of_files_are_an_error(tmp_path):
    write_voc(tmp_path)
    write_yolo(tmp_path)
    with pytest.raises(ArgumentError, match="can be read as Pascal VOC and as YOLO"):
        opened(tmp_path)


def splits_of(source_of):
    return {split: sorted(found(source_of(split))) for split in ("train", "val")}


def test_splits_by_the_lists_of_voc(tmp_path):
    write_voc(tmp_path)
    for name, text in {"train": "1\n", "val": "0 1\n", "test": "2\n"}.items():
        write(tmp_path / "ImageSets" / "Main" / f"{name}.txt", text.encode())
    assert splits_of(lambda split: opened(tmp_path, split)) == {"train": ["1.png"], "val": ["0.png"]}
    test = opened(tmp_path, "val", reading=replace(PLAIN, validation_split="test"))
    assert sorted(found(test)) == ["2.png"]
    assert aside(test) == ["split that is not used (see --validation-split): 1 (such as JPEGImages/0.png)"]


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
def test_splits_by_folders(kind, tmp_path):
    for name, pictures in {"train": PICTURES[:2], "valid": PICTURES[2:]}.items():
        if kind == "coco":
            write_images(tmp_path / name, pictures)
            write(tmp_path / name / "_annotations.coco.json", json.dumps(coco(pictures)).encode())
            continue
        WRITERS[kind](tmp_path / name, pictures)
        (tmp_path / name / "data.yaml").unlink(missing_ok=True)
    parts = splits_of(lambda split: opened(tmp_path, split))
    assert parts == {"train": ["0.png", "1.png"], "val": ["2.png"]}
    assert opened(tmp_path, "train").target is opened(tmp_path, "val").target


def test_two_coco_files_of_a_split(tmp_path):
    write_images(tmp_path / "images")
    for name in ("boxes_train.json", "more_train.json", "instances_val.json", "captions_val.json"):
        write(tmp_path / "annotations" / name, json.dumps(coco()).encode())
    with pytest.raises(ArgumentError, match=r"boxes_train\.json and annotations/more_train\.json can both be"):
        opened(tmp_path)
    (tmp_path / "annotations" / "more_train.json").unlink()
    assert opened(tmp_path, "train").taken.layout == (
        "COCO: boxes of annotations/boxes_train.json, annotations/instances_val.json"
    )


def test_the_folder_of_the_images_of_coco(tmp_path):
    for place in ("train/images", "train/masks", "val/images"):
        write_images(tmp_path / place)
    write(tmp_path / "instances_train.json", json.dumps(coco()).encode())
    assert opened(tmp_path / "instances_train.json").objects[0].file == "train/images/0.png"
    write(tmp_path / "boxes.json", json.dumps(coco()).encode())
    assert opened(tmp_path / "boxes.json").objects[0].file == "train/images/0.png"
    write_images(tmp_path / "train" / "imgs")
    with pytest.raises(ArgumentError, match=r"several folders below .*: train/images, train/imgs\. Write the folder"):
        opened(tmp_path / "boxes.json")


def test_a_split_column_of_a_csv_file(tmp_path):
    write_rows(tmp_path)
    lines = rows().splitlines()
    ends = [",split", ",train", ",train", ",val", ",train"]
    write(tmp_path / "boxes.csv", "\n".join(map("".join, zip(lines, ends, strict=True))).encode())
    assert splits_of(lambda split: opened(tmp_path / "boxes.csv", split)) == {
        "train": ["0.png", "2.png"],
        "val": ["1.png"],
    }


def test_without_splits_a_tenth_is_held_out(tmp_path):
    pictures = tuple(Drawn(f"{n}.png", 20 + n, 30, (Rectangle("ant", (2, 3, 9, 11)),)) for n in range(12))
    path = write_rows(tmp_path, pictures)
    parts = splits_of(lambda split: opened(path, split))
    assert (len(parts["train"]), len(parts["val"])) == (11, 1)
    assert {*parts["train"], *parts["val"]} == {each.file for each in pictures}
    assert opened(path, "val").held_out


# --- broken boxes -------------------------------------------------------------------------------------------------

BROKEN = {
    "box of zero or negative size": [[5, 5, 0, 9], [30, 5, -4, 9], [30, 5, 1e-9, 9]],
    "box outside of its image": [[70, 5, 9, 9], [-9, 5, 9, 9], [5, 50, 9, 9], [69.9999999, 5, 9, 9]],
    "box with a number that is not finite": [[float("nan"), 5, 9, 9], [5, 5, float("inf"), 9]],
    "box without four numbers": [[5, 5, 9], ["a", 5, 9, 9], None, {"x": 5}, [5, 5, 9, 10**400]],
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_boxes_are_named_and_left_out(reason, tmp_path):
    path, content = write_coco(tmp_path), coco()
    content["annotations"] += [{"image_id": 100, "category_id": 3, "bbox": box} for box in BROKEN[reason]]
    write(path, json.dumps(content).encode())
    source = opened(path)
    assert found(source) == drawn()
    assert aside(source) == [f"{reason}: {len(BROKEN[reason])} (such as images/0.png, annotation 4)"]


def test_a_box_that_sticks_out_is_cut_and_named(tmp_path):
    pictures = (Drawn("0.png", 20, 30, (Rectangle("ant", (-4, 3, 9, 11)), Rectangle("bee", (5, 5, 31, 9)))),)
    source = opened(write_rows(tmp_path, pictures))
    assert found(source) == {"0.png": [("ant", 0, 3, 9, 11), ("bee", 5, 5, 30, 9)]}  # by one pixel is no report
    assert aside(source) == ["part of a box outside of its image: 1 (such as 0.png, row 2)"]


def test_unknown_classes_are_named_and_left_out(tmp_path):
    path, content = write_coco(tmp_path), coco()
    content["annotations"] += [{"image_id": 100, "category_id": key, "bbox": [1, 2, 3, 4]} for key in (4, None, [3])]
    content["annotations"] += [{"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4]}, 17]
    write(path, json.dumps(content).encode())
    assert aside(opened(path)) == [
        "annotation of an image that the COCO file does not list: 2 (such as boxes.json, annotation 7)",
        "box of a class that the data does not name: 3 (such as images/0.png, annotation 4)",
    ]
    source = opened(path, class_names=["ant"])
    assert (source.classes, source.class_counts.tolist()) == (("ant",), [2])
    assert "box of a class that is not among the classes: 1 (such as images/0.png, annotation 1)" in aside(source)


@pytest.mark.parametrize("line", ["2 .5 .5 .1 .1", "-1 .5 .5 .1 .1", "x .5 .5 .1 .1", "0 .5 .5 .1", "0 nan .5 .1 .1"])
def test_broken_lines_of_yolo(line, tmp_path):
    write_yolo(tmp_path)
    write(tmp_path / "labels" / "2.txt", line.encode())
    source = opened(tmp_path)
    assert found(source) == drawn()
    assert [text.partition(" (")[2] for text in aside(source)] == ["such as images/2.png, line 1)"]


def test_images_that_are_missing_or_listed_twice(tmp_path):
    path, content = write_coco(tmp_path), coco()
    content["images"] += [{"id": 1, "file_name": "no.png", "height": 5, "width": 5}]
    content["images"] += [
        {"id": n, "file_name": bad, "height": 5, "width": 5} for n, bad in [(3, "\0"), (4, "x" * 300)]
    ]
    content["images"] += [{"id": 2, "file_name": "./0.png", "height": 50, "width": 70}]
    write(path, json.dumps(content).encode())
    source = opened(path)
    assert found(source) == drawn()
    assert aside(source) == [
        "image that does not exist: 3 (such as images/no.png)",
        "image that is listed twice: 1 (such as images/0.png)",
    ]
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    with pytest.raises(ImageError, match="none of the 7 images that the boxes are for was found"):
        opened(path)


@pytest.mark.parametrize("kind", ["coco", "voc", "csv"])
def test_an_image_of_another_size_than_stated_is_a_problem(kind, tmp_path):
    path = WRITERS[kind](tmp_path)
    [file] = tmp_path.rglob("1.png")
    file.write_bytes(png(np.zeros((41, 64, 3), np.uint8)))
    source = opened(path)
    index = [Path(each.file).name for each in source.objects].index("1.png")
    with pytest.raises(ImageError, match="its boxes are for 41 x 64 pixels, but the upright image has 64 x 41"):
        source.decode(index)


def test_shares_of_the_sides_count_in_the_upright_image(tmp_path):
    write_yolo(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, 64 pixels high once it is upright
    stored = np.zeros((41, 64, 3), np.uint8)
    Image.fromarray(stored).save(tmp_path / "images" / "1.png", exif=exif)
    source = opened(tmp_path)
    index = [Path(each.file).name for each in source.objects].index("1.png")
    assert (source.objects[index].size, source.decode(index).pixels.shape) == ((64, 41), (64, 41, 3))


def test_voc_files_without_partners(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "JPEGImages" / "0.png").unlink()
    (tmp_path / "Annotations" / "2.xml").unlink()
    source = opened(tmp_path)
    assert sorted(found(source)) == ["1.png"]
    assert aside(source) == [
        "XML file without its image: 1 (such as Annotations/0.xml)",
        "image without an XML file: 1 (such as JPEGImages/2.png)",
    ]


# --- hostile files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_a_document_type_is_refused(encoding, tmp_path):
    write_voc(tmp_path)
    entity = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY e "x">]>'
    write(tmp_path / "Annotations" / "1.xml", (entity + xml(PICTURES[1])).encode(encoding))
    with pytest.raises(ArgumentError, match=r"1\.xml: it must have no document type"):
        opened(tmp_path)


def test_xml_that_is_none(tmp_path):
    write_voc(tmp_path)
    write(tmp_path / "Annotations" / "1.xml", b"<annotation><object></annotation>")
    with pytest.raises(ArgumentError, match=r"1\.xml: not an XML file: mismatched tag: line 1, column 22"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: &a [x]\ntrain: *a\n", r"must have no aliases \(\*name\)"),
        ("names: !!python/object/apply:os.system [ls]\ntrain: images\n", "not a YAML file of texts"),
        ("names: {0: ant, 2: bee}\ntrain: images\n", "`names` must be a list of names, or a mapping of 0, 1, 2"),
        ("names: [ant, ant]\ntrain: images\n", "`names` must have no name twice"),
    ],
)
def test_yaml_files_that_are_refused(text, words, tmp_path):
    write_yolo(tmp_path)
    write(tmp_path / "data.yaml", text.encode())
    with pytest.raises(ArgumentError, match=rf"data\.yaml: {words}"):
        opened(tmp_path)


def test_categories_and_images_without_what_they_need(tmp_path):
    path = write_coco(tmp_path)
    for part, words in {"categories": "each category must have", "images": "each image must have an id"}.items():
        content = coco()
        del content[part][1]["id"]
        write(path, json.dumps(content).encode())
        with pytest.raises(ArgumentError, match=words):
            opened(path)


# --- masks --------------------------------------------------------------------------------------------------------


def test_run_length_masks_equal_pycocotools():
    coco_masks = pytest.importorskip("pycocotools.mask")
    draw = np.random.default_rng(4)
    for height, width in [(1, 1), (7, 300), (213, 37), (64, 96)]:
        for share in (0.0, 0.03, 0.5, 0.97, 1.0):
            mask = draw.random((height, width)) < share
            mask[height // 3 :, width // 4 : width // 2] ^= True
            runs = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
            outline = {"size": [height, width], "counts": runs["counts"].decode()}
            plain = {"size": [height, width], "counts": runs_of(outline).tolist()}
            for each in (outline, plain):
                assert outline_problem(each, height, width) == ""
                np.testing.assert_array_equal(instance_map([None, each], height, width), 2 * mask)


@pytest.mark.parametrize(
    ("outline", "problem"),
    [
        ({"size": [8, 9], "counts": [10, 62]}, "run-length mask of another size than its image"),
        ({"size": [9, 8], "counts": [10, 61]}, "run-length mask that does not fill its image"),
        ({"size": [9, 8], "counts": [10, -1, 63]}, "run-length mask that does not fill its image"),
        ({"size": [9, 8], "counts": [10, 62.0]}, "run-length mask that does not fill its image"),
        ({"size": [9, 8], "counts": [2**61] * 8}, "run-length mask that does not fill its image"),
        ({"size": [9, 8], "counts": ""}, "run-length mask that does not fill its image"),
        ({"size": [9, 8], "counts": "P"}, "run-length mask that does not fill its image"),  # a number without its end
        ({"size": [9, 8], "counts": "o" * 40}, "run-length mask that does not fill its image"),
        ({"size": [9, 8], "counts": "\u00e9\0"}, "run-length mask that does not fill its image"),
        ({"size": [9, 8]}, "outline that is neither polygons nor a run-length mask"),
        ([[1, 2, 3, 4]], "polygon without three points"),
        ([[1, 2, 3, 4, 5, "x"]], "polygon without three points"),
        ([[1, 2, 3, 4, 5, 1e9]], "polygon far outside of its image"),
        ([[1, 2, 3, 4, float("nan"), 6]], "polygon far outside of its image"),
        ("9", "outline that is neither polygons nor a run-length mask"),
    ],
)
def test_outlines_that_are_damaged(outline, problem):
    assert outline_problem(outline, 9, 8) == problem


def test_objects_with_damaged_outlines_are_left_out(tmp_path):
    path, content = write_coco(tmp_path, masks=True), coco(masks=True)
    content["annotations"][1]["segmentation"] = [[1, 2]]
    write(path, json.dumps(content).encode())
    source = opened(path)
    assert [len(each) for each in found(source).values()] == [1, 1, 0]
    assert aside(source) == ["polygon without three points: 1 (such as images/0.png, annotation 2)"]


def test_masks_need_an_outline_of_each_object(tmp_path):
    path, content = write_coco(tmp_path, masks=True), coco(masks=True)
    content["annotations"][1]["segmentation"] = []
    write(path, json.dumps(content).encode())
    source = opened(path)
    assert (source.instances, found(source)) == (None, drawn())
    assert aside(source) == ["outline, since other objects have only a box: 2 (such as images/0.png, annotation 1)"]


def test_a_box_that_is_missing_is_made_of_its_outline(tmp_path):
    path, content = write_coco(tmp_path, masks=True), coco(masks=True)
    for entry in content["annotations"]:
        del entry["bbox"]
    left, top, right, bottom = PICTURES[1].objects[0].corners
    mask = np.zeros((64, 41), bool)
    mask[top:bottom, left:right] = True
    changes = np.flatnonzero(np.diff(mask.T.ravel())) + 1
    counts = np.diff([0, *changes.tolist(), mask.size]).tolist()
    content["annotations"][2]["segmentation"] = {"size": [64, 41], "counts": counts}
    write(path, json.dumps(content).encode())
    assert found(opened(path)) == drawn()


def test_crowds_and_difficult_objects_are_ignored(tmp_path):
    path, content = write_coco(tmp_path / "coco", masks=True), coco(masks=True)
    content["annotations"][0]["iscrowd"] = 1
    write(path, json.dumps(content).encode())
    write_voc(tmp_path / "voc")
    first = tmp_path / "voc" / "Annotations" / "0.xml"
    first.write_text(first.read_text().replace("<difficult>0", "<difficult>1", 1))
    for each in (path, tmp_path / "voc"):
        source = opened(each)
        target = taken_apart(source.decode_target(0), 2, 50, 70)
        assert target.states.tolist() == [IGNORED, OBJECT]
        assert source.class_counts.sum() == 2


def test_an_object_that_others_cover_is_ignored():
    source_map = instance_map([[[0, 0, 9, 0, 9, 9, 0, 9]], [[2, 2, 5, 2, 5, 5, 2, 5]]], 12, 10)
    assert [(source_map == k).sum() for k in (1, 2)] == [81 - 9, 9]  # the smaller one is on top
    twice = instance_map([[[2, 2, 5, 2, 5, 5, 2, 5]]] * 2, 12, 10)
    assert sorted({*twice.ravel().tolist()}) in ([0, 1], [0, 2])


def test_polygons_without_pycocotools_name_the_extra(tmp_path, monkeypatch):
    path = write_coco(tmp_path, masks=True)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingDependencyError, match=r"'pycocotools'.*pip install 'keras-resnet-kit\[detect\]'"):
        opened(path)


# --- packed sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_packed_sets_hold_equal_targets(masks, tmp_path):
    pictures = (*PICTURES, *(Drawn(f"{n}.png", 20 + n, 30, (Rectangle("bee", (2, 3, 9, 11)),)) for n in range(3, 9)))
    path, content = write_coco(tmp_path / "set", pictures, masks), coco(pictures, masks)
    content["annotations"][0]["iscrowd"] = 1
    write(path, json.dumps(content).encode())
    sources = {split: opened(path, split) for split in ("train", "val")}
    described = pack_sources(sources, path, tmp_path / "shards", shards=2, workers=1)
    assert described["splits"]["train"]["class_counts"] == sources["train"].class_counts.tolist()
    assert is_detect_layout(str(tmp_path / "shards"), PLAIN)
    for split, source in sources.items():
        packed = opened(tmp_path / "shards", split)
        assert (packed.count, packed.classes) == (source.count, source.classes)
        assert packed.target is source.target
        assert packed.class_counts.tolist() == source.class_counts.tolist()
        assert packed.fingerprint == described["splits"][split]["fingerprint"]
        for index in range(packed.count):
            twin = source.names.index(packed.names[index])
            for one, other in zip(packed.decode(index), source.decode(twin), strict=True):
                np.testing.assert_array_equal(one, other)
    renamed = opened(tmp_path / "shards", "train", ["x", "cow", "ant", "bee"])
    assert renamed.class_counts.tolist() == [0, *sources["train"].class_counts[[2, 1, 0]].tolist()]
    with pytest.raises(ArgumentError, match="classes that are unknown to the model: 2"):
        opened(tmp_path / "shards", "train", ["bee"])


def test_padding_is_no_object(tmp_path):
    source = opened(write_coco(tmp_path))
    target = taken_apart(source.decode_target(2), source.most_objects, 33, 90)
    assert (target.states.tolist(), target.instances) == ([NOTHING, NOTHING], None)
    assert not target.boxes.any()


def test_another_task_reads_these_files_where_it_is_named(tmp_path):
    file = write_coco(tmp_path)
    tasks = {name: open_source(file, "train", task=name).target.task for name in ("tag", "detect", None)}
    assert tasks == {"tag": "tag", "detect": "detect", None: "detect"}
