from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from ..harness.ssh import SSHClient, make_key
from .conftest import Lab, key_file

pytestmark = pytest.mark.slow
OpenLab = Callable[..., Lab]


def set_theme(lab: Lab, theme: str) -> None:
    lab.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    light = "false" if "Dark" in theme else "true"
    lab.page.wait_for_selector(f'body[data-jp-theme-name="{theme}"][data-jp-theme-light="{light}"]', state="attached")


def violations(lab: Lab) -> list[str]:
    """What axe-core finds wrong in the panel."""
    found = Axe().run(lab.page, context="#jhssh-panel").response["violations"]
    return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]


def test_a_key_that_was_pasted_opens_the_server_by_the_command_of_the_panel(
    lab: OpenLab, client: Callable[..., SSHClient], tmp_path: Path
) -> None:
    it = lab("panel-paste")
    page = it.page
    assert it.requests == []
    it.open_panel()
    expect(page.locator(".jhssh-Status-headline")).to_have_text("SSH is on")
    assert sorted(it.requests[:2]) == ["GET panel-paste/jhssh/status", "GET panel-paste/publickey"]
    key = make_key(tmp_path / "id")
    page.fill("#jhssh-key-text", key.public)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".jhssh-Key .jhssh-Fingerprint")).to_have_count(1)
    expect(page.locator("#jhssh-add-message")).to_have_text("1 key added.")

    gateway = it.hub.gateway
    assert gateway is not None
    texts = page.locator(".jhssh-Copy-text").all_text_contents()
    assert texts[0] == f"ssh -p {gateway.ssh_port} panel-paste@127.0.0.1"
    assert texts[-1] == f"[127.0.0.1]:{gateway.ssh_port} {gateway.host_key}"
    answer = client(it.hub, "panel-paste", key=key).run("echo $JUPYTERHUB_USER in && pwd")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.decode().splitlines()[-1] == str(it.hub.user_home("panel-paste"))


def test_keys_by_file_and_drop_and_what_is_refused(lab: OpenLab, tmp_path: Path) -> None:
    it = lab("panel-files")
    page = it.page
    it.open_panel()
    keys = [make_key(tmp_path / f"id{number}") for number in range(3)]
    files = [key_file(tmp_path, f"{number}.pub", key.public + "\n") for number, key in enumerate(keys)]
    rows = page.locator(".jhssh-Key")
    message = page.locator("#jhssh-add-message")

    page.set_input_files("#jhssh-panel input[type=file]", files[:2])
    expect(message).to_have_text("2 keys added.")
    expect(rows).to_have_count(2)

    transfer = page.evaluate_handle(
        "text => { const t = new DataTransfer(); t.items.add(new File([text], 'id.pub')); return t; }", keys[2].public
    )
    page.dispatch_event(".jhssh-Add", "drop", {"dataTransfer": transfer})
    expect(rows).to_have_count(3)

    sent = len([each for each in it.requests if each.startswith("POST")])
    page.set_input_files("#jhssh-panel input[type=file]", files[0])
    expect(message).to_have_text("This key is already registered.")
    page.set_input_files("#jhssh-panel input[type=file]", str(keys[0].private))
    expect(message).to_contain_text("This is a private key. It was not sent")
    page.fill("#jhssh-key-text", "hello world")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(message).to_contain_text("not a whole OpenSSH public key")
    assert len([each for each in it.requests if each.startswith("POST")]) == sent

    # A point on no curve passes the page and not the server, whose sentence is shown.
    page.fill("#jhssh-key-text", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(message).to_have_text("The point within the key is not on its curve.")
    expect(page.locator("#jhssh-key-text")).to_have_attribute("aria-invalid", "true")
    assert violations(it) == []
    it.shot("panel-error")


def test_a_removed_key_can_be_brought_back(lab: OpenLab, tmp_path: Path) -> None:
    it = lab("panel-undo")
    page = it.page
    key = make_key(tmp_path / "id")
    assert it.hub.server_api("POST", "panel-undo", "publickey", {"public_key": key.public}).status == 201
    it.open_panel()
    rows = page.locator(".jhssh-Key")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Remove the key").click()
    expect(rows).to_have_count(0)
    assert it.hub.server_api("GET", "panel-undo", "publickey").json["keys"] == []
    it.shot("panel-undo")
    page.get_by_role("button", name="Undo").click()
    expect(rows).to_have_count(1)
    assert len(it.hub.server_api("GET", "panel-undo", "publickey").json["keys"]) == 1


def test_off_says_why_and_where_that_is_changed(lab: OpenLab) -> None:
    it = lab("panel-off", on=False)
    it.open_panel()
    expect(it.page.locator(".jhssh-Status-headline")).to_have_text("SSH is off")
    expect(it.page.locator(".jhssh-Status-reason")).to_contain_text("Enable SSH access")
    link = it.page.get_by_role("link", name="Stop and start this server")
    expect(link).to_have_attribute("href", "/hub/home")
    expect(it.page.locator(".jhssh-Copy")).to_have_count(0)
    assert violations(it) == []
    it.shot("panel-off")


def test_the_palette_and_the_keyboard_suffice_and_folding_survives_a_reload(lab: OpenLab, tmp_path: Path) -> None:
    it = lab("panel-keyboard")
    page = it.page
    it.command("SSH: Add public key")
    expect(page.locator("#jhssh-key-text")).to_be_focused()
    page.keyboard.insert_text(make_key(tmp_path / "id").public)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".jhssh-Key")).to_have_count(1)
    it.command("SSH: Copy connect command")
    expect(page.get_by_text("Copied: ssh -p")).to_be_visible()

    title = page.locator("#jhssh-connect-title")
    title.focus()
    page.keyboard.press("Enter")
    expect(title).to_have_attribute("aria-expanded", "false")
    page.wait_for_timeout(1500)  # Lab saves its workspace a second after the last change
    it.load()
    expect(page.locator("#jhssh-panel")).to_be_visible()
    expect(title).to_have_attribute("aria-expanded", "false")


def test_it_is_right_in_every_theme_and_accessible(lab: OpenLab, tmp_path: Path) -> None:
    it = lab("alice", height=1180)
    page = it.page
    for name in ("alice@laptop", "alice@work"):
        key = make_key(tmp_path / name).public.split()
        assert it.hub.server_api("POST", "alice", "publickey", {"public_key": f"{key[0]} {key[1]} {name}"}).status == 201
    it.open_panel()
    expect(page.locator(".jhssh-Key")).to_have_count(2)
    width = page.locator("#jhssh-panel").bounding_box()["width"]  # type: ignore[index]
    assert width < 280
    assert violations(it) == []
    assert page.evaluate("(panel => panel.scrollWidth <= panel.clientWidth)(document.getElementById('jhssh-panel'))")
    page.mouse.move(284, 500)
    page.mouse.down()
    page.mouse.move(384, 500, steps=4)
    page.mouse.up()
    for theme in ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"):
        set_theme(it, theme)
        assert violations(it) == []
        it.shot("panel-" + theme.removeprefix("JupyterLab ").lower().replace(" ", "-"))


def test_nothing_is_asked_while_it_is_hidden_and_not_often_while_it_is_seen(lab: OpenLab) -> None:
    it = lab("panel-quiet")
    page = it.page
    page.clock.install()
    it.open_panel()
    page.clock.run_for(14_000)
    assert len(it.requests) == 2
    page.clock.run_for(20_000)
    page.wait_for_timeout(300)
    assert len(it.requests) == 4
    page.click('.jp-SideBar [data-id="filebrowser"]')
    page.clock.run_for(120_000)
    page.wait_for_timeout(300)
    assert len(it.requests) == 4
