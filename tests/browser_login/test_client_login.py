"""``jhssh login`` as people meet it: a program that asks the gateway, Chromium, a real Hub."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pexpect
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from jhssh_ext.public_keys import parse_line

from ..harness.chromium import shoot
from ..harness.hostile_scripts import start_evil_server
from ..harness.hub import ROOT, request
from ..harness.processes import wait_until
from ..harness.ssh import KeyPair
from .conftest import Person, Program, Site, Terminal

pytestmark = pytest.mark.slow

Someone = Callable[..., Person]
Somewhere = Callable[..., Terminal]


def test_code_and_number_lead_to_a_token(person: Someone, terminal: Somewhere, program: Program, a_key: KeyPair) -> None:
    leads_to_a_token(person, terminal, program, a_key)


@pytest.mark.parametrize("site", ["on_hub5"], indirect=True)
def test_on_the_older_hub(person: Someone, terminal: Somewhere, program: Program, a_key: KeyPair) -> None:
    leads_to_a_token(person, terminal, program, a_key)


def leads_to_a_token(person: Someone, terminal: Somewhere, program: Program, key: KeyPair) -> None:
    heidi = person("heidi")
    # The very address of the browser, and one that is claimed to be: neither spares the number.
    code = program.asks(**{"X-Forwarded-For": "127.0.0.1"})
    assert program.answer().json == {"status": "waiting"}
    with program.keeps_asking():
        heidi.types(code)
        heidi.reads("Let this program in?")
        expect(heidi.page.get_by_text("jhssh 0.1.0 on alices-laptop")).to_be_visible()
        expect(heidi.page.get_by_text("add and remove your SSH keys")).to_be_visible()
        shoot(heidi.page, "client-login-approval")
    assert program.answer().json == {"status": "waiting"}
    heidi.presses("Approve")
    heidi.reads("Type this number into your terminal")
    shoot(heidi.page, "client-login-number")
    number = heidi.page.locator("#number").inner_text()
    program.waits_for("number")
    assert program.answer(number=str((int(number) + 1) % 1_000_000).zfill(6)).status == 202
    granted = program.answer(number=number)
    assert (granted.status, granted.json["user"]) == (200, "heidi")
    assert program.answer(number=number).status == 410
    program.token = granted.json["token"]
    me = program.call("GET", "me").json
    assert (me["user"], [server["name"] for server in me["servers"]]) == ("heidi", [""])
    # What it is for: a key, and a server.
    assert program.call("POST", "keys", {"public_key": key.public}).status == 201
    assert program.call("POST", "servers/start", {"server": ""}).status == 202
    wait_until(lambda: bool(program.call("GET", "me").json["servers"][0]["ready"]), 90, interval=0.5)
    assert program.call("GET", "me").json["servers"][0]["ssh"] is True
    terminal("heidi", key=key).is_in()
    fingerprint = parse_line(key.public).fingerprint
    assert fingerprint in [found["fingerprint"] for found in program.call("GET", "keys").json["keys"]]
    assert program.call("DELETE", f"keys/{quote(fingerprint, safe='')}").status == 204
    assert program.call("POST", "servers/stop", {"server": ""}).status == 202
    wait_until(lambda: not program.call("GET", "me").json["servers"][0]["ready"], 30, interval=0.5)
    assert program.call("DELETE", "token").status == 204
    assert program.call("GET", "me").status == 401


def test_denied(person: Someone, program: Program) -> None:
    alice, code = person("alice"), program.asks()
    with program.keeps_asking():
        alice.types(code)
    alice.presses("Deny")
    alice.reads("Denied")
    assert program.answer().json["code"] == "APPROVAL_DENIED"


def test_the_page_lists_programs_and_logs_them_out(person: Someone, program: Program) -> None:
    ivan, laptop = person("ivan"), Program(program.url)
    ivan.page.goto(f"{ivan.hub.url}/services/ssh/")
    expect(ivan.page.get_by_label("Add a public key")).to_be_visible()
    expect(ivan.page.get_by_role("heading", name="Programs")).to_have_count(0)
    laptop.logs_in(ivan)
    program.logs_in(ivan)
    ivan.page.goto(f"{ivan.hub.url}/services/ssh/")
    buttons = ivan.page.get_by_role("button", name="Revoke jhssh 0.1.0 on alices-laptop")
    expect(buttons).to_have_count(2)
    shoot(ivan.page, "ssh-page-programs")
    assert Axe().run(ivan.page).violations_count == 0
    buttons.first.click()  # the newest
    expect(ivan.page.get_by_role("status")).to_contain_text("The program is logged out")
    expect(buttons).to_have_count(1)
    assert program.call("GET", "me").json["code"] == "TOKEN_INVALID"
    assert laptop.call("GET", "me").status == 200


def test_a_request_is_seen_after_its_code_was_typed_and_by_who_typed_it(person: Someone, program: Program) -> None:
    alice, bob = person("alice"), person("bob")
    code = program.asks()
    with program.keeps_asking():
        alice.page.goto(f"{alice.hub.url}/services/ssh/")
        expect(alice.page.get_by_label("Add a public key")).to_be_visible()
        expect(alice.page.get_by_text("alices-laptop")).to_have_count(0)
        alice.types(code)
        decision = alice.page.url
        bob.types(code)
        expect(bob.page.get_by_role("alert").first).to_contain_text("No login of bob waits with this code")
        bob.page.goto(decision)
        expect(bob.page.get_by_role("alert")).to_contain_text("This login is over, or was never yours")
        alice.page.goto(f"{alice.hub.url}/services/ssh/")
        alice.page.get_by_role("link", name="Look at it").first.click()
        alice.reads("Let this program in?")
    alice.presses("Deny")
    alice.reads("Denied")
    assert program.answer().status == 403


def test_who_sends_a_code_gets_nothing_without_the_number(person: Someone, program: Program) -> None:
    """Mallory's program asks, and alice approves what mallory told her to."""
    alice, code = person("alice"), program.asks()
    with program.keeps_asking():
        alice.types(code)
    alice.presses("Approve")
    number = int(alice.page.locator("#number").inner_text())
    for guess, status in ((1, 202), (2, 202), (3, 403)):
        assert program.answer(number=str((number + guess) % 1_000_000).zfill(6)).status == status
    assert program.answer(number=str(number).zfill(6)).status == 410


def test_a_program_that_gave_up_cannot_be_approved(person: Someone, program: Program) -> None:
    alice = person("alice")
    alice.types(program.asks())
    time.sleep(20)  # approvals.LOST_AFTER
    alice.presses("Approve")
    alice.reads("404")


def test_a_user_who_is_made_anew_has_no_programs(person: Someone, program: Program, site: Site) -> None:
    judy = person("judy")
    program.logs_in(judy)
    assert program.call("GET", "me").status == 200
    site.hub.delete_user("judy")
    assert program.call("GET", "me").status == 401
    site.hub.create_user("judy")
    assert program.call("GET", "me").json["code"] == "TOKEN_INVALID"
    again = person("judy")
    again.page.goto(f"{site.hub.url}/services/ssh/")
    expect(again.page.get_by_role("heading", name="Programs")).to_have_count(0)


ASK_IN_THE_BROWSER = """async () => {
  const calls = [
    ["login", "POST", {client: "jhssh 0.1.0 on alices-laptop"}],
    ["login/answer", "POST", {request: "A".repeat(43)}],
    ["me", "GET"], ["keys", "GET"], ["keys", "POST", {public_key: "x"}], ["keys/x", "DELETE"], ["token", "DELETE"],
    ["servers/start", "POST", {server: ""}], ["servers/stop", "POST", {server: ""}],
  ];
  const statuses = [];
  for (const [path, method, body] of calls)
    for (const more of [
      {}, {credentials: "include"}, {credentials: "omit"}, {mode: "same-origin"}, {referrerPolicy: "no-referrer"},
      {keepalive: true},
      {headers: {Authorization: "Bearer jhssh_" + "A".repeat(43), Origin: "", "Sec-Fetch-Mode": ""}},
    ]) {
      const answer = await fetch("/services/ssh/api/" + path, {method, body: body && JSON.stringify(body), ...more});
      statuses.push([path, method, JSON.stringify(more), answer.status, (await answer.json()).code]);
    }
  navigator.sendBeacon("/services/ssh/api/login", JSON.stringify({client: "beacon"}));
  return statuses;
}"""


def test_a_script_of_another_server_asks_for_no_login_in_its_visitors_browser(site: Site, person: Someone) -> None:
    """From there it would have the very address of the browser that approves."""
    place = start_evil_server(site.hub)
    alice = person("alice")
    alice.page.goto(alice.link)
    alice.page.goto(place)
    answers = alice.page.evaluate(ASK_IN_THE_BROWSER)
    assert len(answers) == 63
    assert {(status, code) for *_, status, code in answers} == {(403, "POLICY_DENIED")}, answers


def test_a_page_takes_no_answers_and_the_api_no_cookies(person: Someone, program: Program, site: Site) -> None:
    alice = person("alice")
    alice.page.goto(alice.link)
    cookies = "; ".join(f"{each['name']}={each['value']}" for each in alice.page.context.cookies())
    assert "service-ssh" in cookies
    for method, path, body in (("GET", "me", None), ("POST", "keys", {"public_key": "x"}), ("DELETE", "token", None)):
        answer = Program(program.url).call(method, path, body, {"Cookie": cookies})
        assert (answer.status, answer.json["code"]) == (401, "TOKEN_INVALID")
    hubs = site.hub.token("alice")
    assert Program(program.url, hubs).call("GET", "me").status == 401, "a token of the Hub is none here"


def test_its_tokens_are_none_elsewhere(person: Someone, program: Program, site: Site) -> None:
    kim = person("kim")
    program.logs_in(kim)
    assert site.hub.api("GET", "user", token=program.token).status == 403
    for path in ("services/ssh/", f"services/ssh/?token={program.token}", "hub/api/users/kim"):
        answer = request("GET", f"{site.hub.url}/{path}", headers={"Authorization": f"Bearer {program.token}"})
        assert answer.status == 403, (path, answer.status)
    answer = request("POST", f"{program.url}refresh", json={}, headers={"Authorization": f"token {program.token}"})
    assert answer.status == 403
    log = site.gateway.log_file.read_text() + site.page_gateway.log_file.read_text()
    assert program.token not in log
    assert 'client token made {"user": "kim", "client": "jhssh 0.1.0 on alices-laptop"' in log


def test_the_page_shows_the_way_over_443_where_the_port_is_closed(person: Someone, site: Site) -> None:
    alice = person("alice")
    tunnel = site.hub.url.replace("http", "ws", 1) + "/services/ssh/tunnel"
    alice.page.goto(f"{site.hub.url}/services/ssh/")
    expect(alice.page.get_by_text(f"ssh -p {site.page_gateway.ssh_port} alice@127.0.0.1", exact=True)).to_be_visible()
    alice.page.get_by_text("From networks that let nothing but HTTPS out").click()
    proxy = f"websocat --binary --no-async-stdio {tunnel}"
    expect(alice.page.get_by_text(re.compile("^ssh -o 'ProxyCommand=" + re.escape(proxy)))).to_be_visible()
    with site.another("c.Gateway.ssh_published = False\n") as behind:
        site.balancer.targets = [behind.http_port]
        try:
            alice.page.goto(f"{site.hub.url}/services/ssh/")
            command = f"ssh -o 'ProxyCommand={proxy}' alice@127.0.0.1"
            expect(alice.page.get_by_role("row").filter(has_text="default server")).to_contain_text(command)
            shoot(alice.page, "ssh-page-443")
            assert Axe().run(alice.page).violations_count == 0
            expect(alice.page.get_by_text(f"jhssh login {site.hub.url}/")).to_be_visible()
            expect(alice.page.get_by_text(str(behind.ssh_port))).to_have_count(0)
        finally:
            site.balancer.targets = [site.page_gateway.http_port]


def test_the_command_itself(person: Someone, site: Site, tmp_path: Path) -> None:
    """jhssh login, on a terminal: code, number, and whose login it is."""
    lena = person("lena")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "TERM": "xterm",
        "PYTHONPATH": str(ROOT), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
    }  # fmt: skip

    def jhssh(*arguments: str) -> pexpect.spawn[str]:
        return pexpect.spawn(
            sys.executable, ["-m", "jhssh_ext.client", *arguments], env=environment, encoding="utf-8", timeout=30,
            dimensions=(40, 200), cwd=str(tmp_path),
        )  # fmt: skip

    login = jhssh("login", site.hub.url)
    try:
        login.expect("([B-Z]{4}-[B-Z]{4})")
        assert login.match is not None
        lena.types(str(login.match[1]))
        expect(lena.page.get_by_text("jhssh 0.")).to_be_visible()
        lena.presses("Approve")
        login.expect("Number that the browser shows")
        number = lena.page.locator("#number").inner_text()
        login.sendline(str((int(number) + 1) % 1_000_000).zfill(6))
        login.expect("This is not the number")
        login.expect("Number that the browser shows")
        login.sendline(number)
        login.expect("as lena")
        login.expect(pexpect.EOF)
        login.wait()
        assert "jhssh_" not in str(login.before)
    finally:
        login.close(force=True)
    assert login.exitstatus == 0
    listed = jhssh("servers", "list")
    listed.expect("stopped")
    listed.close(force=True)
    logout = jhssh("logout")
    logout.expect("Logged out")
    logout.close(force=True)
    lena.page.goto(f"{site.hub.url}/services/ssh/")
    expect(lena.page.get_by_role("heading", name="Programs")).to_have_count(0)
