"""One image, one core: work on single images runs side by side in processes; only decoding runs ahead in threads."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import cv2
from threadpoolctl import threadpool_limits

from stages.core.errors import InputError
from stages.core.progress import track

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 8  # images or batches that are decoded ahead


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV and the linear algebra libraries to one thread: one order of summation, the same bytes everywhere."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def _alone(work: Callable[[T], R], item: T) -> R:
    """Do the work on one thread; libraries that it has brought in are held too."""
    with one_thread():
        return work(item)


def ahead(work: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """Apply a function in order, ``count`` items ahead of who asks, in threads; for decoding, beside a computation."""
    if count == 0:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(count) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # who asks may have stopped
            for future in waiting:
                future.cancel()


class Workers:
    """Processes that apply functions to single images side by side; with one, everything happens here.

    Parameters
    ----------
    count
        Number of processes; 0 for one a core.
    """

    def __init__(self, count: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if count < 0:
            raise InputError(f"--workers is {count}; expected a number of processes, or 0 for one a core")
        if count != 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(count or os.cpu_count(), context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[T], R], items: list[T], label: str, unit: str) -> Iterator[R]:
        """Apply a function at the top of a module to every item, in order, and show progress."""
        held = partial(_alone, work)
        results = self._pool.map(held, items, chunksize=4) if self._pool else map(held, items)
        yield from track(results, len(items), label, unit)
