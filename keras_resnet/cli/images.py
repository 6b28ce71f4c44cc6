"""Image files, as the commands read them: what can't be read is named on stderr, and the others go on."""

import contextlib
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from keras_resnet.errors import ImageError
from keras_resnet.variants import Contract, WholeImage

BATCHES_AHEAD = 2  # that are decoded while the network works on another

Job = tuple[Path, Future[Any]]  # a file, and where its pixels are awaited


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


def targets_of(paths: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Image files, folder, suffix -> a file for the picture of each; images of the same name get numbers."""
    taken: set[str] = set()
    targets = []
    for path in paths:
        name, number = path.stem + suffix, 2
        while name.casefold() in taken:  # some file systems know no case
            name, number = f"{path.stem}-{number}{suffix}", number + 1
        taken.add(name.casefold())
        targets.append(out / name)
    return targets


def read_batches(
    paths: Sequence[Path], contract: Contract, batch_size: int, unreadable: list[Path], prints: bool = True
) -> Iterator[tuple[list[int], Any]]:
    """Paths -> for each batch: places in `paths`, pixels uint8 `[n, size, size, 3]`; others go to `unreadable`.

    Of a `WholeImage`, the pixels are the image's own, as decoded, and a batch is one of them.

    While the caller works on a batch, threads decode the next ones, up to `BATCHES_AHEAD`. A progress bar is shown
    where it disturbs nothing; `prints` says that the caller prints something for each batch.
    """
    import numpy as np

    if isinstance(contract, WholeImage):
        batch_size = 1
    # Where the results themselves appear on the terminal, they show the progress.
    hidden = (prints and sys.stdout.isatty()) or not sys.stderr.isatty() or len(paths) <= batch_size
    images = _read_ahead(paths, contract, BATCHES_AHEAD * batch_size)
    with _progress_bar(len(paths), hidden) as advance:
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
                yield places, np.stack(pixels)
            advance(min(batch_size, len(paths) - start))


@contextlib.contextmanager
def _progress_bar(total: int, hidden: bool) -> Iterator[Callable[[int], None]]:
    """-> what is told of so many images more."""
    if hidden:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), redirect_stdout=False, transient=True) as progress:
        task = progress.add_task("images", total=total)
        yield lambda count: progress.advance(task, count)


def _read_ahead(paths: Sequence[Path], contract: Contract, ahead: int) -> Iterator[Future[Any]]:
    """Paths -> the pixels `[size, size, 3]` of each, in order; threads read as many as `ahead` that nobody took yet."""
    # Not an executor, whose threads Python waits for at its end: Ctrl-C would hang on a file that comes slowly.
    jobs: SimpleQueue[Job | None] = SimpleQueue()
    threads = min(os.cpu_count() or 1, ahead, len(paths))
    for _ in range(threads):
        Thread(target=_read, args=(jobs, contract), daemon=True).start()
    waiting: deque[Future[Any]] = deque()
    try:
        for path in paths:
            if len(waiting) == ahead:
                yield waiting.popleft()
            waiting.append(Future())
            jobs.put((path, waiting[-1]))
        while waiting:
            yield waiting.popleft()
    finally:
        for image in waiting:
            image.cancel()
        for _ in range(threads):
            jobs.put(None)


def _read(jobs: SimpleQueue[Job | None], contract: Contract) -> None:
    from keras_resnet.preprocessing import decode_image, load_image

    while (job := jobs.get()) is not None:
        path, image = job
        if image.set_running_or_notify_cancel():
            try:
                whole = isinstance(contract, WholeImage)
                image.set_result(decode_image(path) if whole else load_image(path, contract))
            except BaseException as error:  # noqa: BLE001  raised where the image is taken
                image.set_exception(error)
