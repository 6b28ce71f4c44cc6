"""Text from files, such as the name of an image or a class, as text that nothing obeys: terminal, table, page.

`printable` decides which characters are shown unchanged; the other functions add what their place asks for.
"""

import html
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_JOINERS = "\u200c\u200d"  # zero-width; words of Persian and Hindi have them, and families of emoji
_JOINED = ("Lo", "Mc", "Mn", "Sk", "So")  # categories of what they join; no letter of the Latin alphabet is among them
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")  # letters that show nothing

# OWASP, "CSV Injection": a spreadsheet computes a cell that begins with one of these. The last four are as wide as
# letters of Chinese, and Excel takes them for the others.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_QUOTED = re.compile('[,;\t"\r\n]')  # between the cells of a CSV file, in some country or other


def printable(text: object) -> str:
    """Text of one line -> the text, with control characters and other invisible ones as escape sequences.

    A terminal would obey control characters: they change colours, move the cursor and overwrite earlier lines. Marks
    of direction would turn the text around. What a script needs stays: joiners between its letters or between emoji,
    and one variation selector behind a character.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if _is_shown(text, place) else c.encode("unicode_escape").decode("ascii") for place, c in enumerate(text)
    )


def printable_lines(text: object) -> str:
    """Text of several lines -> the text as `printable` gives it, with its ends of lines."""
    return "\n".join(map(printable, str(text).split("\n")))


def _is_shown(text: str, place: int) -> bool:
    c, before, after = text[place], text[place - 1 : place], text[place + 1 : place + 2]
    if c in _JOINERS:
        return all(near and unicodedata.category(near) in _JOINED for near in (before, after))
    if _is_selector(c):
        return bool(before) and before.isprintable() and before != " " and not _is_selector(before)
    return c.isprintable() and c not in _BLANKS


def _is_selector(c: str) -> bool:
    """Character -> whether it selects the form of the one before: many in a row can hide a text."""
    return "\ufe00" <= c <= "\ufe0f" or "\U000e0100" <= c <= "\U000e01ef"


def cell(text: object) -> "Text":
    """Text -> cell of a table that rich prints. rich would obey `[red]`, `[link=...]` and `:smile:` in a `str`."""
    from rich.text import Text

    return Text(printable(text))


def csv_cell(text: str) -> str:
    """Text -> cell of a CSV file, with `'` before what a spreadsheet would compute; `csv_text` takes it away.

    Numbers are written without this function.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def csv_line(cells: Iterable[object]) -> str:
    r"""Cells -> line of a CSV file.

    Before Python 3.13, `csv.writer(lineterminator="\n")` writes `\r` without quotes, where other programs begin a row.
    """
    texts = [str(each) for each in cells]
    return ",".join('"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text for text in texts) + "\n"


def csv_text(cell: str) -> str:
    """Cell of a CSV file -> the text that `csv_cell` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def markdown_text(text: object) -> str:
    """Text -> Markdown that shows it inside of a line or in the cell of a table: no link, no emphasis, no HTML."""
    return re.sub(r"([\\`*_\[\]<>|~$&@]|:(?=//)|(?<=www)\.)", r"\\\1", printable(text), flags=re.IGNORECASE)


def html_text(text: object) -> str:
    """Text -> HTML that shows it, between tags or in quotes."""
    return html.escape(printable(text))
