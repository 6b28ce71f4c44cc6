"""Pictures with rectangles, and the files that tell where they are, made here."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from masked_pictures import png, write

NAMES = ("ant", "bee")
BRIGHT = 250  # of the rectangles; everything else is darker than 60


class Rectangle(NamedTuple):
    """One object: left, top, right and bottom in whole pixels."""

    name: str
    corners: tuple[int, int, int, int]


class Drawn(NamedTuple):
    """One picture with its objects."""

    file: str  # name of the file, without a folder
    height: int
    width: int
    objects: tuple[Rectangle, ...]

    def pixels(self) -> np.ndarray:
        draw = np.random.default_rng(self.height * 1000 + self.width)
        pixels = draw.integers(0, 60, (self.height, self.width, 3), np.uint8)
        for _, (left, top, right, bottom) in self.objects:
            pixels[top:bottom, left:right] = BRIGHT
        return pixels


# Of sizes that differ in each picture, one without an object.
PICTURES = (
    Drawn("0.png", 50, 70, (Rectangle("bee", (10, 5, 30, 45)), Rectangle("ant", (40, 20, 69, 33)))),
    Drawn("1.png", 64, 41, (Rectangle("ant", (3, 7, 20, 60)),)),
    Drawn("2.png", 33, 90, ()),
)


def write_images(folder: Path, pictures: tuple[Drawn, ...] = PICTURES) -> None:
    for each in pictures:
        write(folder / each.file, png(each.pixels()))


def coco(pictures: tuple[Drawn, ...] = PICTURES, masks: bool = False) -> dict:
    """-> content of a COCO file; ids have gaps, and the last class has none of the objects."""
    ids = {"ant": 7, "bee": 3, "cow": 90}
    content: dict = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for n, i in ids.items()]}
    for number, each in enumerate(pictures):
        key = 100 + 10 * number
        content["images"].append({"id": key, "file_name": each.file, "height": each.height, "width": each.width})
        for name, (left, top, right, bottom) in each.objects:
            box = [left, top, right - left, bottom - top]
            annotation = {"image_id": key, "category_id": ids[name], "bbox": box, "iscrowd": 0}
            if masks:
                annotation["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
            content["annotations"].append(annotation)
    return content


def write_coco(folder: Path, pictures: tuple[Drawn, ...] = PICTURES, masks: bool = False) -> Path:
    write_images(folder / "images", pictures)
    write(folder / "boxes.json", json.dumps(coco(pictures, masks)).encode())
    return folder / "boxes.json"


def xml(each: Drawn) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in each.objects
    )
    size = f"<size><width>{each.width}</width><height>{each.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{each.file}</filename>{size}{objects}</annotation>"


def write_voc(folder: Path, pictures: tuple[Drawn, ...] = PICTURES) -> Path:
    write_images(folder / "JPEGImages", pictures)
    for each in pictures:
        write(folder / "Annotations" / each.file.replace(".png", ".xml"), xml(each).encode())
    return folder


def yolo(each: Drawn, polygons: bool = False) -> str:
    lines = []
    for name, (left, top, right, bottom) in each.objects:
        values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        if polygons:
            values = [left, top, right, top, right, bottom, left, bottom]
        sides = [each.width, each.height] * len(values)
        shares = " ".join(f"{value / side:.9f}" for value, side in zip(values, sides, strict=False))
        lines.append(f"{NAMES.index(name)} {shares}")
    return "\n".join(lines)


def write_yolo(folder: Path, pictures: tuple[Drawn, ...] = PICTURES, polygons: bool = False) -> Path:
    write_images(folder / "images", pictures)
    for each in pictures:
        if each.objects:  # YOLO leaves out the file of an image without objects
            write(folder / "labels" / each.file.replace(".png", ".txt"), yolo(each, polygons).encode())
    write(folder / "data.yaml", b"train: images\nnames: [ant, bee]\n")
    return folder


def rows(pictures: tuple[Drawn, ...] = PICTURES) -> str:
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for each in pictures:
        lines += [f"{each.file},{each.width},{each.height},{n},{','.join(map(str, c))}" for n, c in each.objects]
        if not each.objects:
            lines.append(f"{each.file},{each.width},{each.height},,,,,")
    return "\n".join(lines) + "\n"


def write_rows(folder: Path, pictures: tuple[Drawn, ...] = PICTURES) -> Path:
    write_images(folder, pictures)
    write(folder / "boxes.csv", rows(pictures).encode())
    return folder / "boxes.csv"


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo, "csv": write_rows}
