"""People who log in with OpenSSH on a real terminal and approve in a real Chromium.

Browsers are at 127.0.0.1, as the Hub's proxy sees them; terminals there too, or elsewhere in 127.0.0.0/8. The proxy's requests
reach the gateways from another address of that network, by way of a load balancer: it alone is taken for a proxy.
"""

from __future__ import annotations

import re
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from jhssh_ext.gateway.database import sqlite_url

from ..conftest import python_of
from ..harness import postgresql
from ..harness.balancer import Balancer, balancing
from ..harness.chromium import log_in
from ..harness.chromium import running as chromium_running
from ..harness.gateway import GatewayProcess
from ..harness.hub import Answer, Hub, request
from ..harness.processes import describe, wait_until
from ..harness.ssh import HOST, KeyPair, SSHClient

HOME, ELSEWHERE, PROXY = "127.0.0.1", "127.0.0.3", "127.0.0.9"
CODE = r"type this code there:\s+([B-Z]{4}-[B-Z]{4})"
CONFIG = f'c.Gateway.trusted_proxies = ["{PROXY}"]\nc.Gateway.max_approvals_per_user = 3\n'


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    with chromium_running() as browser:
        yield browser


@dataclass
class Site:
    """A Hub, the balancer before its gateways' pages, and the gateway to which terminals connect."""

    hub: Hub
    balancer: Balancer
    gateway: GatewayProcess
    config: str

    @property
    def page_gateway(self) -> GatewayProcess:
        assert self.hub.gateway is not None
        return self.hub.gateway

    @contextmanager
    def another(self, config: str = "") -> Iterator[GatewayProcess]:
        """One more gateway of this Hub."""
        ours = self.page_gateway
        folder = self.hub.folder / f"gateway-{secrets.token_hex(4)}"
        folder.mkdir()
        made = GatewayProcess(
            folder, self.hub.python, hub_url=self.hub.url, mark=self.hub.mark, token=ours.token, managed=False,
            config=self.config + config,
        )  # fmt: skip
        made.keys = ours.keys
        made.start()
        try:
            yield made
        finally:
            made.stop()


@contextmanager
def running(folder: Path, database_url: str, version: str = "hub6") -> Iterator[Site]:
    config = CONFIG + f"c.Gateway.database_url = {database_url!r}\n"
    hub = Hub(folder, python_of(version), gateway_config=config)
    assert hub.gateway is not None
    with balancing([hub.gateway.http_port], PROXY) as balancer:
        hub.gateway.url = f"http://127.0.0.1:{balancer.port}"
        try:
            hub.start()
            yield Site(hub, balancer, hub.gateway, config)
        finally:
            hub.stop()
    left = hub.processes()
    assert not left, describe(left)


@pytest.fixture(scope="package")
def one_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("one-gateway")
    with running(folder, sqlite_url(str(folder / "gateway.sqlite"))) as site:
        yield site


@pytest.fixture(scope="package")
def two_gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a PostgreSQL: pages are the first's, terminals connect to the second."""
    with postgresql.running() as url, running(tmp_path_factory.mktemp("two-gateways"), url) as site, site.another() as second:
        site.gateway = second
        yield site


@pytest.fixture(scope="package")
def on_hub5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hub5")
    with running(folder, sqlite_url(str(folder / "gateway.sqlite")), "hub5") as site:
        yield site


@pytest.fixture(params=["one_gateway", "two_gateways"])
def site(request: pytest.FixtureRequest) -> Site:
    """Each in turn."""
    site = request.getfixturevalue(request.param)
    assert isinstance(site, Site)
    return site


@dataclass
class Terminal:
    """``ssh`` on a terminal, whose command says "in as NAME"."""

    ssh: pexpect.spawn[str]

    def code(self) -> str:
        """What it shows for the browser."""
        self.ssh.expect(CODE)
        assert self.ssh.match is not None
        return str(self.ssh.match[1])

    def is_in(self) -> str:
        """What it showed before."""
        self.ssh.expect("in as owner", timeout=60)
        shown = str(self.ssh.before)
        self.ssh.expect(pexpect.EOF, timeout=30)
        self.ssh.wait()
        assert self.ssh.exitstatus == 0
        return shown

    def waits(self) -> bool:
        return bool(self.ssh.expect([pexpect.TIMEOUT, "in as owner", pexpect.EOF], timeout=2) == 0)

    def is_refused(self, code: str) -> str:
        """With this error; what it showed before."""
        self.ssh.expect(re.escape(f"[{code}]"), timeout=60)
        shown = str(self.ssh.before)
        self.ssh.expect(pexpect.EOF, timeout=30)
        self.ssh.wait()
        assert self.ssh.exitstatus == 255
        return shown


@dataclass
class Person:
    """Someone's browser, logged in to the Hub."""

    hub: Hub
    name: str
    page: Page

    @property
    def link(self) -> str:
        return f"{self.hub.url}/services/ssh/login"

    def types(self, code: str) -> None:
        """Opens the link, types the code, and has the answer."""
        self.page.goto(self.link)
        self.page.get_by_label("Code").fill(code)
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Continue").click()

    def presses(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def reads(self, heading: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)


@pytest.fixture
def person(site: Site, chromium: Browser) -> Iterator[Callable[..., Person]]:
    """A browser of a user's own, at the address HOME: ``person("alice")``."""
    contexts: list[BrowserContext] = []

    def make(name: str) -> Person:
        page = log_in(chromium, site.hub, name)
        contexts.append(page.context)
        return Person(site.hub, name, page)

    yield make
    for context in contexts:
        context.close()


@dataclass
class Program:
    """What the jhssh command does, by hand."""

    url: str
    """of the gateway's API"""
    token: str = ""
    handle: str = ""

    def call(self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None) -> Answer:
        authorization = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return request(method, self.url + path, json=json, headers={**authorization, **(headers or {})})

    def asks(self, **headers: str) -> str:
        """The code for its user."""
        answer = self.call("POST", "login", {"client": "jhssh 0.1.0 on alices-laptop"}, headers)
        assert answer.status == 201, answer
        self.handle = str(answer.json["request"])
        return str(answer.json["code"])

    def answer(self, **number: str) -> Answer:
        return self.call("POST", "login/answer", {"request": self.handle, **number})

    def waits_for(self, what: str) -> None:
        wait_until(lambda: self.answer().json["status"] == what, interval=0.2)

    @contextmanager
    def keeps_asking(self) -> Iterator[None]:
        """As the command does while its user reads: who is not heard of for long is taken for gone (approvals.LOST_AFTER)."""
        over = threading.Event()

        def ask() -> None:
            while not over.wait(2):
                self.answer()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def logs_in(self, person: Person) -> None:
        code = self.asks()
        with self.keeps_asking():
            person.types(code)
        person.presses("Approve")
        granted = self.answer(number=person.page.locator("#number").inner_text())
        assert granted.status == 200, granted
        assert granted.json["user"] == person.name
        self.token = str(granted.json["token"])


@pytest.fixture
def program(site: Site) -> Program:
    """Through the Hub's proxy where one gateway is all, else at the gateway that has not the pages."""
    if site.gateway is site.page_gateway:
        return Program(f"{site.hub.url}/services/ssh/api/")
    return Program(f"{site.gateway.url}/services/ssh/api/")


@pytest.fixture
def terminal(site: Site, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Someone's terminal, where ``ssh NAME@hub`` was typed: ``terminal("alice")``, at the address HOME unless said otherwise."""
    terminals: list[Terminal] = []

    def make(
        name: str, *, key: KeyPair | None = None, address: str = HOME, gateway: GatewayProcess | None = None, proxy: str = ""
    ) -> Terminal:
        gateway = gateway or site.gateway
        client = SSHClient(
            tmp_path / f"terminal-{len(terminals)}", port=gateway.ssh_port, host_key=gateway.host_key, user=name, key=key,
            browser=True, options=[f"ProxyCommand {proxy}" if proxy else f"BindAddress {address}"], mark=site.hub.mark,
        )  # fmt: skip
        ssh = pexpect.spawn(
            "ssh", ["-F", str(client.config), "-tt", HOST, "echo in as owner"],
            env={**client.environment, "TERM": "xterm"}, encoding="utf-8", timeout=30, dimensions=(40, 200), cwd=str(tmp_path),
            preexec_fn=_takes_ctrl_c,
        )  # fmt: skip
        terminals.append(Terminal(ssh))
        return terminals[-1]

    yield make
    for made in terminals:
        made.ssh.close(force=True)


def _takes_ctrl_c() -> None:
    """Also where the tests themselves were started in the background, which has SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
