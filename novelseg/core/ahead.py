"""Prefetching in threads, for example decoding images during a computation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 8  # images or batches decoded in advance


def ahead(work: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """Yield a function's results for items in order, computed by threads up to ``count`` items in advance.

    With a count of 0, each result is computed in the consumer's thread when it is requested.
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
        finally:  # the consumer may stop early
            for future in pending:
                future.cancel()
