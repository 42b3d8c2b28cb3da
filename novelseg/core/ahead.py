"""Decoding ahead of a computation, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 8  # images or batches that are decoded ahead


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
