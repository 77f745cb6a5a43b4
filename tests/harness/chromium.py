"""A real Chromium, and windows of it in which a user is logged in to the Hub."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from .hub import ROOT, Hub

SHOTS = ROOT / "screenshots"
PATIENCE = 60_000
"""Milliseconds a window may take for one step: what waits for something is to fail only where it never comes."""


@contextmanager
def running() -> Iterator[Browser]:
    """For fixtures of a package's scope, not longer: while it runs, no test of pytest-asyncio can."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    arguments = ["--disable-gpu", "--disable-dev-shm-usage", *([] if os.geteuid() else ["--no-sandbox"])]
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def log_in(browser: Browser, hub: Hub, user: str, **options: Any) -> Page:
    """A window of a profile of its own; ``options`` as Browser.new_context takes them. The caller closes ``page.context``."""
    context: BrowserContext = browser.new_context(locale="en-US", **options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Ftoken")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", "any")
    page.click("#login_submit")
    page.wait_for_url(re.compile("/hub/token"))
    return page


def shoot(page: Page, name: str) -> None:
    """The whole page in both themes, for a person to look at. Of a page that is about to go Chromium makes none, and hangs: the
    caller waits for something on it first.
    """
    SHOTS.mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.screenshot(path=SHOTS / f"{name}-{theme}.png", full_page=True)
