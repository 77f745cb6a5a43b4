"""One window with JupyterLab or Notebook, and what the tests do in it. Everything waits for conditions, never for time."""

from __future__ import annotations

import contextlib
import gzip
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, TimeoutError, expect

from ..harness.chromium import PATIENCE, SHOTS
from ..harness.hub import ROOT
from ..harness.processes import wait_until

ICON = '.jp-SideBar [data-id="jhssh-panel"]'
SHOWN_FOR, UNDO_TIME = 2_000, 20_000
"""milliseconds: how long a copied text is said to be (copyField.tsx), and a removed key can be brought back (model.ts)"""
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
NEWS = "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"


def prepare_home(home: Path, settings: dict[str, str] | None = None) -> None:
    """Before a server starts: Lab asks nothing of its user. ``settings``: plugin → its user settings."""
    folder = home / ".jupyter"
    for name, text in {NEWS: '{"fetchNews": "false", "checkForUpdates": false}', **(settings or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@dataclass
class Lab:
    """``url``: the base URL of the user server, with a slash at its end."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    """method and path of what our own REST API was asked, in order"""
    complaints: list[str] = field(default_factory=list)
    """errors in the browser's console that name us"""
    static: dict[str, int] = field(default_factory=dict)
    """our static files that were loaded → their size, compressed"""

    @classmethod
    def open(cls, chromium: Browser, url: str, *, cookies: Any = None, width: int = 1280, height: int = 1000) -> Lab:
        context = chromium.new_context(viewport={"width": width, "height": height}, locale="en-US", storage_state=cookies)
        context.set_default_timeout(PATIENCE)
        made = cls(context.new_page(), url)
        made.page.on("request", made._note_request)
        made.page.on("response", made._note_response)
        made.page.on("console", made._note_complaint)
        return made

    def _note_request(self, request: Request) -> None:
        path = request.url.removeprefix(self.url).partition("?")[0]
        if re.match(r"publickey|jhssh/", path):
            self.requests.append(f"{request.method} {path}")

    def _note_response(self, response: Response) -> None:
        if "/@jhssh/labextension/static/" in response.url:
            name = response.url.partition("?")[0].rpartition("/")[2]
            self.static[name] = 0

    def _note_complaint(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "jhssh" in message.text:
            self.complaints.append(message.text)

    def measure_static(self) -> dict[str, int]:
        """What of ours was loaded so far, each file's size as gzip makes it."""
        for name in self.static:
            self.static[name] = len(gzip.compress((ROOT / "jhssh_ext/labextension/static" / name).read_bytes()))
        return self.static

    def load(self, path: str = "lab") -> None:
        self.page.goto(self.url + path)
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")
        self.page.wait_for_selector(ICON)
        self.page.wait_for_selector(".jp-LauncherCard")

    def open_panel(self) -> None:
        """Shows the panel and waits for the server's first answer."""
        self.page.click(ICON)
        expect(self.headline).to_be_visible()

    @property
    def panel(self) -> Locator:
        return self.page.locator("#jhssh-panel")

    @property
    def headline(self) -> Locator:
        return self.panel.locator(".jhssh-Status-headline")

    @property
    def keys(self) -> Locator:
        return self.panel.locator(".jhssh-Key")

    @property
    def field(self) -> Locator:
        return self.panel.locator("#jhssh-key-text")

    @property
    def message(self) -> Locator:
        return self.panel.locator("#jhssh-add-message")

    def button(self, name: str) -> Locator:
        return self.panel.get_by_role("button", name=name, exact=True)

    def add(self, *lines: str) -> None:
        """By typing, and by the button."""
        self.field.fill("\n".join(lines))
        self.button("Add").click()

    def lengthen(self, milliseconds: int) -> None:
        """Timers of that length take ten minutes from now on: on a busy machine nobody would see what they end."""
        self.page.evaluate(
            "given => { const real = window.setTimeout;"
            " window.setTimeout = (act, after, ...rest) => real(act, after === given ? 600000 : after, ...rest); }",
            milliseconds,
        )

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        self.page.evaluate("([command, args]) => window.jupyterapp.commands.execute(command, args)", [command, arguments or {}])

    def command(self, label: str) -> None:
        """From the palette, with the keyboard. Lab closes the palette when any command ends: then it is opened again."""
        box = self.page.locator(".lm-CommandPalette-input")
        active = self.page.locator(".lm-CommandPalette-item.lm-mod-active")
        deadline = time.monotonic() + 60
        while not (box.is_visible() and box.input_value() == label and label in "".join(active.all_text_contents())):
            assert time.monotonic() < deadline, f"the palette does not offer {label}"
            if not box.is_visible():
                self.page.keyboard.press("Control+Shift+C")
            elif box.input_value() != label:
                with contextlib.suppress(TimeoutError):  # closed just now
                    box.fill(label, timeout=500)
            elif active.count() == 0 and self.page.locator(".lm-CommandPalette-item").first.is_visible():
                self.page.keyboard.press("ArrowDown")
            self.page.wait_for_timeout(100)
        self.page.keyboard.press("Enter")

    def set_theme(self, theme: str) -> None:
        self.execute("apputils:change-theme", {"theme": theme})
        light = "false" if "Dark" in theme else "true"
        self.page.wait_for_selector(f'body[data-jp-theme-name="{theme}"][data-jp-theme-light="{light}"]', state="attached")
        self.page.evaluate("document.fonts.ready")

    def set_width(self, pixels: int) -> None:
        """Of the panel, by the handle beside it; as near as Lab lets it."""
        handle = self.page.locator("#jp-main-split-panel > .lm-SplitPanel-handle").first
        box, panel = handle.bounding_box(), self.panel.bounding_box()
        assert box is not None
        assert panel is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + 300
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + pixels - panel["width"], y, steps=5)
        self.page.mouse.up()
        wait_until(lambda: abs(self.width() - pixels) <= 3, what=f"a width of {pixels}; it is {self.width()}")

    def width(self) -> float:
        box = self.panel.bounding_box()
        assert box is not None
        return box["width"]

    def fits(self) -> bool:
        """Is nothing cut off at the side."""
        found: bool = self.panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
        return found

    def violations(self) -> list[str]:
        """What axe-core finds wrong in the panel."""
        found = Axe().run(self.page, context="#jhssh-panel").response["violations"]
        return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]

    def clipboard(self) -> str:
        found: str = self.page.evaluate("navigator.clipboard.readText()")
        return found

    def barrier(self) -> None:
        """All requests that the page began before this have been noted."""
        self.page.evaluate("url => fetch(url).then(answer => answer.text())", self.url + "api")

    def shot(self, name: str) -> None:
        SHOTS.mkdir(exist_ok=True)
        self.page.mouse.move(700, 5)
        self.page.screenshot(path=SHOTS / f"{name}.png")
