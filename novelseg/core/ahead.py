"""Prefetching in threads, such as decoding images beside a computation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 8  # images or batches decoded in advance


def ahead(work: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """Apply a function to items in order, in threads that work up to ``count`` items ahead of the consumer.

    With a count of 0, each item is computed in the consumer's own thread when it is needed.
    """
    if count == 0:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(count) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # the consumer may have stopped early
            for future in pending:
                future.cancel()
