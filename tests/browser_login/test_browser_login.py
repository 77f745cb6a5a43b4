"""Login by approval in the browser, as people meet it: OpenSSH on a terminal, Chromium, a real Hub."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pexpect
import pytest
from playwright.sync_api import expect

from jhssh_ext.gateway.authenticate.approvals import LOST_AFTER

from ..harness.chromium import shoot
from ..harness.processes import wait_until
from ..harness.ssh import KeyPair
from .conftest import ELSEWHERE, Person, Site, Terminal

pytestmark = pytest.mark.slow

Someone = Callable[..., Person]
Somewhere = Callable[..., Terminal]


def test_approved_from_the_same_address_it_goes_on_by_itself(person: Someone, terminal: Somewhere) -> None:
    alice, ssh = person("alice"), terminal("alice")
    code = ssh.code()
    assert alice.link in ssh.ssh.before + str(ssh.ssh.after)
    alice.types(code)
    alice.reads("Let this terminal in?")
    shoot(alice.page, "login-approval")
    assert ssh.waits()
    alice.presses("Approve")
    alice.reads("Approved")
    ssh.is_in()


def test_denied(person: Someone, terminal: Somewhere) -> None:
    alice, ssh = person("alice"), terminal("alice")
    alice.types(ssh.code())
    alice.presses("Deny")
    alice.reads("Denied")
    ssh.is_refused("APPROVAL_DENIED")


def test_from_another_address_a_number_is_typed(person: Someone, terminal: Somewhere) -> None:
    alice, ssh = person("alice"), terminal("alice", address=ELSEWHERE)
    alice.types(ssh.code())
    expect(alice.page.get_by_text("127.0.0.3")).to_be_visible()
    alice.presses("Approve")
    number = alice.page.locator("#number").inner_text()
    shoot(alice.page, "login-number")
    ssh.ssh.expect("Number shown in the browser: ")
    ssh.ssh.sendline(str((int(number) + 1) % 1_000_000).zfill(6))
    ssh.ssh.expect("Number shown in the browser: ")
    ssh.ssh.sendline(number)
    ssh.is_in()


def test_through_the_tunnel_a_number_is_typed_whatever_the_address(person: Someone, terminal: Somewhere, site: Site) -> None:
    """It is what a proxy says: on one machine with it, any user server can say the same."""
    tunnel = site.gateway.url.replace("http", "ws", 1) + "/services/ssh/tunnel"
    if site.gateway is site.page_gateway:  # by way of the one proxy that is trusted, which sees this machine's address
        tunnel = site.hub.url.replace("http", "ws", 1) + "/services/ssh/tunnel"
    program = f"{sys.executable} -m jhssh_ext.client.websocket_stdio {tunnel}"
    alice, ssh = person("alice"), terminal("alice", proxy=program)
    alice.types(ssh.code())
    alice.reads("Let this terminal in?")
    shoot(alice.page, "login-through-tunnel")
    expect(alice.page.get_by_text("the same as this browser's")).to_have_count(0)
    alice.presses("Approve")
    number = alice.page.locator("#number").inner_text()
    ssh.ssh.expect("Number shown in the browser: ")
    ssh.ssh.sendline(number)
    ssh.is_in()


def test_wrong_numbers_end_it(person: Someone, terminal: Somewhere) -> None:
    alice, ssh = person("alice"), terminal("alice", address=ELSEWHERE)
    alice.types(ssh.code())
    alice.presses("Approve")
    number = alice.page.locator("#number").inner_text()
    for _ in range(3):
        ssh.ssh.expect("Number shown in the browser: ")
        ssh.ssh.sendline(str((int(number) + 1) % 1_000_000).zfill(6))
    ssh.is_refused("APPROVAL_DENIED")


def test_another_user_can_do_nothing_with_a_code(person: Someone, terminal: Somewhere) -> None:
    bob, alice, ssh = person("bob"), person("alice"), terminal("alice")
    code = ssh.code()
    bob.types(code)
    expect(bob.page.get_by_role("alert").first).to_contain_text("No login of bob waits with this code")
    shoot(bob.page, "login-wrong-code")
    alice.types(code)
    alice.reads("Let this terminal in?")
    request = alice.page.url
    bob.page.goto(request)
    expect(bob.page.get_by_role("alert")).to_contain_text("This login is over, or was never yours")
    assert ssh.waits()
    alice.presses("Approve")
    ssh.is_in()


def test_code_and_form_work_once(person: Someone, terminal: Somewhere) -> None:
    alice, ssh = person("alice"), terminal("alice")
    code = ssh.code()
    alice.types(code)
    alice.reads("Let this terminal in?")
    request = alice.page.url
    second = alice.page.context.new_page()
    second.goto(alice.link)
    second.get_by_label("Code").fill(code)
    second.get_by_role("button", name="Continue").click()
    expect(second.get_by_role("alert").first).to_contain_text("No login of alice waits")
    nonce = alice.page.locator("[data-key]").first.get_attribute("data-key")
    alice.presses("Approve")
    ssh.is_in()
    alice.page.goto(request)
    alice.reads(re.compile("Approved|404"))
    second.set_content(
        f'<form method="post" action="{request}"><input name="nonce" value="{nonce}">'
        '<button name="decision" value="approve">again</button></form>'
    )
    second.get_by_role("button", name="again").click()
    expect(second.get_by_role("alert")).to_contain_text("was sent already")


def test_a_flood_of_requests_leaves_room_for_others(person: Someone, terminal: Somewhere) -> None:
    flood = [terminal("carol", address=ELSEWHERE) for _ in range(3)]
    for ssh in flood:
        ssh.code()
    refused = terminal("carol", address=ELSEWHERE)
    refused.ssh.expect("Too many attempts")
    dave, ssh = person("dave"), terminal("dave")
    dave.types(ssh.code())
    dave.presses("Approve")
    ssh.is_in()
    flood[0].ssh.close(force=True)
    # What is gone makes room.
    for _ in range(10):
        again = terminal("carol", address=ELSEWHERE)
        if again.ssh.expect(["type this code there", "Too many attempts"]) == 0:
            break
    else:
        pytest.fail("no room though one is gone")


def test_users_and_nobody_see_the_same(terminal: Somewhere, site: Site) -> None:
    site.hub.create_user("erin")
    shown = []
    for name in ("erin", "nobody-of-that-name"):
        ssh = terminal(name)
        code = ssh.code()
        shown.append((str(ssh.ssh.before) + str(ssh.ssh.after)).replace(code, "CODE"))
    assert shown[0] == shown[1]


def test_a_key_is_remembered_in_a_second_step(person: Someone, terminal: Somewhere, a_key: KeyPair) -> None:
    remembered_in_a_second_step(person, terminal, a_key)


@pytest.mark.parametrize("site", ["on_hub5"], indirect=True)
def test_on_the_older_hub(person: Someone, terminal: Somewhere, a_key: KeyPair) -> None:
    remembered_in_a_second_step(person, terminal, a_key)


def remembered_in_a_second_step(person: Someone, terminal: Somewhere, a_key: KeyPair) -> None:
    frank, ssh = person("frank"), terminal("frank", key=a_key)
    frank.types(ssh.code())
    expect(frank.page.get_by_text(fingerprint_of(a_key))).to_be_visible()
    shoot(frank.page, "login-approval-with-key")
    frank.presses("Approve")
    ssh.is_in()
    box = frank.page.get_by_label(fingerprint_of(a_key))
    assert not box.is_checked()
    frank.presses("Remember this key")  # the browser wants a choice
    assert not box.is_checked()
    box.check()
    shoot(frank.page, "login-remember")
    frank.presses("Remember this key")
    frank.reads("Remembered")
    again = terminal("frank", key=a_key)
    shown = again.is_in()
    assert "type this code" not in shown
    assert "remembered" not in shown, "its holder may be the one who had it remembered"
    told = f"The key {fingerprint_of(a_key)} was remembered in the browser"
    for tells in (True, False):  # once, to who comes in otherwise
        otherwise = terminal("frank")
        frank.types(otherwise.code())
        frank.presses("Approve")
        assert (told in otherwise.is_in()) is tells


def test_a_key_that_is_not_remembered_opens_nothing(person: Someone, terminal: Somewhere, a_key: KeyPair) -> None:
    grace, ssh = person("grace"), terminal("grace", key=a_key)
    grace.types(ssh.code())
    grace.presses("Approve")
    ssh.is_in()
    terminal("grace", key=a_key).code()


def test_from_another_address_no_key_is_remembered(person: Someone, terminal: Somewhere, a_key: KeyPair) -> None:
    alice, ssh = person("alice"), terminal("alice", key=a_key, address=ELSEWHERE)
    alice.types(ssh.code())
    alice.reads("Let this terminal in?")
    request = alice.page.url
    alice.presses("Approve")
    expect(alice.page.locator("#number")).to_be_visible()
    expect(alice.page.get_by_role("radio")).to_have_count(0)
    alice.page.goto(request)
    expect(alice.page.get_by_role("status")).to_contain_text("The number was shown once")
    expect(alice.page.get_by_role("radio")).to_have_count(0)


def test_it_expires(person: Someone, terminal: Somewhere, site: Site) -> None:
    with site.another("c.Gateway.approval_timeout = 45\n") as hasty:
        alice, late, later = person("alice"), terminal("alice", gateway=hasty), terminal("alice", gateway=hasty)
        codes = [late.code(), later.code()]
        alice.types(codes[0])
        alice.reads("Let this terminal in?")
        late.is_refused("APPROVAL_EXPIRED")
        later.is_refused("APPROVAL_EXPIRED")
        alice.presses("Approve")
        alice.reads("404")
        alice.types(codes[1])
        expect(alice.page.get_by_role("alert").first).to_contain_text("No login of alice waits")


def test_the_gateway_of_the_terminal_is_killed(person: Someone, terminal: Somewhere, site: Site) -> None:
    with site.another() as doomed:
        alice, ssh = person("alice"), terminal("alice", gateway=doomed)
        alice.types(ssh.code())
        doomed.kill()
        ssh.ssh.expect(pexpect.EOF)
        alice.page.wait_for_timeout(1000 * LOST_AFTER)
        alice.presses("Approve")
        alice.reads("404")
        again = terminal("alice")
        alice.types(again.code())
        alice.presses("Approve")
        again.is_in()


def test_the_gateway_of_the_page_is_killed(person: Someone, terminal: Somewhere, site: Site) -> None:
    alice = person("alice")
    with site.another() as survivor:
        ssh = terminal("alice", gateway=survivor)
        alice.types(ssh.code())
        alice.reads("Let this terminal in?")
        site.balancer.targets = [site.page_gateway.http_port, survivor.http_port]
        site.page_gateway.kill()
        try:
            alice.presses("Approve")
            alice.reads("Approved")
            ssh.is_in()
        finally:
            site.page_gateway.start()
            site.balancer.targets = [site.page_gateway.http_port]


def test_who_hangs_up_cannot_be_approved(person: Someone, terminal: Somewhere) -> None:
    alice, ssh = person("alice"), terminal("alice")
    alice.types(ssh.code())
    alice.reads("Let this terminal in?")
    request, look = alice.page.url, alice.page.context.new_page()
    ssh.ssh.sendcontrol("c")
    ssh.ssh.expect(pexpect.EOF)

    def forgotten() -> bool:
        look.goto(request)
        return look.get_by_role("heading", level=1).inner_text() == "404"

    wait_until(forgotten, interval=0.5, what="the login to be forgotten")
    alice.presses("Approve")
    alice.reads("404")


def fingerprint_of(key: KeyPair) -> str:
    listed = subprocess.run(["ssh-keygen", "-l", "-f", str(key.private)], check=True, capture_output=True, text=True)
    return listed.stdout.split()[1]
