"""Texts as strangers write them into names and files, and what must be true of everything that holds one."""

import csv
import html.parser
import io

from keras_resnet.printable import printable

# Each would do something, or hide something, in a terminal, a table, a page or a picture.
HOSTILE = (
    "a\x1b[31mred\x1b[0m",
    "a\x1b]8;;https://evil.example\x07link\x1b]8;;\x07",
    "a\x9b2J\x07\b\b",
    "a\x85b\x7f",
    "[/red]",
    "[bold red]b[/bold red]",
    "[link=https://evil.example]click[/link]",
    ":smile: [blink]",
    "a\n  100.00 %  forged",
    "a\rb",
    "a\u2028b\u2029c",
    "gpj\u202eexe",
    "\u2067a\u2069",
    "a\u200bb",
    "pay\u200dpal",
    "\ufeffa",
    "a\U000e0041\U000e0042",
    "a\ufe0f\ufe0f\ufe0f",
    "\u3164\u3164",
    "=1+1",
    "@SUM(1)",
    "+1",
    "-2+3",
    "'=1",
    "\uff1d1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><b onclick='x'>",
    "$x_{$",
    "$",
    "a | b",
    "[a](https://evil.example)",
    "`a` *b* {body}",
    "%s%n{0}",
    "²",
    "가족 👨\u200d👩\u200d👧",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
)
FOLDERS = (*(text for text in HOSTILE if "/" not in text), "caf\udce9")  # those that can be the name of a folder
HARMLESS = tuple(f"class {index:02d}" for index in range(len(HOSTILE)))
HARMLESS_FOLDERS = (*HARMLESS[: len(FOLDERS) - 1], "unknown")


def check_terminal(lines):
    """Nothing in the lines is obeyed."""
    for line in lines:
        assert printable(line) == line, ascii(line)


def check_csv(content):
    """Content of a CSV file -> its rows, none of which has a cell that a spreadsheet would compute."""
    rows = list(csv.reader(io.StringIO(content, newline="")))
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d")) or _is_number(cell), cell
    assert len({len(row) for row in rows}) == 1
    return rows


def _is_number(cell):
    try:
        return bool(cell) and float(cell) is not None
    except ValueError:
        return False


class _Page(html.parser.HTMLParser):
    def __init__(self, content):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {key for key, _ in attributes}

    def handle_data(self, data):
        self.text.append(data)


def check_html(content):
    """Page -> its text, in which no name has become a tag or an attribute."""
    page = _Page(content)
    assert not page.tags & {"script", "a", "iframe", "object", "form"}
    assert not [name for name in page.attributes if name.startswith("on")]
    check_terminal("".join(page.text).split("\n"))
    return "".join(page.text)
