"""Chromium, and pages that are logged in to the Hub as a user of their own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser

from ..harness.chromium import running as chromium_running
from ..harness.hub import ROOT, Hub
from .lab import Lab, prepare_home


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if not (ROOT / "jhssh_ext/labextension/package.json").exists():
        pytest.skip("the panel is not built; `make panel` builds it")
    with chromium_running() as browser:
        yield browser


@dataclass(frozen=True)
class User:
    """Somebody whose server runs for the whole of the session, and who is logged in."""

    hub: Hub
    name: str
    cookies: dict[str, Any]

    def forget(self) -> None:
        """Keys, settings and workspaces of the test before."""
        home = self.hub.user_home(self.name)
        (home / ".ssh/jhssh_authorized_keys").unlink(missing_ok=True)
        shutil.rmtree(home / ".jupyter/lab/workspaces", ignore_errors=True)
        shutil.rmtree(home / ".jupyter/lab/user-settings", ignore_errors=True)
        prepare_home(home)

    def register(self, *lines: str) -> None:
        answer = self.hub.server_api("POST", self.name, "publickey", {"public_key": "\n".join(lines)})
        assert answer.status == 201, answer.body

    def registered(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.hub.server_api("GET", self.name, "publickey").json["keys"]
        return found


def started(hub: Hub, chromium: Browser, name: str, *, ssh: bool) -> User:
    """Starts the server and logs in."""
    config = {"LabApp": {"expose_app_in_browser": True}}
    prepare_home(hub.user_home(name), {"jupyter_server_config.json": json.dumps(config)})
    hub.start_server(name, options={"enable_ssh": ssh})
    page = chromium.new_page()
    page.goto(f"{hub.url}/hub/login")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", "any")
    page.click("#login_submit")
    page.wait_for_url(re.compile("/user/|/hub/home|/hub/spawn"))
    cookies: Any = page.context.storage_state()
    page.context.close()
    return User(hub, name, cookies)


@pytest.fixture(scope="package")
def ada(hub6: Hub, chromium: Browser) -> User:
    return started(hub6, chromium, "ada", ssh=True)


@pytest.fixture(scope="package")
def olaf(hub6: Hub, chromium: Browser) -> User:
    """SSH is off for his server."""
    return started(hub6, chromium, "olaf", ssh=False)


@pytest.fixture
def lab(chromium: Browser) -> Iterator[Callable[..., Lab]]:
    """Opens JupyterLab: ``lab(ada)``. Ours may not complain in the browser's console."""
    opened: list[Lab] = []

    def make(user: User, *, settings: dict[str, str] | None = None, keys: tuple[str, ...] = (), **window: int) -> Lab:
        user.forget()
        prepare_home(user.hub.user_home(user.name), settings)
        if keys:
            user.register(*keys)
        made = Lab.open(chromium, user.hub.server_url(user.name), cookies=user.cookies, **window)
        opened.append(made)
        made.load()
        return made

    yield make
    for each in opened:
        each.page.context.close()
        assert each.complaints == []
