"""Text of any script in pictures: finds fonts."""

import functools
from typing import Any

from keras_resnet.optional import require
from keras_resnet.printable import printable

ELLIPSIS = "…"


def shortened(text: str, length: int) -> str:
    """Text, length -> printable text of at most so many characters."""
    text = printable(text)
    return text if len(text) <= length else text[: length - 1] + ELLIPSIS


@functools.cache
def font_files(characters: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Characters -> (family, path) of fonts that draw them: DejaVu Sans, and installed fonts for other characters.

    Raises:
        MissingDependencyError: matplotlib, which contains DejaVu Sans, is not installed.
    """
    manager: Any = require("matplotlib.font_manager", "plots")
    default = manager.findfont("DejaVu Sans")
    chosen = [("DejaVu Sans", default)]
    missing = {ord(c) for c in characters if not c.isspace()} - _charmap(default)
    while missing:
        best, covered = None, set[int]()
        for entry in sorted(manager.fontManager.ttflist, key=_plainness):
            here = missing & _charmap(entry.fname)
            if len(here) > len(covered):
                best, covered = entry, here
        if best is None:
            break  # the other characters are drawn as boxes
        chosen.append((best.name, best.fname))
        missing -= covered
    return tuple(chosen)


def _plainness(entry: Any) -> tuple[bool, bool, bool, str]:
    """Entry of matplotlib's list of fonts -> key that sorts upright sans-serif text fonts first."""
    return ("serif" in entry.name.lower(), entry.style != "normal", entry.weight not in (400, "normal"), entry.fname)


@functools.cache
def _charmap(path: str) -> frozenset[int]:
    """Font file -> code points that it draws."""
    try:
        return frozenset(require("matplotlib.font_manager", "plots").get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # FreeType reads some formats, such as colour emoji, only in part
        return frozenset()


@functools.cache
def pillow_font(path: str, size: int) -> Any:
    """Font file, size in pixels -> Pillow font."""
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


def line_font(text: str, size: int) -> Any:
    """One line of text, size in pixels -> Pillow font that draws the most of its characters."""
    characters = frozenset(text)
    wanted = {ord(c) for c in characters}
    paths = [path for _, path in font_files(characters)]
    return pillow_font(max(paths, key=lambda path: len(wanted & _charmap(path))), size)
