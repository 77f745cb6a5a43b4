"""The page as people use it: a real Chromium, a real Hub, OpenSSH's client."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from jhssh_ext.public_keys import parse_line

from ..conftest import register_key
from ..harness.chromium import shoot
from ..harness.hub import Hub
from ..harness.processes import stop_child, wait_until
from ..harness.ssh import KeyPair, SSHClient
from .conftest import ADMIN, SUPPORT, ssh_page

pytestmark = pytest.mark.slow

Window = Callable[..., Page]
Client = Callable[..., SSHClient]


def add_key(page: Page, text: str) -> None:
    page.get_by_label("Add a public key").fill(text)
    page.get_by_role("button", name="Add key").click()


def connected(client: SSHClient) -> subprocess.Popen[bytes]:
    """A connection that stays."""
    ssh = client.popen("echo in; exec cat")
    assert ssh.stdout is not None
    assert ssh.stdout.readline() == b"in\n"
    return ssh


def said_when_ended(ssh: subprocess.Popen[bytes]) -> str:
    """What ssh wrote to stderr when its connection was ended, within a few seconds."""
    try:
        _, said = ssh.communicate(timeout=20)
    finally:
        stop_child(ssh)
    assert ssh.returncode == 255
    return said.decode()


def test_a_key_of_the_page_opens_a_stopped_server_and_its_removal_ends_the_connection(
    hub: Hub, window: Window, client: Client, keys: list[KeyPair]
) -> None:
    page = window("page-alice")
    page.goto(ssh_page(hub))
    expect(page.get_by_role("cell", name="stopped")).to_be_visible()
    add_key(page, keys[0].public)
    expect(page.get_by_role("status")).to_contain_text("The key was added")
    expect(page.get_by_text("id_0@test")).to_be_visible()
    expect(page.get_by_role("cell", name="never")).to_be_visible()
    ssh = connected(client(hub, "page-alice", key=keys[0]))
    page.goto(ssh_page(hub))
    expect(page.get_by_role("cell", name="running")).to_be_visible()
    expect(page.get_by_text("from 127.0.0.1")).to_be_visible()
    connection = page.get_by_role("row").filter(has=page.get_by_role("button", name="Disconnect"))
    expect(connection).to_contain_text("default server")
    expect(connection).to_contain_text("key SHA256:")
    shoot(page, "ssh-page")
    page.get_by_role("button", name="Remove key id_0@test").click()
    expect(page.get_by_role("status")).to_contain_text("The key was removed")
    assert "CONNECTION_ENDED" in said_when_ended(ssh)
    assert client(hub, "page-alice", key=keys[0]).run("true").returncode == 255
    page.reload()
    expect(page.get_by_role("button", name="Disconnect")).to_have_count(0)


def test_a_connection_is_ended_from_the_page(hub: Hub, window: Window, client: Client, keys: list[KeyPair]) -> None:
    page, ssh = window("page-amy"), connected(client(hub, "page-amy", password=hub.token("page-amy")))
    page.goto(ssh_page(hub))
    expect(page.get_by_text("a token", exact=True)).to_be_visible()
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("status")).to_contain_text("is being ended")
    assert "CONNECTION_ENDED" in said_when_ended(ssh)
    register_key(hub, "page-amy", keys[1])
    assert client(hub, "page-amy", key=keys[1]).run("true").returncode == 0
    page.goto(ssh_page(hub))
    row = page.get_by_role("row").filter(has_text="on that server")
    expect(row).to_contain_text("SHA256:")
    expect(row).to_contain_text("from 127.0.0.1")


def test_what_is_no_key_is_said_beside_the_field_and_a_private_key_is_not_sent_back(
    hub: Hub, window: Window, keys: list[KeyPair]
) -> None:
    page = window("page-anna")
    page.goto(ssh_page(hub))
    add_key(page, "nonsense")
    field = page.get_by_label("Add a public key")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("nonsense")
    expect(page.get_by_role("alert")).to_contain_text("Paste the one line")
    shoot(page, "ssh-page-problem")
    add_key(page, keys[0].private.read_text())
    expect(page.get_by_role("alert")).to_contain_text("This is a private key")
    expect(field).to_have_value("")
    add_key(page, keys[0].public)
    expect(page.get_by_role("status")).to_be_visible()
    add_key(page, keys[0].public)
    expect(page.get_by_role("alert")).to_contain_text("already registered")


def test_a_form_that_was_sent_is_not_taken_again(hub: Hub, window: Window, keys: list[KeyPair]) -> None:
    page = window("page-adam")
    page.goto(ssh_page(hub))
    nonce = page.locator("form[action$='keys/add'] [data-key]")
    key = nonce.get_attribute("data-key")
    add_key(page, keys[0].public)
    expect(page.get_by_role("status")).to_be_visible()
    nonce.evaluate("(field, old) => field.value = old", key)
    add_key(page, keys[1].public)
    expect(page.get_by_role("alert")).to_contain_text("sent already")
    page.goto(ssh_page(hub))
    expect(page.get_by_text("id_0@test")).to_be_visible()


def test_what_is_filled_in_arrives_as_it_is(hub: Hub, window: Window, keys: list[KeyPair]) -> None:
    page = window("page-alba")
    page.goto(ssh_page(hub))
    add_key(page, f'\n# one\n{keys[0].public} ü €"\\ 😀\n\n{keys[1].public}')
    expect(page.get_by_role("status")).to_contain_text("The key was added")
    expect(page.get_by_text('ü €"\\ 😀')).to_be_visible()
    expect(page.get_by_role("button", name="Remove key")).to_have_count(2)


def test_back_and_reload_show_the_page_anew(hub: Hub, window: Window, keys: list[KeyPair]) -> None:
    page = window("page-alva")
    page.goto(f"{hub.url}/hub/home")
    page.goto(ssh_page(hub))
    add_key(page, keys[0].public)
    expect(page.get_by_text("id_0@test")).to_be_visible()
    page.reload()
    expect(page.get_by_text("id_0@test")).to_be_visible()
    page.get_by_role("link", name="Token", exact=True).click()
    page.wait_for_url("**/hub/token")
    page.go_back()
    expect(page.get_by_text("id_0@test")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Add a public key")).to_be_visible()
    page.go_back()
    page.wait_for_url("**/hub/home")


def test_a_page_that_comes_up_under_the_pointer_takes_no_click_at_once(hub: Hub, window: Window, keys: list[KeyPair]) -> None:
    page = window("page-alix")
    page.goto(ssh_page(hub))
    add_key(page, keys[0].public)
    button = page.get_by_role("button", name="Remove key")
    taken = button.evaluate("""async button => {
      const takes = () => {
        button.scrollIntoView({block: "center"});
        const {x, y, width, height} = button.getBoundingClientRect();
        return button.contains(document.elementFromPoint(x + width / 2, y + height / 2));
      };
      const later = milliseconds => new Promise(done => setTimeout(done, milliseconds));
      const until = async () => { for (let i = 0; i < 300 && !takes(); i++) await later(100); return takes(); };
      const seen = [await until()];
      const main = document.querySelector("main");
      main.replaceWith(main);  // as if it came up now
      seen.push(takes());
      return [...seen, await until()];
    }""")
    assert taken == [True, False, True]


def test_every_server_has_its_command_and_one_press_copies_it(hub: Hub, window: Window) -> None:
    hub.start_server("page-abe", "gpu")
    assert hub.gateway is not None
    page = window("page-abe")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(ssh_page(hub))
    command = f"ssh -p {hub.gateway.ssh_port} page-abe+gpu@127.0.0.1"
    expect(page.get_by_role("row").filter(has_text="gpu")).to_contain_text(command)
    page.evaluate("window.setTimeout = () => 0")  # "Copied" would be gone before a busy machine looks
    page.get_by_role("button", name="Copy: command for gpu").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    reader = page.context.new_page()
    reader.goto(f"{hub.url}/hub/token")
    assert reader.evaluate("navigator.clipboard.readText()") == command
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.locator("pre", has_text="SHA256:")).to_have_text(parse_line(hub.gateway.host_key).fingerprint)
    assert "Host hub-gpu\n    HostName 127.0.0.1\n" in page.locator("pre", has_text="Host hub-gpu").inner_text()
    shoot(page, "ssh-page-open")


def test_it_works_without_scripts_by_keyboard_and_for_screen_readers(hub: Hub, window: Window, keys: list[KeyPair]) -> None:
    page = window("page-ada")
    page.goto(ssh_page(hub))
    add_key(page, keys[0].public)
    expect(page.get_by_role("status")).to_be_visible()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.reload()
        expect(page.get_by_text("id_0@test")).to_be_visible()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    plain = window("page-ada", java_script_enabled=False)
    plain.goto(ssh_page(hub))
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    expect(plain.get_by_role("button", name="Show my keys and connections")).to_be_visible()
    shoot(plain, "ssh-page-before")
    plain.get_by_role("button", name="Show my keys and connections").click()
    expect(plain.get_by_role("cell", name="page-ada@127.0.0.1")).to_be_visible()
    expect(plain.get_by_role("button", name="Copy")).to_have_count(0)
    plain.set_viewport_size({"width": 390, "height": 800})
    box = plain.locator("main").bounding_box()
    assert box is not None
    assert box["width"] <= 390
    plain.get_by_role("button", name="Remove key id_0@test").focus()
    plain.keyboard.press("Enter")
    plain.get_by_role("button", name="Show my keys and connections").click()
    expect(plain.get_by_role("status")).to_contain_text("The key was removed")


def test_the_theme_is_the_systems_until_another_is_chosen(hub: Hub, window: Window) -> None:
    page = window("page-ali", color_scheme="dark")

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.goto(ssh_page(hub))
    expect(page.get_by_label("Add a public key")).to_be_visible()
    dark = background()
    page.get_by_role("link", name="Switch to light mode").click()
    expect(page.get_by_role("link", name="Switch to dark mode")).to_be_visible()
    light = background()
    assert (dark, light) == ("rgb(33, 37, 41)", "rgb(255, 255, 255)")
    page.goto(ssh_page(hub))
    expect(page.get_by_label("Add a public key")).to_be_visible()
    assert background() == light
    page.get_by_role("link", name="Switch to dark mode").click()
    expect(page.get_by_role("link", name="Switch to light mode")).to_be_visible()
    assert background() == dark, "as the system's, and as the Hub's own pages"
    page.get_by_role("link", name="Home").click()
    expect(page.get_by_role("button", name="Logout")).to_be_visible()


def test_admins_find_and_end_everybodys_connections_and_others_do_not(hub: Hub, window: Window, client: Client) -> None:
    ssh = connected(client(hub, "page-arno", password=hub.token("page-arno")))
    other = window("page-art")
    other.goto(ssh_page(hub) + "admin")
    expect(other.get_by_role("alert")).to_contain_text("This page is for admins.")
    expect(other.get_by_role("link", name="All SSH connections")).to_have_count(0)
    page = window(ADMIN)
    page.goto(ssh_page(hub))
    page.get_by_role("link", name="All SSH connections").click()
    expect(page.get_by_role("cell", name="page-arno", exact=True)).to_be_visible()
    page.get_by_role("searchbox").fill("nobody of that name")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("Nothing was found.")).to_be_visible()
    page.get_by_role("searchbox").fill("PAGE-AR")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Disconnect page-arno")).to_be_visible()
    shoot(page, "ssh-admin")
    page.get_by_role("button", name="Disconnect page-arno").click()
    expect(page.get_by_role("status")).to_be_visible()
    assert "CONNECTION_ENDED" in said_when_ended(ssh)


def test_who_has_the_scope_is_an_admin_here(hub: Hub, window: Window) -> None:
    page = window(SUPPORT)
    page.goto(ssh_page(hub))
    page.get_by_role("link", name="All SSH connections").click()
    expect(page.get_by_role("heading", name="Open SSH connections")).to_be_visible()
    expect(page.get_by_role("link", name="Admin", exact=True)).to_have_count(0)


def test_a_user_who_logs_out_of_the_hub_is_out_here_too(hub: Hub, window: Window) -> None:
    page = window("page-ann")
    page.goto(ssh_page(hub))
    page.get_by_role("button", name="Logout").click()
    page.wait_for_url("**/hub/login*")
    page.goto(ssh_page(hub))
    page.wait_for_url("**/hub/login*")


def test_what_is_done_on_the_page_is_in_the_audit_log(hub: Hub, window: Window, keys: list[KeyPair]) -> None:
    page = window("page-aude")
    page.goto(ssh_page(hub))
    add_key(page, keys[2].public)
    expect(page.get_by_role("status")).to_be_visible()
    assert hub.gateway is not None
    log = hub.gateway.log_file
    wait_until(lambda: 'key added {"user": "page-aude", "fingerprint": "SHA256:' in log.read_text())
