"""Sources of images with objects: COCO, Pascal VOC, YOLO, CSV files of boxes, packed sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_resnet.data.base import EncodedSource
from keras_resnet.data.files import FileSource
from keras_resnet.data.labelled import class_indices, known_names
from keras_resnet.data.reading import Reading
from keras_resnet.data.shards import DESCRIPTION, ShardSource, open_pair, read_dataset_description, task_of_index
from keras_resnet.data.splits import chosen_of, classes_of, opened_part
from keras_resnet.data.taken import UNUSED_SPLIT, Taken
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.tasks.detect.box_rows import is_box_rows, read_box_rows
from keras_resnet.tasks.detect.checked import Objects, check
from keras_resnet.tasks.detect.coco import is_coco, read_coco
from keras_resnet.tasks.detect.detected import DetectedSource, fingerprint_of_objects
from keras_resnet.tasks.detect.outlines import instance_map
from keras_resnet.tasks.detect.stated import Annotations
from keras_resnet.tasks.detect.target import IGNORED, TASK, objects_of, unpack_instances, unpack_objects
from keras_resnet.tasks.detect.voc import is_voc, read_voc
from keras_resnet.tasks.detect.yolo import is_yolo, read_yolo


def is_detect_layout(text: str, reading: Reading) -> bool:
    """Data as users name it -> whether it is of images with boxes."""
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        return task_of_index(read_dataset_description(path)) == TASK
    return bool(_kinds(path, reading))


def open_detected(text: str, split: str, class_names: Sequence[str] | None, reading: Reading) -> DetectedSource:
    """Data of that layout, one of `data.splits.SPLITS`, names of the classes, choices of the user -> the images of that
    split, with the objects that can be used.

    Raises:
        ArgumentError: The data can be read in two ways, or has no training images.
        ImageError: None of the images exists.
        MissingDependencyError: The package that fills polygons, or reads YAML files, is not installed.
    """
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        return _open_shards(path, split, class_names)
    annotations = _read(path, reading)
    classes, known = _classes(annotations, class_names)
    images, has_masks = check(annotations, known)
    if not images:
        raise ImageError(
            f"{path}: none of the {len(annotations.pictures):,} images that the boxes are for was found below "
            f"{annotations.root}" + "".join(f"; {line}" for line in annotations.aside.lines[:1])
        )
    most_objects = max(1, *(len(each.boxes) for each in images))
    chosen, split, held_out, part = _chosen(path, images, split, reading, annotations)
    objects = [images[index] for index in chosen]
    files = [each.file for each in objects]
    source = FileSource(
        *("boxes", annotations.root, files, str(path), split, classes, files, None),
        held_out=held_out,
        target=objects_of(most_objects, has_masks),
    )

    def instances(index: int) -> np.ndarray:
        return instance_map(objects[index].outlines, *objects[index].size)

    detected = DetectedSource(
        source,
        objects,
        most_objects,
        instances if has_masks else None,
        lambda: fingerprint_of_objects(files, objects),
    )
    masks = ", with masks" if has_masks else ""
    detected.taken = Taken(f"{annotations.layout}{masks}", part, annotations.aside)
    return detected


def _kinds(path: Path, reading: Reading) -> list[str]:
    """Path -> the kinds of annotations that it has, by what the files contain."""
    checks = {
        "COCO": lambda: is_coco(path),
        "Pascal VOC": lambda: is_voc(path),
        "YOLO": lambda: is_yolo(path),
        "CSV": lambda: is_box_rows(path, reading),
    }
    return [kind for kind, is_there in checks.items() if is_there()]


def _read(path: Path, reading: Reading) -> Annotations:
    kinds = _kinds(path, reading)
    if len(kinds) != 1:
        raise ArgumentError(
            f"{path}: its boxes can be read as {' and as '.join(kinds)}. Name one of the annotation files, or move the "
            "others away"
            if kinds
            else f"{path}: must hold boxes: COCO, Pascal VOC, YOLO, or a CSV file with xmin, ymin, xmax and ymax"
        )
    if kinds == ["CSV"]:
        return read_box_rows(path, reading)
    return {"COCO": read_coco, "Pascal VOC": read_voc, "YOLO": read_yolo}[kinds[0]](path)


def _classes(annotations: Annotations, class_names: Sequence[str] | None) -> tuple[tuple[str, ...], dict[str, int]]:
    """-> names of the classes, in the order of the files where they have one; index of each accepted name.

    Raises:
        ArgumentError: No object has a class.
    """
    if class_names is None and annotations.classes:
        names = tuple(annotations.classes)
        return names, {name: index for index, name in enumerate(names)}
    found = {each.class_name for picture in annotations.pictures for each in picture.objects}
    classes, known = classes_of(class_names, [name for name in found if name is not None])
    if not classes:
        raise ArgumentError(f"{annotations.root}: no box has a class. Label the images, and export again")
    return classes, known


def _chosen(
    path: Path, images: Sequence[Objects], split: str, reading: Reading, annotations: Annotations
) -> tuple[np.ndarray, str, bool, str]:
    """Images of all splits, one of `SPLITS` -> indices of its images, the split that is opened, whether validation is
    held out, the part in words."""
    names = [each.file for each in images]
    if all(each.split is None for each in images):
        return chosen_of(names, np.zeros(len(names), int), split), split, True, "images"
    of = {name: [index for index, each in enumerate(images) if each.split == name] for name in ("train", "val", "test")}
    wanted = reading.validation_split
    split = opened_part(split, has_validation=bool(of[wanted]))
    if not of["train"]:
        raise ArgumentError(f"{path}: has boxes for {', '.join(k for k in of if of[k])}, but none for train; add them")
    for name in ("val", "test"):
        if name != wanted and of[name]:
            annotations.aside.add(UNUSED_SPLIT, names[of[name][0]], len(of[name]))
    if of[wanted]:
        return np.array(of[wanted if split == "val" else "train"]), split, False, "images"
    train = np.array(of["train"])
    chosen = chosen_of([names[index] for index in train], np.zeros(len(train), int), split)
    return train[chosen], split, True, "images"


def _open_shards(folder: Path, split: str, class_names: Sequence[str] | None) -> DetectedSource:
    description = read_dataset_description(folder)
    packed = description["classes"]
    classes = packed if class_names is None else class_names
    new = np.arange(len(packed)) if class_names is None else class_indices(folder, packed, known_names(class_names))
    split = opened_part(split, has_validation=True)
    pairs = {name: open_pair(folder, name, description, classes, objects_of(1, False)) for name in ("train", "val")}
    read = {name: _packed_objects(folder, *pair, new) for name, pair in pairs.items()}
    most_objects = max(1, *(len(each.boxes) for objects in read.values() for each in objects[0]))
    has_masks = any(has for _, has in read.values())
    images, targets = pairs[split]
    objects, _ = read[split]

    def instances(index: int) -> np.ndarray:
        size, rows, png = unpack_objects(targets.read(index))
        return unpack_instances(png, size, len(rows))

    def fingerprint() -> str:
        return images.target.fingerprint(images.names, {"objects_offset": targets.offset}, len(packed))

    return DetectedSource(images, objects, most_objects, instances if has_masks else None, fingerprint)


def _packed_objects(
    folder: Path, images: EncodedSource, targets: ShardSource, new: np.ndarray
) -> tuple[list[Objects], bool]:
    """Images and targets of a packed split, index of each packed class -> their objects, whether they have masks.

    Raises:
        ArgumentError: The objects of an image are damaged.
    """
    found, has_masks = [], False
    for index in range(images.count):
        name = images.name_of(index)
        try:
            size, rows, png = unpack_objects(targets.read(index))
        except ImageError as error:
            raise ArgumentError(f"{folder}: {name}: {error}") from error
        if not (np.isfinite(rows).all() and ((rows[:, 4] >= 0) & (rows[:, 4] < len(new))).all()):
            raise ArgumentError(f"{folder}: {name}: its objects have no class of the set; pack the set again")
        places = new[rows[:, 4].astype(int)].astype("int32")
        found.append(Objects(name, None, size, rows[:, :4].astype("float32"), places, rows[:, 5] == IGNORED, ()))
        has_masks |= bool(png)
    return found, has_masks
