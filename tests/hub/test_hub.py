"""The mixin in real Hubs, JupyterHub 6.1 and 5.5: the API, the page that starts a server, a restart of the Hub."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from jhssh_ext.payloads import ServerEnvironment, ServerState
from tests.harness.hub import VENVS, Hub, request
from tests.harness.processes import describe, wait_until

from .conftest import make_public_key

pytestmark = pytest.mark.slow

# Users whose name starts with "form" have an options form. The checkbox is off until ticked.
CONFIG = """
c.SSHSpawnerMixin.ssh_user_ca_keys = [{ca_key!r}]
c.JupyterHub.services.append({{"name": "ssh", "url": {gateway!r}, "api_token": "0123456789abcdef"}})
c.JupyterHub.load_groups = {{"always-ssh": {{"users": ["grouped"]}}}}
c.Spawner.group_overrides = {{"ssh": {{"groups": ["always-ssh"], "spawner_override": {{"ssh_policy": "always"}}}}}}


async def form(spawner):
    return '<input name="size" value="small">' if spawner.user.name.startswith("form") else ""


async def from_form(data):
    return {{"size": data["size"][0], "keys": sorted(data)}}


c.Spawner.options_form = form
c.Spawner.options_from_form = from_form
"""

# Answers the Hub's check; stands in for a user server, whose environment is what counts here.
SERVER = """
import http.server, os
from urllib.parse import urlsplit


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())


url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
http.server.ThreadingHTTPServer((url.hostname, url.port), Handler).serve_forever()
"""
# The environment's own Python may stand where other accounts can't run it.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin")
STAND_IN = [PYTHON or sys.executable, "-c", SERVER]


class Field(HTMLParser):
    """The form fields of a page, in their order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, dict[str, str | None]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and found.get("name"):
            self.fields[str(found["name"])] = found


class Browser:
    """A user who is logged in at the Hub."""

    def __init__(self, hub: Hub, user: str) -> None:
        self.hub, self.user = hub, user
        self.session = requests.Session()
        self.session.get(f"{hub.url}/hub/login", timeout=30)
        answer = self.post("/hub/login", {"username": user, "password": "any"}, allow_redirects=False)
        assert answer.status_code == 302, answer.text

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.hub.url + path, timeout=60)

    def post(self, path: str, data: dict[str, str], **how: Any) -> requests.Response:
        tokens = [cookie.value for cookie in self.session.cookies if cookie.name == "_xsrf" and cookie.path == "/hub/"]
        return self.session.post(self.hub.url + path, data=data, params={"_xsrf": tokens[0]}, timeout=60, **how)


class Answers(BaseHTTPRequestHandler):
    """A gateway as far as the Hub looks, which waits at its start for all services to answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """The test's output is not for this."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    """The URL of a service that answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=list(VENVS))
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, gateway: str) -> Iterator[Hub]:
    python = VENVS[request.param]
    if not python.exists():
        pytest.skip(f"{request.param}: `make install` makes {python}")
    config = CONFIG.format(ca_key=make_public_key(), gateway=gateway)
    hub = Hub(tmp_path_factory.mktemp(request.param), python, gateway=False, config=config)
    hub.start()
    yield hub
    hub.stop()
    left = hub.processes()
    assert not left, describe(left)


@pytest.fixture
def start(hub: Hub) -> Iterator[Callable[..., None]]:
    """Makes a user whose server is the stand-in, starts it where asked to, and stops it in the end."""
    users: list[tuple[str, str]] = []

    def begin(user: str, options: dict[str, Any] | None = None, *, server: str = "", now: bool = True) -> None:
        hub.create_user(user)
        hub.use_command(user, STAND_IN)
        users.append((user, server))
        if now:
            hub.start_server(user, server, options)

    yield begin
    for user, server in users:
        hub.stop_server(user, server)


def given(hub: Hub, user: str, server: str = "") -> ServerEnvironment:
    """What the process of the user server has in its environment."""
    found = ServerEnvironment.from_environ(psutil.Process(hub.server_pid(user, server)).environ())
    assert found is not None
    return found


def test_on_through_the_api(hub: Hub, start: Callable[..., None], gateway: str) -> None:
    start("api-on", {"enable_ssh": True})
    state = ServerState.from_state(hub.server_state("api-on"))
    found = given(hub, "api-on")
    assert state is not None
    assert found.enabled
    assert (state.host, state.port, state.secret) == ("127.0.0.1", found.listen_port, found.secret)
    assert found.gateway_url == f"{gateway}/services/ssh/"
    assert request("GET", f"{state.url}publickey").body == urlsplit(state.url).path.encode() + b"publickey"


def test_the_state_is_the_admins_to_see(hub: Hub, start: Callable[..., None]) -> None:
    start("seen", {"enable_ssh": True})
    answer = hub.api("GET", "users/seen?include_stopped_servers", token=hub.token("seen"))
    assert answer.status == 200
    assert "state" not in answer.json["servers"][""]
    assert hub.server_state("seen")["jhssh"]["secret"].encode() not in answer.body


@pytest.mark.parametrize("options", [{"enable_ssh": False}, {"enable_ssh": "true"}, {}])
def test_off_through_the_api(hub: Hub, start: Callable[..., None], options: dict[str, Any]) -> None:
    start("api-off", options)
    found = given(hub, "api-off")
    assert not found.enabled
    assert found.disabled_because
    assert found.host_key == found.secret == ""
    assert "jhssh" not in hub.server_state("api-off")


def test_the_policy_of_a_group_counts(hub: Hub, start: Callable[..., None]) -> None:
    start("grouped", {"enable_ssh": False})
    assert given(hub, "grouped").enabled
    assert "jhssh" in hub.server_state("grouped")


def test_named_servers_have_keys_of_their_own(hub: Hub, start: Callable[..., None]) -> None:
    start("named", {"enable_ssh": True})
    start("named", {"enable_ssh": True}, server="gpu")
    default, gpu = (ServerState.from_state(hub.server_state("named", server)) for server in ("", "gpu"))
    assert default is not None
    assert gpu is not None
    assert gpu.url.endswith("/user/named/gpu/")
    assert gpu.host_key != default.host_key
    assert given(hub, "named", "gpu").login_name == "named+gpu"


def test_a_user_name_with_a_space(hub: Hub, start: Callable[..., None]) -> None:
    start("a b", {"enable_ssh": True})
    state = ServerState.from_state(hub.server_state("a b"))
    assert state is not None
    assert urlsplit(state.url).path == "/user/a%20b/"
    assert request("GET", state.url).status == 200


def test_without_a_form_a_server_starts_at_once(hub: Hub, start: Callable[..., None]) -> None:
    start("plain", now=False)
    page = Browser(hub, "plain").get("/hub/spawn")
    assert "enable_ssh" not in page.text
    wait_until(lambda: hub.running("plain"))
    model = hub.server_model("plain")
    assert model is not None
    assert model["user_options"] == {}
    assert not given(hub, "plain").enabled


def test_the_box_on_the_page_counts_and_is_remembered(hub: Hub, start: Callable[..., None]) -> None:
    start("form-user", now=False)
    browser = Browser(hub, "form-user")

    def fields() -> dict[str, dict[str, str | None]]:
        found = Field(browser.get("/hub/spawn").text).fields
        return {name: found[name] for name in found if name in ("enable_ssh", "size")}

    def submit(data: dict[str, str]) -> dict[str, Any]:
        browser.post("/hub/spawn", data)
        wait_until(lambda: hub.running("form-user"))
        model = hub.server_model("form-user")
        assert model is not None
        options: dict[str, Any] = model["user_options"]
        return options

    assert list(fields()) == ["enable_ssh", "size"]
    assert "checked" not in fields()["enable_ssh"]

    assert submit({"enable_ssh": "on", "size": "big"}) == {"size": "big", "keys": ["size"], "enable_ssh": True}
    assert given(hub, "form-user").enabled
    hub.stop_server("form-user")
    assert "checked" in fields()["enable_ssh"]

    assert submit({"size": "big"}) == {"size": "big", "keys": ["size"], "enable_ssh": False}
    assert not given(hub, "form-user").enabled
    hub.stop_server("form-user")
    assert "checked" not in fields()["enable_ssh"]


def test_a_link_can_turn_it_on(hub: Hub, start: Callable[..., None]) -> None:
    start("form-link", now=False)
    prefix = "opt-" if hub.version >= (6,) else ""
    Browser(hub, "form-link").get(f"/hub/spawn?{prefix}enable_ssh=1&{prefix}size=big")
    wait_until(lambda: hub.running("form-link"))
    model = hub.server_model("form-link")
    assert model is not None
    assert model["user_options"] == {"size": "big", "keys": ["size"], "enable_ssh": True}
    assert given(hub, "form-link").enabled


def test_a_restart_of_the_hub_changes_nothing(hub: Hub, start: Callable[..., None]) -> None:
    start("stays", {"enable_ssh": True})
    before, pid = hub.server_state("stays"), hub.server_pid("stays")
    hub.restart_hub()
    assert hub.server_state("stays") == before

    hub.stop_server("stays")
    assert not psutil.pid_exists(pid)
    model = hub.server_model("stays")
    assert model is not None
    assert not (model["state"] or {}).get("jhssh")
    hub.start_server("stays")
    after = hub.server_state("stays")
    assert after["jhssh"]["host_key"] == before["jhssh"]["host_key"]
    assert after["jhssh"]["secret"] != before["jhssh"]["secret"]


@pytest.mark.skipif(os.geteuid() != 0 or not PYTHON, reason="needs root, and a Python that every account can run")
def test_real_users_servers_run_as_themselves(tmp_path: Path, gateway: str) -> None:
    config = CONFIG.format(ca_key=make_public_key(), gateway=gateway)
    hub = Hub(tmp_path, VENVS["hub6"], gateway=False, config=config, spawner="jhssh-local")
    account = pwd.getpwnam("nobody")
    hub.use_command(account.pw_name, STAND_IN)
    try:
        hub.start()
        hub.start_server(account.pw_name, options={"enable_ssh": True})
        state = ServerState.from_state(hub.server_state(account.pw_name))
        assert state is not None
        assert state.user == account.pw_name
        assert psutil.Process(hub.server_pid(account.pw_name)).uids().effective == account.pw_uid
        assert given(hub, account.pw_name).enabled
    finally:
        hub.stop()
