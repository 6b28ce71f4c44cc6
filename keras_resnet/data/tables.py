"""CSV files as people have them -> rows, and the columns of which the meaning is known.

A file may come from Excel, pandas, Kaggle or an annotation tool: with a byte order mark, in UTF-16, with `;` or tabs
between its cells, with headers in any case, with backslashes in its paths, with names that lack their suffix. What has
one reading is read. What has several is an error that names them and the option that chooses.
"""

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from keras_resnet.data.layout import split_named
from keras_resnet.data.located import Located, locate
from keras_resnet.data.reading import PLAIN, Reading
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError, reason
from keras_resnet.image_files import has_image_suffix
from keras_resnet.printable import csv_text
from keras_resnet.regular_files import open_regular, read_regular

FIRST_ROW = 2  # number of the first row of images, as an editor counts: the header is row 1
ROWS_LISTED = 10  # rows in an error message
HEAD_BYTES = 1 << 16  # enough for a header and a row
DELIMITERS = (",", ";", "\t")
SEPARATOR = "|"  # between the names of several classes in a cell

# Meaning of a column -> its names, in lower case, with `_` for spaces. Two columns with one meaning are an error unless
# their cells are equal in every row.
FILE, INDEX, WNID, CLASS_NAME, CLASS_NAMES, MASK_FILE, SPLIT = (
    "file",
    "index",
    "wnid",
    "label",
    "labels",
    "mask",
    "split",
)
NAMES: Mapping[str, tuple[str, ...]] = {
    FILE: (
        *("file", "path", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file"),
        *("image_name", "image_filename", "img", "img_path", "imagename", "imagepath", "fname"),
        *("image_id", "imageid", "img_id", "id"),
    ),
    INDEX: ("index", "class_index", "class_id", "classid", "label_index", "label_id", "category_id"),
    WNID: ("wnid", "synset"),
    CLASS_NAME: (
        *("label", "class", "class_name", "label_name", "category", "category_name", "choice", "name"),
        *("classname", "labelname"),
    ),
    CLASS_NAMES: ("classes", "tags", "labels"),
    MASK_FILE: ("mask", "mask_path", "mask_file", "mask_name", "segmentation_mask"),
    SPLIT: ("split", "subset", "set", "partition"),
}
WEAK_FILES = ("image_id", "imageid", "img_id", "id")  # names of a file only where no other column names one
OPTIONS: Mapping[str, str] = {FILE: "--image-column", CLASS_NAME: "--label-column", SPLIT: "--split-column"}

_MARKS = (  # byte order mark -> encoding that takes it away
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


NOWHERE = Located([], np.zeros(0, bool), "", ())


@dataclass(frozen=True)
class Table:
    """Rows of a CSV file; a column is known by its header as the file has it."""

    file: Path  # or the folder in which several files make the table
    header: tuple[str, ...]
    rows: Sequence[Mapping[str, str]]
    reading: Reading = PLAIN
    kind: str = "CSV file"
    made: str = ""  # how the table was made, in words, where no file has its columns
    aside: LeftAside = field(default_factory=LeftAside)  # what of the file makes no row

    @property
    def folder(self) -> Path:
        """Folder from which the paths count."""
        return self.file if self.file.is_dir() else self.file.parent

    @cached_property
    def columns(self) -> Mapping[str, str]:
        """Meaning -> header of the column that has it."""
        found: dict[str, str] = {}
        for meaning, names in NAMES.items():
            header = self._chosen(meaning)
            if header is None:
                there = [header for name in names for header in self.header if normal(header) == name]
                if meaning == FILE:
                    there = [name for name in there if normal(name) not in WEAK_FILES] or there
                header = self._one_of(meaning, there)
            if header is not None:
                found[meaning] = header
        return found

    def _chosen(self, meaning: str) -> str | None:
        """-> the column that the user chose for this meaning, if any."""
        wanted = self.reading.column(meaning)
        if not wanted:
            return None
        if meaning == CLASS_NAME and any(normal(wanted) in NAMES[other] for other in (INDEX, WNID, CLASS_NAMES)):
            return None  # the column has its own meaning, which `classes` puts first
        there = [header for header in self.header if header == wanted] or [
            header for header in self.header if normal(header) == normal(wanted)
        ]
        if not there:
            raise ArgumentError(
                f"{self.file}: {OPTIONS[meaning]} must name one of its columns: {', '.join(self.header)}. "
                f"Received: {wanted}"
            )
        return there[0]

    def _one_of(self, meaning: str, there: Sequence[str]) -> str | None:
        """Columns that may have this meaning -> the one, or the first of several with equal cells."""
        if len(there) > 1 and any(row[header] != row[there[0]] for header in there[1:] for row in self.rows):
            option = OPTIONS.get(meaning)
            raise ArgumentError(
                f"{self.file}: its columns {' and '.join(there)} can both be the column {meaning!r}, and differ. "
                + (f"Choose one: {option} {there[0]}" if option else "Rename the one that is not")
            )
        return there[0] if there else None

    def cells(self, meaning: str, may_be_empty: bool = False) -> list[str]:
        """Meaning of a column that is there -> its cells.

        Raises:
            ArgumentError: A cell is empty.
        """
        header = self.columns[meaning]
        cells = [row[header].strip() for row in self.rows]
        empty = [number for number, cell in enumerate(cells, start=FIRST_ROW) if not cell]
        if empty and not may_be_empty:
            raise ArgumentError(
                f"{self.file}: column {header!r} is empty in {rows_in_words(empty)}. Fill in the cells, or remove the "
                "rows"
            )
        return cells

    def files(self) -> list[str]:
        """-> image files, relative to the folder of the CSV file or absolute.

        Raises:
            ArgumentError: There is no such column, or a cell is empty.
        """
        if FILE not in self.columns:
            raise ArgumentError(
                f"{self.file}: no column names the image files. Its columns are {', '.join(self.header)}; known names "
                f"are {', '.join(NAMES[FILE])}. Choose one: --image-column COLUMN"
            )
        return self.paths(FILE)

    def paths(self, meaning: str) -> list[str]:
        """Meaning of a column of paths -> the paths with `/`, and with the suffix that a name lacks."""
        return self._locate(meaning).paths

    @cached_property
    def _located(self) -> dict[str, Located]:
        return {}

    def _locate(self, meaning: str) -> Located:
        if meaning not in self._located:
            self._located[meaning] = locate(self.file, self.folder, self.cells(meaning))
        return self._located[meaning]

    def check_files(self, rows: np.ndarray, what: str) -> None:
        """Numbers of rows from 0, what they are in words -> nothing, if all of their files and masks are there.

        Raises:
            ArgumentError: Some are not; the message names the first rows.
        """
        for meaning in (FILE, MASK_FILE):
            if meaning not in self.columns:
                continue
            located = self._locate(meaning)
            missing = rows[~located.there[rows]].tolist()
            if not missing:
                continue
            own = self.kind == Table.kind and not self.made  # rows of other tables have no numbers in a file
            lines = [
                f"  row {row + FIRST_ROW}: {located.paths[row]}" if own else f"  {located.paths[row]}"
                for row in missing[:ROWS_LISTED]
            ]
            more = [f"  and {len(missing) - ROWS_LISTED:,} more"] if len(missing) > ROWS_LISTED else []
            found = f" In other places, there are: {'; '.join(located.elsewhere)}." if located.elsewhere else ""
            raise ArgumentError(
                f"{self.file}: files of {what} that do not exist: {len(missing):,} of {len(rows):,}",
                *lines,
                *more,
                f"Paths count from {self.folder.absolute()}.{found} Correct the paths, add the files, or remove the "
                "rows",
            )

    def layout(self, *meanings: str) -> str:
        """Meanings of columns -> which columns were taken for what, in words."""
        taken = [FILE, *meanings, *([SPLIT] if SPLIT in self.columns else [])]
        found = [how for meaning in (FILE, MASK_FILE) if (how := self._located.get(meaning, NOWHERE).how)]
        columns = ", ".join(self.columns[meaning] for meaning in taken)
        return "; ".join([self.made or f"{self.kind} with the columns {columns}", *dict.fromkeys(found)])

    def splits(self) -> list[str] | None:
        """-> "train", "val" or "test" for each row, None where no column says so.

        Raises:
            ArgumentError: A cell is empty, or no name of a split.
        """
        if SPLIT not in self.columns:
            return None
        cells = self.cells(SPLIT)
        splits = [split_named(cell) for cell in cells]
        unknown = [number for number, split in enumerate(splits, start=FIRST_ROW) if split is None]
        if unknown:
            first = cells[unknown[0] - FIRST_ROW]
            raise ArgumentError(
                f"{self.file}: column {self.columns[SPLIT]!r} must hold train, val or test. Received: {first} in "
                f"{rows_in_words(unknown)}. Rename the column if it means something else"
            )
        return [str(split) for split in splits]


def read_head(file: Path, reading: Reading) -> Table | None:
    """CSV file -> its header and first row; None: it is no CSV file."""
    try:
        return read_table(file, reading, HEAD_BYTES)
    except ArgumentError:
        return None


def read_table(file: Path, reading: Reading, most_bytes: int | None = None) -> Table:
    """CSV file -> its rows, or only the first row, if only so many bytes are read.

    Raises:
        ArgumentError: It is no CSV file, has no rows, no header, or a header twice.
    """
    text = _text(file, reading.encoding, most_bytes)
    if most_bytes is not None:
        text = "\n".join(text.splitlines()[:2])
    if "\0" in text:
        raise ArgumentError(f"{file}: not a CSV file: it has binary content")
    delimiter = _delimiter(text)
    try:
        lines = [cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(cells)]
    except csv.Error as error:
        raise ArgumentError(f"{file}: not a CSV file: {reason(error)}") from error
    header = tuple(cell.strip() for cell in lines[0]) if lines else ()
    if any(has_image_suffix(cell) for cell in header):
        raise ArgumentError(
            f"{file}: its first line must name the columns, for example file{delimiter}label. "
            f"Received: {delimiter.join(header)[:200]}"
        )
    if any(has_image_suffix(cell.rpartition(" ")[0]) for cell in header):
        raise ArgumentError(
            f"{file}: commas must stand between the cells, and its first line must name the columns: file,label for "
            f"names of classes, or file,index for their numbers from 0. Received: {delimiter.join(header)[:200]}"
        )
    if len(lines) < 2:
        raise ArgumentError(f"{file}: a CSV file must have a line of headers and rows. Received: no rows")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ArgumentError(f"{file}: each column must have a name of its own. Received twice: {', '.join(twice)}")
    rows = []
    for number, cells in enumerate(lines[1:], start=FIRST_ROW):
        if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            raise ArgumentError(
                f"{file}: row {number} has more cells than the header: {cells[len(header) :]}. A cell that holds "
                f"{delimiter!r} must stand in quotes"
            )
        texts = [*map(csv_text, cells), *[""] * (len(header) - len(cells))]
        rows.append(dict(zip(header, texts, strict=False)))
    return Table(*with_choices(file, header, rows), reading)


def with_choices(
    file: Path, header: tuple[str, ...], rows: list[dict[str, str]]
) -> tuple[Path, tuple[str, ...], list[dict[str, str]]]:
    """File, header, rows -> the same where cells are lists of Label Studio, `{"choices": [...]}`, as a column `labels`.

    Raises:
        ArgumentError: A list can't be read.
    """
    lists = [name for name in header if any(row[name].startswith('{"choices"') for row in rows)]
    if not lists:
        return file, header, rows
    [name, *others] = lists
    if others:
        raise ArgumentError(f"{file}: its columns {' and '.join(lists)} hold several choices each. Remove all but one")
    for number, row in enumerate(rows, start=FIRST_ROW):
        if row[name].startswith("{"):
            try:
                row[name] = SEPARATOR.join(json.loads(row[name])["choices"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ArgumentError(
                    f'{file}: row {number}, column {name}: must be a name or {{"choices": [names]}}. '
                    f"Received: {row[name][:80]}"
                ) from error
    renamed = [{CLASS_NAMES if key == name else key: cell for key, cell in row.items()} for row in rows]
    return file, tuple(CLASS_NAMES if key == name else key for key in header), renamed


def normal(header: str) -> str:
    """Header as a file has it -> in lower case, with `_` for spaces and hyphens."""
    return "_".join(header.strip().lower().replace("-", " ").split())


def rows_in_words(rows: Sequence[int]) -> str:
    """Numbers of rows -> in words, the first few."""
    shown = ", ".join(map(str, rows[:ROWS_LISTED]))
    more = f" and {len(rows) - ROWS_LISTED} more" if len(rows) > ROWS_LISTED else ""
    return f"row{'s' * (len(rows) > 1)} {shown}{more}"


def _text(file: Path, encoding: str, most_bytes: int | None) -> str:
    try:
        if most_bytes is None:
            content = read_regular(file)
        else:
            with open_regular(file) as stream:
                content = stream.read(most_bytes)
    except OSError as error:
        raise ArgumentError(f"{file}: {error.strerror or error}") from error
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    try:
        return content.decode(encoding or marked or "utf-8", "strict" if most_bytes is None else "ignore")
    except LookupError as error:
        raise ArgumentError(f"`encoding` (--encoding) must be one that Python knows. Received: {encoding}") from error
    except UnicodeDecodeError as error:
        if b"\0" in content[:1000]:
            raise ArgumentError(f"{file}: not a CSV file: it has binary content") from error
        raise ArgumentError(
            f"{file}: not a CSV file in {encoding or marked or 'UTF-8'}: {reason(error)}. Name its encoding, for "
            "example --encoding cp949 (Korean Windows), cp932 (Japanese), cp1252 (Western)"
        ) from error


def _delimiter(text: str) -> str:
    """Text of a CSV file -> what stands between the cells of its first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    known = {name for names in NAMES.values() for name in names}
    counts = {
        mark: (sum(normal(cell.strip('"')) in known for cell in first.split(mark)), first.count(mark))
        for mark in DELIMITERS
    }
    return max(DELIMITERS, key=lambda mark: counts[mark])
