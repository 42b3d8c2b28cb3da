"""A browser of its own for a page, whose messages and requests are noted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = os.environ.get("NOVELSEG_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def opened(address: str, width: int = 1200, height: int = 844, **context: Any) -> Iterator[Any]:
    """Open a page and yield it when it is ready; its ``noted`` holds every console message, error and request.

    Parameters
    ----------
    address
        Address of a page that sets ``data-ready`` on its root.
    width, height
        Size of the window, px.
    context
        Further options of Playwright's context, such as ``has_touch``.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True, **context)
        page.noted = []
        page.on("console", lambda message: page.noted.append(message.text))
        page.on("pageerror", lambda error: page.noted.append(str(error)))
        page.on("request", lambda request: page.noted.append(request.url))
        page.goto(address)
        page.locator("html[data-ready]").wait_for(state="attached")
        yield page
        browser.close()
