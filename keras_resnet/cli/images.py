"""Image files for the commands: an unreadable file is named on stderr and skipped."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.cli.progress import count_bar, no_display, progress
from keras_resnet.errors import ImageError
from keras_resnet.read_ahead import read_ahead

BATCHES_AHEAD = 2  # batches that are decoded while the network works on another one


def list_or_name(patterns: Sequence[str]) -> tuple[list[Path], int]:
    """Files, folders, globs -> image paths, and number of patterns without an image (each is reported on stderr)."""
    from keras_resnet.preprocessing import list_images

    paths, failures = [], 0
    for pattern in patterns:
        try:
            paths += list_images([pattern])
        except ImageError as error:
            failures += 1
            print(error, file=sys.stderr)
    return paths, failures


def read_batches(
    paths: Sequence[Path],
    read: Callable[[Path], Any],
    batch_size: int,
    unreadable: list[Path],
    prints: bool = True,
) -> Iterator[tuple[list[int], list[Any]]]:
    """Paths, function that reads one -> for each batch: indices into `paths`, and what `read` returned for them.

    Unreadable paths are appended to `unreadable`. While the caller works on a batch, threads decode the next ones, up
    to `BATCHES_AHEAD`. Progress is shown, on a terminal only where it disturbs nothing; `prints` states
    that the caller prints something for each batch.
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
                    unreadable.append(paths[place])
                    print(error, file=sys.stderr)
            if places:
                yield places, pixels
            show("images", min(start + batch_size, len(paths)), len(paths))
