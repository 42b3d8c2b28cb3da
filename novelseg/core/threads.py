"""Parallel work on single images: one process per core, one thread per process."""

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
    """Limit OpenCV and the linear algebra libraries to one thread.

    Sums are then computed in a fixed order, so that results do not depend on the number of cores.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def _single_threaded(work: Callable[[T], R], item: T) -> R:
    """Apply a function on one thread; this limits the libraries that its module has imported."""
    with one_thread():
        return work(item)


class Workers:
    """Pool of processes that apply functions to single images; a pool of one uses the calling process.

    Parameters
    ----------
    count
        Number of processes; 0 for one per core.

    Raises
    ------
    InputError
        If the number is negative.
    """

    def __init__(self, count: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if count < 0:
            raise InputError(f"--workers is {count}; expected a number of processes, or 0 for one per core")
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
        """Apply a module-level function to every item, yield the results in order, and report progress."""
        limited_work = partial(_single_threaded, work)
        results = self._pool.map(limited_work, items, chunksize=4) if self._pool else map(limited_work, items)
        yield from track(results, len(items), label, unit)
