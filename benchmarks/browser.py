"""A browser of its own for a page, whose messages and requests are noted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

CHROMIUM = os.environ.get("NOVELSEG_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def launched() -> Iterator[Any]:
    """Start a browser and yield it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(address: str, width: int = 1200, height: int = 844, browser: Any = None, **context: Any) -> Iterator[Any]:
    """Open a page and yield it when it is ready; its ``noted`` holds every console message, error and request.

    Parameters
    ----------
    address
        Address of a page that sets ``data-ready`` on its root.
    width, height
        Size of the window, px.
    browser
        The browser to open it in; one of its own if None.
    context
        Further options of Playwright's context, such as ``has_touch``.
    """
    with nullcontext(browser) if browser else launched() as used:
        page: Any = used.new_page(viewport={"width": width, "height": height}, accept_downloads=True, **context)
        page.noted = []
        page.on("console", lambda message: page.noted.append(message.text))
        page.on("pageerror", lambda error: page.noted.append(str(error)))
        page.on("request", lambda request: page.noted.append(request.url))
        page.goto(address)
        page.locator("html[data-ready]").wait_for(state="attached")
        yield page
        page.close()
