"""The table of an export, of which a row is printed as soon as its artifact is finished."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from keras_resnet.export.formats import Format, format_named
from keras_resnet.printable import printable

if TYPE_CHECKING:
    from keras_resnet.export.result import ExportReport

SHORT = {"pixel accuracy": "pixels"}  # the table has 80 characters
FAILED = "failed"
LONGEST_NUMBER = len("100.00")


class ExportTable:
    """Formats of an export, titles by figure if the accuracy is measured -> table of at most 80 characters."""

    def __init__(self, rows: Sequence[Format], titles: Mapping[str, str]) -> None:
        self.figures = list(titles)
        columns = [("size", "MB"), ("images", ""), ("largest", "difference"), ("agreement", "%")]
        columns += [(SHORT.get(title, title), "%") for title in titles.values()]
        if titles:
            columns.append(("drop", "points"))
        self.head = [("artifact", ""), *columns]
        longest_name = max(len(row.file_name) for row in rows)
        self.widths = [longest_name, *(max(LONGEST_NUMBER, *map(len, column)) for column in columns)]
        self.begun = False

    def print_row(self, name: str, made: "ExportReport") -> None:
        """Prints the row of a format that is finished or has failed, and first, once, the head of the table."""
        if not self.begun:
            self.begun = True
            for sentence in made.account:
                print(printable(sentence), file=sys.stderr)
            for line in zip(*self.head, strict=True):
                self._print(line)
            print("─" * (sum(self.widths) + len(self.widths) - 1))
        self._print(self._cells(name, made))

    def _print(self, cells: Iterable[str]) -> None:
        (first, *others), (width, *widths) = cells, self.widths
        line = " ".join([first.ljust(width), *map(str.rjust, others, widths)])
        print(printable(line.rstrip()), flush=True)  # at once, where a log file is read meanwhile

    def _cells(self, name: str, made: "ExportReport") -> list[str]:
        """A figure that is not known is `-`. The reasons of failures are the error at the end."""
        from keras_resnet.export.manifest import size_bytes

        file_name = format_named(name).file_name
        if name in made.failures:
            cells = [file_name, FAILED, "-", "-", "-"]
        else:
            verification = made.reports[name]
            cells = [
                file_name,
                f"{size_bytes(made.paths[name]) / 1e6:.1f}",
                str(verification.images),
                _known(verification.max_difference, ".2g"),
                _known(verification.top1_agreement_percent, ".2f"),
            ]
        if not self.figures:
            return cells
        if name not in made.accuracy:
            return [*cells, *("-" for _ in self.figures), "-"]
        accuracy = made.accuracy[name]
        figures = [accuracy.figures[figure] for figure in self.figures]
        return [
            *cells,
            *("-" if value is None else f"{value:.2f}" for value in figures),
            f"{accuracy.drop_points:+.2f}",
        ]


def _known(figure: float, form: str) -> str:
    return "-" if math.isnan(figure) else format(figure, form)
