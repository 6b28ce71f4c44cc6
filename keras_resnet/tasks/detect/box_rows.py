"""CSV files with a row for each box: the image, the class, and the four sides of the box in pixels.

A row whose cells of the box are empty names an image without objects. Columns `width` and `height` are the size of the
image, as TensorFlow's tools write them.
"""

from collections.abc import Mapping
from pathlib import Path

from keras_resnet.data.annotations import is_table, open_table, table_head
from keras_resnet.data.located import locate
from keras_resnet.data.reading import Reading
from keras_resnet.data.tables import CLASS_NAME, FILE, FIRST_ROW, INDEX, SPLIT, Table, normal
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.detect.stated import Annotations, Picture, Stated, numbers, stated_size

# Side of a box -> the names of its column, in lower case, with `_` for spaces.
SIDES: Mapping[str, tuple[str, ...]] = {
    "left": ("xmin", "x_min", "x1", "left", "bbox_xmin", "bbox_x1"),
    "top": ("ymin", "y_min", "y1", "top", "bbox_ymin", "bbox_y1"),
    "right": ("xmax", "x_max", "x2", "right", "bbox_xmax", "bbox_x2"),
    "bottom": ("ymax", "y_max", "y2", "bottom", "bbox_ymax", "bbox_y2"),
}
HEIGHTS, WIDTHS = ("height", "image_height", "img_height"), ("width", "image_width", "img_width")


def is_box_rows(path: Path, reading: Reading) -> bool:
    """Path -> whether it is a CSV file with columns for the four sides of a box."""
    if not path.is_file() or path.suffix.lower() in (".json", ".yaml", ".yml") or not is_table(path):
        return False
    try:
        head = table_head(path, reading)
    except ArgumentError:
        return False
    return head is not None and len(_sides(head)) == len(SIDES)


def read_box_rows(path: Path, reading: Reading) -> Annotations:
    """CSV file of boxes -> its images and what its rows state about them.

    Raises:
        ArgumentError: No column names the images or the classes, or a cell of them is empty.
    """
    table, aside = open_table(path, reading), LeftAside()
    table.files()  # refuses a table without files
    meaning = next((each for each in (CLASS_NAME, INDEX) if each in table.columns), None)
    if meaning is None:
        raise ArgumentError(
            f"{path}: no column names the class of each box. Its columns are {', '.join(table.header)}. Choose one: "
            "--label-column COLUMN"
        )
    cells = table.cells(FILE)
    files, splits, classes = locate(path, table.folder, cells).paths, table.splits(), table.cells(meaning, True)
    sides = _sides(table)
    sizes = [_column(table, names) for names in (HEIGHTS, WIDTHS)]
    pictures: dict[str, Picture] = {}
    objects: dict[str, list[Stated]] = {}
    for row, (file, class_name, cells_of) in enumerate(zip(files, classes, table.rows, strict=True)):
        if file not in pictures:
            size = None if None in sizes else stated_size(*(cells_of[str(name)] for name in sizes))
            objects[file] = []
            pictures[file] = Picture(file, None if splits is None else splits[row], size, objects[file])
        elif splits is not None and splits[row] != pictures[file].split:
            aside.add("row of an image that another row puts into another split", f"row {row + FIRST_ROW}")
            continue
        box = [cells_of[name].strip() for name in sides.values()]
        if any(box) or class_name:
            objects[file].append(Stated(f"row {row + FIRST_ROW}", class_name or None, numbers(box)))
    columns = [table.columns[each] for each in (FILE, meaning, *([SPLIT] if SPLIT in table.columns else []))]
    layout = f"CSV file of boxes with the columns {', '.join([*columns, *sides.values()])}"
    return Annotations(table.folder, layout, [*pictures.values()], None, aside)


def _sides(table: Table) -> dict[str, str]:
    """Table -> header of the column of each side of a box that it has."""
    found = {side: _column(table, names) for side, names in SIDES.items()}
    return {side: header for side, header in found.items() if header is not None}


def _column(table: Table, names: tuple[str, ...]) -> str | None:
    """Table, names of a column -> the header of the first column that has one of the names."""
    return next((header for name in names for header in table.header if normal(header) == name), None)
