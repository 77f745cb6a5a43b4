"""A Hub that gives each user a subdomain. Names below localhost lead to loopback in Chromium, and count as trustworthy there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ..harness.chromium import PATIENCE
from ..harness.hostile_scripts import FETCHES, OPENED, SUBMIT, holds_secrets, start_evil_server
from ..harness.hub import Hub, request
from ..harness.ssh import KeyPair
from .test_hostile_scripts import PATHS

pytestmark = pytest.mark.slow


@dataclass
class Domains:
    hub: Hub
    host: str
    """hub.localhost:PORT"""

    @property
    def ssh_page(self) -> str:
        return f"http://ssh--service.{self.host}/services/ssh/"


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domains]:
    hub = Hub(tmp_path_factory.mktemp("subdomains"))
    host = f"hub.localhost:{hub.port}"
    proxy = [str(hub.python), str(Path(__file__).with_name("host_routing_proxy.py"))]
    hub.config = (
        f'\nc.JupyterHub.bind_url = "http://127.0.0.1:{hub.port}/"\nc.JupyterHub.subdomain_host = "http://{host}"\n'
        f"c.ConfigurableHTTPProxy.command = {proxy!r}\n"
    )
    assert hub.gateway is not None
    hub.gateway.config = (
        f'c.Gateway.hub_host = "http://{host}"\nc.Gateway.public_url = "http://{host}/"\n'
        f'c.Gateway.page_url = "http://ssh--service.{host}/services/ssh/"\n'
    )
    # Python finds no name below localhost: the Hub's API is called past the proxy.
    hub.url = hub.gateway.hub_url = f"http://127.0.0.1:{hub.hub_port}"
    hub.start()
    start_evil_server(hub)
    yield Domains(hub, host)
    hub.stop()


@pytest.fixture
def alice(domains: Domains, chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(locale="en-US")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"http://{domains.host}/hub/login?next=%2Fhub%2Ftoken")
    page.fill("input[name=username]", "sub-alice")
    page.fill("input[name=password]", "any")
    page.click("#login_submit")
    page.wait_for_url(re.compile("/hub/token"))
    yield page
    context.close()


def test_the_page_works_and_leads_to_the_hub(alice: Page, domains: Domains, keys: list[KeyPair]) -> None:
    alice.goto(domains.ssh_page)
    alice.get_by_label("Add a public key").fill(keys[0].public)
    alice.get_by_role("button", name="Add key").click()
    expect(alice.get_by_role("status")).to_contain_text("The key was added")
    assert alice.evaluate("getComputedStyle(document.querySelector('nav')).display") == "flex", "the Hub's style sheet counts"
    assert alice.evaluate("document.querySelector('.jpy-logo').naturalWidth") > 0
    alice.get_by_role("button", name="Remove key").click()
    expect(alice.get_by_role("status")).to_contain_text("The key was removed")
    alice.get_by_role("link", name="Home").click()
    alice.wait_for_url(f"http://{domains.host}/hub/home")


def test_scripts_of_another_server_read_nothing_and_add_nothing(alice: Page, domains: Domains, keys: list[KeyPair]) -> None:
    alice.goto(domains.ssh_page)
    expect(alice.get_by_label("Add a public key")).to_be_visible()
    alice.goto(f"http://bob.{domains.host}/user/bob/evil")
    for url, options, status, text in alice.evaluate(FETCHES, [domains.ssh_page + path for path in PATHS]):
        assert status == 0, (url, options)
        assert not holds_secrets(text)
    assert alice.evaluate(OPENED, domains.ssh_page) == "refused: SecurityError"
    alice.evaluate(SUBMIT, [domains.ssh_page + "keys/add", {"public_key": keys[0].public, "nonce": "A" * 43 + "." + "a" * 64}])
    expect(alice.get_by_role("alert")).to_contain_text("Nothing was done")
    alice.goto(domains.ssh_page)
    expect(alice.get_by_label("Add a public key")).to_be_visible()
    expect(alice.get_by_role("button", name="Remove key")).to_have_count(0)


def test_the_command_logs_in_at_the_services_own_host(alice: Page, domains: Domains) -> None:
    alice.goto(domains.ssh_page)
    base = f"http://ssh--service.{domains.host}/"
    expect(alice.locator("pre", has_text=f"jhssh login {base}\n")).to_have_count(1)
    api, headers = f"http://127.0.0.1:{domains.hub.port}/services/ssh/api/", {"Host": f"ssh--service.{domains.host}"}
    asked = request("POST", api + "login", json={"client": "jhssh on laptop"}, headers=headers)
    assert asked.status == 201, asked
    assert asked.json["link"] == base + "services/ssh/login"
    alice.goto(asked.json["link"])
    alice.get_by_label("Code").fill(asked.json["code"])
    alice.get_by_role("button", name="Continue").click()
    alice.get_by_role("button", name="Approve").click()
    sent = {"request": asked.json["request"], "number": alice.locator("#number").inner_text()}
    granted = request("POST", api + "login/answer", json=sent, headers=headers)
    headers["Authorization"] = f"Bearer {granted.json['token']}"
    me = request("GET", api + "me", headers=headers).json
    assert me["connect"]["tunnel"] == f"ws://ssh--service.{domains.host}/services/ssh/tunnel"
    assert me["servers"][0]["url"] == f"http://sub-alice.{domains.host}/user/sub-alice/"
