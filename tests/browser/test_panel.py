"""The whole of the panel in the newest JupyterLab."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from ..harness.processes import wait_until
from ..harness.ssh import SSHClient, make_key
from .conftest import User
from .lab import SHOWN_FOR, THEMES, UNDO_TIME, Lab

pytestmark = pytest.mark.slow
OpenLab = Callable[..., Lab]


def key_file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def named_key(folder: Path, name: str) -> str:
    return " ".join([*make_key(folder / name).public.split()[:2], name])


def test_a_key_that_was_pasted_opens_the_server_by_the_command_of_the_panel(
    lab: OpenLab, ada: User, client: Callable[..., SSHClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    it = lab(ada)
    it.barrier()
    assert it.requests == []
    loaded = it.measure_static()
    assert loaded
    assert sum(loaded.values()) < 60_000
    with capsys.disabled():
        print(f" [at Lab's start: {sum(loaded.values()) / 1000:.1f} kB (gzip) in {len(loaded)} files, no request] ", end="")

    it.open_panel()
    expect(it.headline).to_have_text("SSH is on")
    assert sorted(it.requests[:2]) == ["GET jhssh/status", "GET publickey"]
    key = make_key(tmp_path / "id")
    it.add(key.public)
    expect(it.keys).to_have_count(1)
    expect(it.message).to_have_text("1 key added.")
    expect(it.field).to_be_focused()

    gateway = ada.hub.gateway
    assert gateway is not None
    texts = it.panel.locator(".jhssh-Copy-text").all_text_contents()
    assert texts[0] == f"ssh -p {gateway.ssh_port} ada@127.0.0.1"
    assert texts[-1] == f"[127.0.0.1]:{gateway.ssh_port} {gateway.host_key}"
    answer = client(ada.hub, "ada", key=key).run("echo $JUPYTERHUB_USER in && pwd")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.decode().splitlines()[-1] == str(ada.hub.user_home("ada"))

    def sessions_are(count: int) -> None:
        wait_until(lambda: ada.hub.server_api("GET", "ada", "jhssh/status").json["sshd"]["sessions"] == count)
        it.button("Refresh").click()
        expect(it.panel.get_by_role("link", name=f"{count} open")).to_be_visible()

    with client(ada.hub, "ada", key=key).popen("cat") as running:
        sessions_are(1)
        running.kill()
    sessions_are(0)
    with it.page.context.expect_page() as opened:
        it.panel.get_by_role("link", name="0 open").click()
    expect(opened.value.get_by_role("heading", name="Open connections")).to_be_visible()


def test_keys_by_file_and_drop_and_what_is_refused(lab: OpenLab, ada: User, tmp_path: Path) -> None:
    it = lab(ada)
    it.open_panel()
    keys = [make_key(tmp_path / f"id{number}") for number in range(3)]
    files = [key_file(tmp_path, f"{number}.pub", key.public + "\n") for number, key in enumerate(keys)]

    def choose(*paths: str) -> None:
        with it.page.expect_file_chooser() as chooser:
            it.button("Choose files…").click()
        chooser.value.set_files(list(paths))

    choose(*files[:2])
    expect(it.message).to_have_text("2 keys added.")
    expect(it.keys).to_have_count(2)

    transfer = it.page.evaluate_handle(
        "text => { const t = new DataTransfer(); t.items.add(new File([text], 'id.pub')); return t; }", keys[2].public
    )
    it.page.dispatch_event(".jhssh-Add", "drop", {"dataTransfer": transfer})
    expect(it.message).to_have_text("1 key added.")
    expect(it.keys).to_have_count(3)

    it.barrier()
    sent = [each for each in it.requests if each.startswith("POST")]
    choose(files[0])
    expect(it.message).to_have_text("This key is already registered.")
    choose(str(keys[0].private))
    expect(it.message).to_contain_text("This is a private key. It was not sent")
    it.add("hello world")
    expect(it.message).to_contain_text("not a whole OpenSSH public key")
    it.add(make_key(tmp_path / "weak", "rsa", bits=1024).public)
    expect(it.message).to_contain_text("An RSA key of 1024 bits is too weak. Make a new one with: ssh-keygen -t ed25519")
    it.barrier()
    assert [each for each in it.requests if each.startswith("POST")] == sent

    # A point on no curve passes the page and not the server, whose sentence is shown.
    it.add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x")
    expect(it.message).to_have_text("The point within the key is not on its curve.")
    expect(it.field).to_have_attribute("aria-invalid", "true")
    assert it.violations() == []
    it.shot("panel-error")


def test_every_error_of_the_server_is_shown_with_its_sentence(lab: OpenLab, ada: User, tmp_path: Path) -> None:
    one, two = (named_key(tmp_path, name) for name in ("one", "two"))
    it = lab(ada, keys=(one,))
    it.open_panel()
    expect(it.keys).to_have_count(1)

    # Another page was quicker: what this one does not know yet, the server does.
    ada.register(two)
    it.add(two)
    expect(it.message).to_contain_text("already registered")
    fingerprint = ada.registered()[0]["fingerprint"]
    assert ada.hub.server_api("DELETE", "ada", f"publickey/{fingerprint}").status == 204
    it.button("Remove the key one").click()
    expect(it.panel.get_by_text("This key is not registered here.")).to_be_visible()

    user = it.panel.get_by_label("User name there")
    user.fill("no such name!")
    it.button("Import").click()
    expect(it.message).to_contain_text("user name")
    answer = {"message": "github.com can’t be reached.", "code": "UNREACHABLE"}
    it.page.route(re.compile("/jhssh/import"), lambda route: route.fulfill(status=503, json=answer))
    user.fill("alice")
    it.button("Import").click()
    expect(it.message).to_have_text("github.com can’t be reached.")

    it.page.route(re.compile("/jhssh/status"), lambda route: route.abort())
    it.button("Refresh").click()
    expect(it.panel.get_by_text("This server does not answer. Is it still running?")).to_be_visible()
    assert it.violations() == []
    it.complaints.clear()  # the browser's own, about the answers of this test


def test_removed_keys_can_be_brought_back(lab: OpenLab, ada: User, tmp_path: Path) -> None:
    it = lab(ada, keys=(named_key(tmp_path, "laptop"), named_key(tmp_path, "work")))
    before = {each["public_key"] for each in ada.registered()}
    it.open_panel()
    it.lengthen(UNDO_TIME)
    for name, left in (("laptop", 1), ("work", 0)):
        it.button(f"Remove the key {name}").press("Enter")
        expect(it.keys).to_have_count(left)
    assert ada.registered() == []
    expect(it.button("Undo the removal of work")).to_be_focused()
    it.shot("panel-undo")

    # Neither another panel nor a server that failed once takes the offer away.
    it.page.click('.jp-SideBar [data-id="filebrowser"]')
    it.open_panel()
    key_store = re.compile("/publickey")
    it.page.route(key_store, lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    it.button("Undo the removal of laptop").click()
    expect(it.panel.get_by_role("alert")).to_be_visible()
    it.page.unroute(key_store)
    for name, there in (("laptop", 1), ("work", 2)):
        it.button(f"Undo the removal of {name}").press("Enter")
        expect(it.keys).to_have_count(there)
    assert {each["public_key"] for each in ada.registered()} == before
    assert it.panel.evaluate("panel => panel.contains(document.activeElement)")
    it.complaints.clear()  # the browser's own, about the request that was aborted


def test_off_says_why_and_where_that_is_changed(lab: OpenLab, olaf: User) -> None:
    it = lab(olaf)
    it.open_panel()
    expect(it.headline).to_have_text("SSH is off")
    expect(it.panel.locator(".jhssh-Status-reason")).to_contain_text("Enable SSH access")
    link = it.panel.get_by_role("link", name="Stop and start this server")
    expect(link).to_have_attribute("href", "/hub/home")
    expect(it.panel.locator(".jhssh-Copy")).to_have_count(0)
    assert it.violations() == []
    it.shot("panel-off")
    with it.page.context.expect_page() as opened:
        link.click()
    expect(opened.value.locator("#stop")).to_be_visible()
    it.page.bring_to_front()

    it.command("SSH: Copy connect command")
    expect(it.page.get_by_text("There is no SSH command for this server")).to_be_visible()


def test_where_the_port_is_closed_the_way_is_https(lab: OpenLab, ada: User) -> None:
    it = lab(ada)
    tunnel = ada.hub.url.replace("http", "ws", 1) + "/services/ssh/tunnel"

    def with_tunnel(route: Route) -> None:
        status = route.fetch().json()
        assert status["connect"]["tunnel_url"] == ""
        status["connect"]["tunnel_url"] = tunnel
        route.fulfill(json=status)

    it.page.route(re.compile("/jhssh/status"), with_tunnel)
    it.open_panel()
    text = it.panel.inner_text()
    assert "Here SSH goes through HTTPS" in text
    assert f"jhssh login {ada.hub.url}/\n" in text
    assert f"ssh -o 'ProxyCommand=websocat --binary --no-async-stdio {tunnel}' ada@127.0.0.1" in text
    assert f"  ProxyCommand websocat --binary --no-async-stdio {tunnel}" in text
    assert "sftp ada.127.0.0.1" in text
    assert ada.hub.gateway is not None
    assert str(ada.hub.gateway.ssh_port) not in text
    expect(it.panel.get_by_role("link", name="JetBrains Gateway")).to_have_count(0)
    assert it.violations() == []


def test_copy_buttons_fill_the_clipboard(lab: OpenLab, ada: User) -> None:
    it = lab(ada)
    it.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    it.open_panel()
    it.lengthen(SHOWN_FOR)
    fields = it.panel.locator(".jhssh-Copy")
    expect(fields).to_have_count(5)
    for one in fields.all():
        button = one.get_by_role("button")
        button.click()
        expect(one.get_by_role("status")).to_have_text("Copied")
        expect(button).to_be_focused()
        assert it.clipboard() == one.locator("code").text_content()


def test_the_keyboard_suffices_and_what_was_folded_survives_a_reload(lab: OpenLab, ada: User, tmp_path: Path) -> None:
    it = lab(ada)
    page = it.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    it.command("SSH: Add public key")
    expect(it.field).to_be_focused()
    page.keyboard.insert_text(make_key(tmp_path / "id").public)
    page.keyboard.press("Tab")
    expect(it.button("Add")).to_be_focused()
    page.keyboard.press("Enter")
    expect(it.keys).to_have_count(1)
    it.command("SSH: Copy connect command")
    expect(page.get_by_text("Copied: ssh -p")).to_be_visible()
    assert it.clipboard() == it.panel.locator(".jhssh-Copy-text").first.text_content()

    # Tab alone reaches each control once, in the order in which they stand.
    wanted = it.panel.evaluate(
        "panel => [...panel.querySelectorAll('button, a, textarea, input:not([hidden]), select')]"
        ".filter(each => !each.disabled).map(each => each.getAttribute('aria-label') || each.textContent || each.id)"
    )
    it.button("Refresh").focus()
    walked = []
    for _ in wanted:
        walked.append(
            page.evaluate("(each => each.getAttribute('aria-label') || each.textContent || each.id)(document.activeElement)")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", walked[-1]
        page.keyboard.press("Tab")
    assert walked == wanted

    title = it.panel.locator("#jhssh-connect-title")
    title.focus()
    page.keyboard.press("Enter")
    expect(title).to_have_attribute("aria-expanded", "false")

    def saved() -> bool:
        workspace = ada.hub.server_api("GET", "ada", "lab/api/workspaces/default").json["data"]
        left = workspace.get("layout-restorer:data", {}).get("left", {})
        return "jhssh:folded" in workspace and left.get("current") == "jhssh-panel"

    wait_until(saved, what="Lab to save its workspace")
    it.load()
    expect(title).to_have_attribute("aria-expanded", "false")


def test_the_launcher_has_a_card_where_that_is_set(lab: OpenLab, ada: User) -> None:
    card = {"lab/user-settings/@jhssh/labextension/launcher.jupyterlab-settings": json.dumps({"launcherCard": True})}
    it = lab(ada, settings=card)
    it.page.locator('.jp-LauncherCard[title^="Keys and how to connect"]').click()
    expect(it.headline).to_be_visible()
    other = lab(ada)
    expect(other.page.locator(".jp-LauncherCard").first).to_be_visible()
    expect(other.page.locator('.jp-LauncherCard[title^="Keys and how to connect"]')).to_have_count(0)


def test_it_is_right_in_every_theme_and_width_and_accessible(lab: OpenLab, ada: User, tmp_path: Path) -> None:
    it = lab(ada, keys=(named_key(tmp_path, "ada@laptop"), named_key(tmp_path, "ada@work")), height=1180)
    it.open_panel()
    expect(it.keys).to_have_count(2)
    it.set_width(280)
    assert it.fits()
    it.shot("panel-narrow")
    it.set_width(360)
    for theme in THEMES:
        it.set_theme(theme)
        assert it.violations() == []
        assert it.fits()
        it.shot("panel-" + theme.removeprefix("JupyterLab ").lower().replace(" ", "-"))


def test_nothing_is_asked_while_it_is_hidden_and_not_often_while_it_is_seen(lab: OpenLab, ada: User) -> None:
    it = lab(ada)
    clock = it.page.clock
    clock.install()
    it.open_panel()
    expect(it.panel.locator(".jhssh-Keys")).to_be_visible()

    def asked_during(seconds: int) -> int:
        """Looks at the status while the page's clock alone goes on."""
        clock.pause_at(it.page.evaluate("Date.now() / 1000 + 20"))  # in seconds
        it.barrier()
        before = it.requests.count("GET jhssh/status")
        clock.run_for(seconds * 1000)
        it.barrier()
        count = it.requests.count("GET jhssh/status") - before
        clock.resume()
        return count

    assert asked_during(120) == 4
    it.page.click('.jp-SideBar [data-id="filebrowser"]')
    expect(it.panel).to_be_hidden()
    assert asked_during(300) == 0
    it.open_panel()
    it.page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true }); document.dispatchEvent(new Event('visibilitychange'))"
    )
    assert asked_during(300) == 0
