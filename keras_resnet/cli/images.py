"""Image files for the commands: an unreadable file is named on stderr and skipped."""

import codecs
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.cli.progress import count_bar, no_display, progress
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.printable import printable
from keras_resnet.read_ahead import read_ahead

BATCHES_AHEAD = 2  # batches that are decoded while the network works on another one


def list_or_name(patterns: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files, folders, globs -> image paths, and each pattern without an image with its error, printed on stderr."""
    from keras_resnet.preprocessing import list_images

    paths, failed = [], []
    for pattern in patterns:
        try:
            paths += list_images([pattern])
        except ImageError as error:
            failed.append((pattern, str(error)))
            print(printable(error), file=sys.stderr)
    return paths, failed


def paths_in(file: str) -> list[str]:
    """Text file, or - for stdin -> the paths in it, one a line, or separated by NUL characters.

    Raises:
        ArgumentError: The file has no path, or it is in UTF-16.
    """
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    paths = [name for name in names if name]
    # Without a mark at its start, UTF-16 reads as one character between two NULs, and one of them may be a slash.
    is_letters = len(paths) > 1 and all(len(name.strip()) <= 1 for name in paths) and {".", "/"} & {*paths}
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or is_letters:
        raise ArgumentError(f"--files-from must name a text file in UTF-8. Received: {file}, which is in UTF-16")
    if not paths:
        raise ArgumentError(f"--files-from must name a file with one path a line. Received: {file}, which has none")
    return paths


def read_batches(
    paths: Sequence[Any],
    read: Callable[[Any], Any],
    batch_size: int,
    unreadable: dict[int, str],
    prints: bool = True,
) -> Iterator[tuple[list[int], list[Any]]]:
    """Paths, function that reads one -> for each batch: indices into `paths`, and what `read` returned for them.

    `unreadable` gets the index and the error of each path that can't be read. While the caller works on a batch,
    threads decode the next ones, up to `BATCHES_AHEAD`. Progress is shown, on a terminal only where it disturbs
    nothing; `prints` states that the caller prints something for each batch.
    """
    # If the results are printed on the terminal, they show the progress themselves.
    hidden = (prints and sys.stdout.isatty()) or len(paths) <= batch_size
    images = read_ahead(paths, read, BATCHES_AHEAD * batch_size)
    with progress(no_display if hidden else count_bar) as show:
        show("images", 0, len(paths))
        for start in range(0, len(paths), batch_size):
            places, pixels = [], []
            for place, image in enumerate(itertools.islice(images, batch_size), start):
                try:
                    pixels.append(image.result())
                    places.append(place)
                except ImageError as error:
                    unreadable[place] = str(error)
                    print(printable(error), file=sys.stderr)
            if places:
                yield places, pixels
            show("images", min(start + batch_size, len(paths)), len(paths))
