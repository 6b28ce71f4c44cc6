"""Unusable and unusual image files: each once, by name, with its reason."""

import csv
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from keras_resnet.errors import ImageError
from keras_resnet.printable import csv_cell
from keras_resnet.whole_files import whole_file


@dataclass(frozen=True)
class Problem:
    """One file: its problem, and whether its image is used nevertheless."""

    name: str
    reason: str
    used: bool


class Problems:
    """The files that a run came across; a pipeline adds to it from several threads.

    Args:
        limit: Largest accepted number of unusable files; with one more, `exceeded` is true.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._by_name: dict[str, Problem] = {}
        self._lock = threading.Lock()

    @property
    def found(self) -> list[Problem]:
        """Each file once, in the order in which they were found."""
        with self._lock:
            return list(self._by_name.values())

    @property
    def unusable(self) -> int:
        return sum(not problem.used for problem in self.found)

    @property
    def exceeded(self) -> bool:
        return self.unusable > self.limit

    def knows(self, name: str) -> bool:
        return name in self._by_name

    def add(self, name: str, reason: str, used: bool) -> None:
        with self._lock:
            self._by_name.setdefault(name, Problem(name, reason, used))

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the columns name, reason and used; the file appears only when it is whole."""
        # A file name may hold bytes that are no text; they are written as the file system has them.
        with (
            whole_file(Path(path)) as partial,
            partial.open("x", newline="", encoding="utf-8", errors="surrogateescape") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(("name", "reason", "used"))
            writer.writerows((csv_cell(each.name), csv_cell(each.reason), each.used) for each in self.found)


def reason_of(error: ImageError) -> str:
    """Error about encoded bytes -> its message without the start "image of 1234 bytes: "."""
    return re.sub(r"^image of \d+ bytes: ", "", str(error))
