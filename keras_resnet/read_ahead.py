"""Reading from a slow place in threads, while the caller works on earlier results."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Place = TypeVar("Place")
Item = TypeVar("Item")


def read_ahead(places: Sequence[Place], read: Callable[[Place], Item], ahead: int) -> Iterator[Future[Item]]:
    """Items, function that reads one -> results in order. Threads read up to `ahead` items that nobody took yet."""
    # Python waits at exit for the threads of an executor, so that Ctrl-C would hang on a slow file. These are daemons.
    jobs: SimpleQueue[tuple[Place, Future[Item]] | None] = SimpleQueue()
    threads = min(os.cpu_count() or 1, ahead, len(places))
    for _ in range(threads):
        Thread(target=_work, args=(jobs, read), daemon=True).start()
    waiting: deque[Future[Item]] = deque()
    try:
        for place in places:
            if len(waiting) == ahead:
                yield waiting.popleft()
            waiting.append(Future())
            jobs.put((place, waiting[-1]))
        while waiting:
            yield waiting.popleft()
    finally:
        for result in waiting:
            result.cancel()
        for _ in range(threads):
            jobs.put(None)


def _work(jobs: SimpleQueue[tuple[Place, Future[Item]] | None], read: Callable[[Place], Item]) -> None:
    while (job := jobs.get()) is not None:
        place, result = job
        if result.set_running_or_notify_cancel():
            try:
                result.set_result(read(place))
            except BaseException as error:  # noqa: BLE001  raised again where the result is taken
                result.set_exception(error)
