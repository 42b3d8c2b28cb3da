"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """Print one line to standard error, where progress goes."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place that prints


def track(items: Iterable[T], total: int, label: str, unit: str, done: int = 0) -> Iterator[T]:
    """Pass ``items`` on and show how far the work is.

    Parameters
    ----------
    items
        What is worked on.
    total
        How many there are in all, those of an earlier run included.
    label, unit
        What is done, and the name of one item.
    done
        How many an earlier run has finished.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, unit=f" {unit}", initial=done, dynamic_ncols=True, leave=False)
        return
    start = last = time.monotonic()
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            rate = count / (now - start)
            left = (total - done - count) / rate
            say(f"{label}: {done + count}/{total} {unit}s, {rate:.3g}/s, {left:.0f} s left")
    say(f"{label}: {done + count}/{total} {unit}s in {time.monotonic() - start:.1f} s")
