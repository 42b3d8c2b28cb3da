"""A real browser, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = os.environ.get("NOVELSEG_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def browsed(address: str, width: int = 1200) -> Iterator[Any]:
    """A page, ready; its ``noted`` holds every console message, error and request."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here; NOVELSEG_CHROMIUM names one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": width, "height": 844}, accept_downloads=True)
        page.noted = []
        page.on("console", lambda message: page.noted.append(message.text))
        page.on("pageerror", lambda error: page.noted.append(str(error)))
        page.on("request", lambda request: page.noted.append(request.url))
        page.goto(address)
        page.wait_for_function("document.documentElement.dataset.ready")
        yield page
        browser.close()
