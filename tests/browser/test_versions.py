"""The wheel in the oldest JupyterLab and in Notebook 7: the panel is there, and its main ways work. No Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ..harness.packages import Environment
from ..harness.processes import free_port
from ..harness.ssh import make_key
from ..singleuser.servers import TOKEN, Credentials, jupyter_server
from .lab import SHOWN_FOR, Lab, prepare_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a busy machine takes minutes to install JupyterLab

# what is installed, what python -m runs, its page, the name of its screenshot
FRONT_ENDS = [
    pytest.param(("jupyterlab==4.2.*", "jupyterlab", "lab", "lab-4.2"), id="JupyterLab 4.2"),
    pytest.param(("notebook==7.6.*", "notebook", "tree", "notebook-7"), id="Notebook 7"),
]


@pytest.fixture
def front_end(
    request: pytest.FixtureRequest, installed: Callable[[str], Environment], chromium: Browser, tmp_path: Path
) -> Iterator[tuple[Lab, str]]:
    package, module, page, name = request.param
    environment = installed(package)
    (tmp_path / "home").mkdir()
    prepare_home(tmp_path / "home")
    given = Credentials.make(tmp_path / "credentials").environment(free_port())
    with jupyter_server(tmp_path, given, python=environment.python, module=module) as server:
        server.wait_for_sshd()
        lab = Lab.open(chromium, f"http://127.0.0.1:{server.port}/base/", width=1100, height=900)
        lab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        lab.page.goto(f"{lab.url}{page}?token={TOKEN}")
        lab.page.wait_for_selector(".jp-LauncherCard, .jp-FileBrowser")
        yield lab, name
        lab.page.context.close()
        assert lab.complaints == []


@pytest.mark.parametrize("front_end", FRONT_ENDS, indirect=True)
def test_the_panel_is_shown_keys_come_and_go_and_commands_are_copied(front_end: tuple[Lab, str], tmp_path: Path) -> None:
    it, name = front_end
    # The way that both have: Notebook has no icons at its side.
    it.command("SSH: Show panel")
    expect(it.headline).to_have_text("SSH is on")
    expect(it.panel.get_by_text("0 open")).to_be_visible()

    it.add(make_key(tmp_path / "id").public)
    expect(it.message).to_have_text("1 key added.")
    expect(it.keys).to_have_count(1)
    it.lengthen(SHOWN_FOR)
    it.panel.get_by_role("button", name="Copy: Command").click()
    expect(it.panel.get_by_role("status").filter(has_text="Copied")).to_have_count(1)
    assert it.clipboard() == "ssh -p 2222 alice@hub.example.org"
    assert it.violations() == []
    assert it.fits()
    it.panel.evaluate("panel => panel.scrollTo(0, 0)")
    it.shot(name)

    it.panel.get_by_role("button", name="Remove the key").click()
    expect(it.keys).to_have_count(0)
    it.panel.get_by_role("button", name="Undo the removal").click()
    expect(it.keys).to_have_count(1)
