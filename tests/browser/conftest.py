"""Chromium, and pages that are logged in to the Hub as a user of their own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, TimeoutError, sync_playwright

from ..harness.hub import ROOT, Hub

SHOTS = ROOT / "screenshots"
ICON = '.jp-SideBar [data-id="jhssh-panel"]'


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    if not (ROOT / "jhssh_ext/labextension/package.json").exists():
        pytest.skip("the panel is not built; `make panel` builds it")
    arguments = ["--disable-gpu", "--disable-dev-shm-usage", *([] if os.geteuid() else ["--no-sandbox"])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@dataclass
class Lab:
    """JupyterLab of one user, in one window."""

    hub: Hub
    user: str
    page: Page
    requests: list[str] = field(default_factory=list)
    """paths of our own REST API that were asked, in order"""

    @property
    def panel(self) -> object:
        return self.page.locator("#jhssh-panel")

    def note(self, request: Request) -> None:
        if re.search(r"/(publickey|jhssh/)", request.url):
            self.requests.append(f"{request.method} {request.url.partition('/user/')[2].partition('?')[0]}")

    def load(self, path: str = "lab") -> None:
        self.page.goto(self.hub.server_url(self.user) + path)
        self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
        self.page.wait_for_selector(ICON, timeout=60_000)

    def open_panel(self) -> None:
        """Shows the panel and waits for the server's first answer."""
        self.page.click(ICON)
        self.page.wait_for_selector("#jhssh-panel .jhssh-Status")

    def command(self, label: str) -> None:
        """By the palette, with the keyboard."""
        self.page.evaluate("window.jupyterapp.commands.execute('apputils:activate-command-palette')")
        self.page.locator(".lm-CommandPalette-input").wait_for()
        item = self.page.locator(".lm-CommandPalette-item").filter(has_text=label).first
        for _ in range(10):  # the palette empties its field when it opens
            self.page.locator(".lm-CommandPalette-input").fill("")
            self.page.locator(".lm-CommandPalette-input").fill(label)
            with contextlib.suppress(TimeoutError):
                item.wait_for(timeout=2000)
                break
        self.page.keyboard.press("ArrowDown")
        self.page.keyboard.press("Enter")

    def shot(self, name: str) -> None:
        SHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture
def lab(hub6: Hub, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Opens JupyterLab for a new user: ``lab("alice")``; ``on=False``: with SSH off."""
    contexts = []

    def make(user: str, *, on: bool = True, width: int = 1280, height: int = 1000) -> Lab:
        settings = hub6.user_home(user) / ".jupyter" / "jupyter_server_config.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text('{"LabApp": {"expose_app_in_browser": true}}')
        news = settings.parent / "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
        news.parent.mkdir(parents=True, exist_ok=True)
        news.write_text('{"fetchNews": "false"}')
        hub6.start_server(user, options={"enable_ssh": on})
        context = chromium.new_context(viewport={"width": width, "height": height}, locale="en-US")
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.goto(f"{hub6.url}/hub/login")
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", "any")
        page.click("#login_submit")
        page.wait_for_url(re.compile("/user/|/hub/home|/hub/spawn"))
        made = Lab(hub6, user, page)
        page.on("request", made.note)
        made.load()
        return made

    yield make
    for context in contexts:
        context.close()


def key_file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)
