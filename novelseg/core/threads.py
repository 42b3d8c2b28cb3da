"""One image, one core: work on single images runs side by side in processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import cv2
from threadpoolctl import threadpool_limits

from novelseg.core.errors import InputError
from novelseg.core.progress import track

T = TypeVar("T")
R = TypeVar("R")


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
