"""One image, one core: work on single images runs side by side in processes, never in threads."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
from threadpoolctl import threadpool_limits

from stages.core.progress import track

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


def _start_worker() -> None:
    cv2.setNumThreads(1)
    threadpool_limits(1)


def side_by_side(work: Callable[[T], R], items: list[T], workers: int, label: str, unit: str) -> Iterator[R]:
    """Apply a function to every item in processes, in order, and show progress.

    Parameters
    ----------
    work
        A function at the top of a module.
    items
        Its arguments.
    workers
        Number of processes; 0 for one a core.
    label, unit
        As in ``track``.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), context, _start_worker) as pool:
        yield from track(pool.map(work, items, chunksize=4), len(items), label, unit)
