"""A real browser, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.browser import CHROMIUM, opened


@contextmanager
def browsed(address: str, width: int = 1200, **context: Any) -> Iterator[Any]:
    """A page, ready (`benchmarks.browser.opened`), or skip."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here; NOVELSEG_CHROMIUM names one")
    with opened(address, width, **context) as page:
        yield page
