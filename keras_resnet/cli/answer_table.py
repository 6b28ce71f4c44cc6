"""Answers for images -> a table with the rows of all images, as a CSV or a JSON file."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from keras_resnet.errors import ArgumentError
from keras_resnet.printable import csv_cell, csv_line, printable
from keras_resnet.tasks.tables import ERROR, FILE, Row, Table
from keras_resnet.whole_files import whole_file

TEXTS = (FILE, "predicted", ERROR)  # columns of text, which a spreadsheet must not compute
STDOUT = "-"

Write = Callable[[Row], None]


def check_table_files(csv_file: str | None, json_file: str | None) -> None:
    """Checks the values of `--csv` and `--json` before the model is opened.

    Raises:
        ArgumentError: Both are stdout, or a file can't be written at its place.
    """
    if csv_file == json_file and csv_file is not None:
        raise ArgumentError(f"--csv and --json must name different files. Received twice: {csv_file}")
    for option, file in (("--csv", csv_file), ("--json", json_file)):
        if file is None or file == STDOUT:
            continue
        if Path(file).is_dir():
            raise ArgumentError(f"{option} must name a file, or - for stdout. Received: {file}, which is a folder")
        if not Path(file).parent.is_dir():
            raise ArgumentError(f"{option}: the folder {Path(file).parent} does not exist. Make it first")


@contextlib.contextmanager
def open_tables(csv_file: str | None, json_file: str | None, form: Table) -> Iterator[list[Write]]:
    """Values of `--csv` and `--json`, form of the tables -> functions that write a row. The files appear only when they
    are whole."""
    with contextlib.ExitStack() as stack:
        tables = ((_csv_table, csv_file), (_json_table, json_file))
        yield [stack.enter_context(table(file, form)) for table, file in tables if file is not None]


@contextlib.contextmanager
def _csv_table(file: str, form: Table) -> Iterator[Write]:
    with _text_file(file) as stream:
        stream.write(csv_line(form.columns))
        shown = printable if file == STDOUT else str

        def write(row: Row) -> None:
            stream.write(csv_line(shown(_cell(column, row.get(column))) for column in form.columns))

        yield write


def _cell(column: str, value: Any) -> str:
    from keras_resnet.tasks.tag.sources import SEPARATOR

    if isinstance(value, (list, tuple)):
        form = ".9g" if column == "values" else ".6f"
        value = SEPARATOR.join(format(part, form) if isinstance(part, float) else str(part) for part in value)
    text = "" if value is None else str(value)
    return csv_cell(text) if column in TEXTS else text


@contextlib.contextmanager
def _json_table(file: str, form: Table) -> Iterator[Write]:
    with _text_file(file) as stream:
        before = "\n"

        def write(row: Row) -> None:
            nonlocal before
            entry = form.entry(row)
            if entry is not None:
                stream.write(before + json.dumps(entry))
                before = ",\n"

        stream.write("[")
        yield write
        stream.write("\n]\n")


@contextlib.contextmanager
def _text_file(file: str) -> Iterator[TextIO]:
    """File, or `STDOUT` -> UTF-8 text stream. Bytes of a file name that are no text are written as they are printed."""
    if file == STDOUT:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
        yield sys.stdout
        return
    with (
        whole_file(Path(file)) as partial,
        partial.open("x", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


class AnswerRows:
    """The rows of all images, written in the order of the images.

    Args:
        tables: Functions that write a row.
        paths: All images.
        unreadable: Place in `paths` -> message about an image that can't be read; it grows while images are read.
    """

    def __init__(self, tables: Sequence[Write], paths: Sequence[str], unreadable: Mapping[int, str]) -> None:
        self.tables, self.paths, self.unreadable = tables, paths, unreadable
        self.done = 0  # number of images whose row is written

    def add(self, place: int, rows: Sequence[Row]) -> None:
        """Writes the rows of an image, and before them the rows of the unreadable images that precede it."""
        self.add_unreadable(place)
        for row in rows:
            self._write({FILE: self.paths[place], **row})
        self.done = place + 1

    def add_unreadable(self, end: int) -> None:
        """Writes the rows that are missing before the place `end`; their images can't be read."""
        for place in range(self.done, end):
            path = self.paths[place]
            self._write({FILE: path, ERROR: self.unreadable[place].removeprefix(f"{path}: ")})
        self.done = end

    def _write(self, row: Row) -> None:
        for write in self.tables:
            write(row)
