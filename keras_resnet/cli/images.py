"""Image files, as the commands read them: what can't be read is named on stderr, and the others go on."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.errors import ImageError
from keras_resnet.variants import InputContract


def list_or_name(patterns: Sequence[str]) -> tuple[list[Path], int]:
    """Files, folders, globs -> the images they name, and how many patterns name none (each is reported on stderr)."""
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
    paths: Sequence[Path], contract: InputContract, batch_size: int, unreadable: list[Path], prints: bool = True
) -> Iterator[tuple[list[int], Any]]:
    """Paths -> for each batch: places in `paths`, pixels uint8 `[n, size, size, 3]`; others go to `unreadable`.

    A progress bar is shown where it disturbs nothing; `prints` says that the caller prints something for each batch.
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from keras_resnet.preprocessing import load_image

    # Where the results themselves appear on the terminal, they show the progress.
    hidden = (prints and sys.stdout.isatty()) or not sys.stderr.isatty() or len(paths) <= batch_size
    with Progress(console=Console(stderr=True), redirect_stdout=False, transient=True, disable=hidden) as progress:
        task = progress.add_task("images", total=len(paths))
        for start in range(0, len(paths), batch_size):
            places, pixels = [], []
            for place in range(start, min(start + batch_size, len(paths))):
                try:
                    pixels.append(load_image(paths[place], contract))
                    places.append(place)
                except ImageError as error:
                    unreadable.append(paths[place])
                    print(error, file=sys.stderr)
            if places:
                yield places, np.stack(pixels)
            progress.advance(task, min(batch_size, len(paths) - start))
