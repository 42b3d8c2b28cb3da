"""Progress reports with rate and time left: a bar on a terminal, lines of text elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_EVERY_S = 10.0
MB = 1e6


def say(text: str) -> None:
    """Print one line to standard error, where progress goes."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the only place that prints messages


def track(items: Iterable[T], total: int, label: str, unit: str, done: int = 0) -> Iterator[T]:
    """Yield the items and report progress.

    Parameters
    ----------
    items
        Items to process.
    total
        Number of all items, including those that an earlier run processed.
    label, unit
        Name of the task, and the singular name of an item.
    done
        Number of items that an earlier run processed.
    """
    return _tracked(items, lambda _: 1, total, label, f"{unit}s", done)


def track_bytes(chunks: Iterable[bytes], total: int | None, label: str, done: int = 0) -> Iterator[bytes]:
    """Yield chunks of data and report progress; ``total`` (None if unknown) and ``done`` are in bytes."""
    return _tracked(chunks, lambda chunk: len(chunk) / MB, (total or 0) / MB, label, "MB", done / MB)


def _tracked(
    items: Iterable[T], size: Callable[[T], float], total: float, label: str, unit: str, done: float
) -> Iterator[T]:
    total_text = f"/{total:.0f}" if total else ""
    if sys.stderr.isatty():
        counter = f"{{n:.0f}}{total_text} {unit}"
        bar = f"{{desc}}: {{percentage:3.0f}}%|{{bar}}| {counter} [{{elapsed}}<{{remaining}}, {{rate_fmt}}]"
        options = {"bar_format": bar, "unit": f" {unit}", "dynamic_ncols": True, "leave": False}
        with tqdm(desc=label, total=total or None, initial=done, **options) as progress:  # type: ignore[call-overload]
            for item in items:
                yield item
                progress.update(size(item))
        return
    start = last = time.monotonic()
    count = 0.0
    for item in items:
        yield item
        count += size(item)
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            rate = count / (now - start)
            left = f", {(total - done - count) / rate:.0f} s left" if total and rate else ""
            say(f"{label}: {done + count:.0f}{total_text} {unit}, {rate:.3g}/s{left}")
    say(f"{label}: {done + count:.0f}{total_text} {unit} in {time.monotonic() - start:.1f} s")
