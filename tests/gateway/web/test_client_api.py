"""The API of the jhssh command: who may ask, what is answered, and what nobody gets by asking otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncssh
import pytest
import pytest_asyncio
from sqlalchemy import text
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from jhssh_ext.errors import HubUnavailable
from jhssh_ext.gateway.addresses import TrustedProxies
from jhssh_ext.gateway.authenticate.approvals import Approvals, Bounds
from jhssh_ext.gateway.authenticate.client_logins import ClientLogins
from jhssh_ext.gateway.authenticate.client_tokens import ClientTokens
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.authenticate.key_listing import KeyListing
from jhssh_ext.gateway.authenticate.nonces import Nonces
from jhssh_ext.gateway.authenticate.sessions import Sessions
from jhssh_ext.gateway.authenticate.user_keys import MAX_KEYS, UserKeys
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.connect.hub_models import Progress, ServerModel, StartAnswer, UserModel
from jhssh_ext.gateway.connect.server_starter import ServerStarter
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.gateway.observe.metrics import Metrics
from jhssh_ext.gateway.web.app import Health, make_app
from jhssh_ext.gateway.web.client_servers import MAX_STARTS_PER_USER, ClientServers
from jhssh_ext.gateway.web.forms import Forms
from jhssh_ext.gateway.web.pages import Site
from jhssh_ext.gateway.web.ways_in import Door
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import PublicKey, parse_line

from ..authenticate.conftest import Clock
from ..connect.test_server_starter import STATE, Waits, until
from .test_pages import HOST_KEY, PREFIX, login

pytestmark = pytest.mark.asyncio

LINK = "https://hub.example.org/services/ssh/login"
DOOR = Door("ssh.example.org", 2222, HOST_KEY, "+", tunnel="wss://hub.example.org/services/ssh/tunnel")


def new_key(comment: str = "") -> PublicKey:
    line = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    return parse_line(f"{line} {comment}".strip())


class FakeHub(HubClient):
    """Users and their servers; a start of a server takes until its gate opens."""

    def __init__(self) -> None:
        self.users: dict[str, UserModel] = {}
        for name in ("alice", "bob"):
            self.make(name, "2026")
        self.down = False
        self.answer = StartAnswer("ready")
        self.stop_answer = ""
        self.started: list[tuple[UserServer, dict[str, Any]]] = []
        self.stopped: list[UserServer] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    def make(self, name: str, created: str) -> None:
        servers = [
            ServerModel("", True, None, {"profile": "small"}, STATE, url=f"/user/{name}/"),
            ServerModel("gpu", False, None, {"profile": "small", "enable_ssh": False}, url=f"/user/{name}/gpu/"),
            *(ServerModel(f"s{n}", False, None) for n in range(MAX_STARTS_PER_USER + 1)),
        ]
        self.users[name] = UserModel(name, {server.name: server for server in servers}, created)

    def change(self, target: UserServer, model: ServerModel) -> None:
        self.users[target.user].servers[target.server] = model

    async def user(self, name: str) -> UserModel | None:
        self.asked += 1
        await self.answers.wait()
        if self.down:
            raise HubUnavailable(explanation="down")
        return self.users.get(name)

    async def start(self, target: UserServer, user_options: dict[str, Any]) -> StartAnswer:
        self.started.append((target, user_options))
        await self.gate.wait()
        if self.answer.kind == "ready":
            state = STATE if user_options["enable_ssh"] else None
            self.change(target, ServerModel(target.server, True, None, user_options, state))
        return self.answer

    async def progress(self, target: UserServer) -> AsyncGenerator[Progress, None]:
        for event in ():
            yield event

    async def stop(self, target: UserServer) -> str:
        self.stopped.append(target)
        return self.stop_answer


class API:
    """The gateway's HTTP side on loopback."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.hub = Clock(), FakeHub()
        self.database = Database(sqlite_url(str(folder / "gateway.sqlite")))
        self.approvals = Approvals(self.database, b"secret", Bounds(in_all=20, per_address=4), clock=self.clock)
        self.tokens = ClientTokens(self.database, max_age=30, clock=self.clock)
        self.keys = UserKeys(self.database)
        self.notes: list[tuple[str, Mapping[str, str]]] = []
        self.starter = ServerStarter(self.hub, lambda target: "", sleep=Waits())
        self.servers = ClientServers(self.hub, self.starter)
        self.client = AsyncHTTPClient(force_instance=True, max_clients=200)
        self.server: HTTPServer | None = None

    async def serve(self, **changes: Any) -> None:
        """From now on with these parts of Site."""
        await self.stop_serving()
        parts: dict[str, Any] = {
            "hub": self.hub,
            "login": login(),
            "forms": Forms(Nonces(self.database), b"x" * 32),
            "user_keys": self.keys,
            "key_listing": KeyListing(self.database),
            "sessions": Sessions(self.database),
            "prefix": PREFIX,
            "hub_url": "/hub/",
            "door": DOOR,
            "note": lambda event, values: self.notes.append((event, values)),
            "client_tokens": self.tokens,
            "client_logins": ClientLogins(self.approvals, self.tokens, link=LINK),
            "client_servers": self.servers,
            "separator": "+",
            "public_url": "https://hub.example.org/",
            "proxies": TrustedProxies(["127.0.0.1"]),
        }
        app = make_app(PREFIX, health=Health(), metrics=Metrics(), hub=self.hub, keys=None, site=Site(**{**parts, **changes}))
        self.server = HTTPServer(app, max_body_size=64 * 1024)
        (listening,) = bind_sockets(0, "127.0.0.1")
        self.server.add_socket(listening)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}{PREFIX}api/"

    async def stop_serving(self) -> None:
        if self.server is not None:
            self.server.stop()
            await self.server.close_all_connections()

    async def token(self, user: str = "alice", created: str = "2026") -> str:
        token, _ = await self.tokens.make(user, created, "jhssh on laptop", "192.0.2.7")
        return token

    async def raw(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        return await self.client.fetch(
            self.url + path, method=method, body=body, headers=dict(headers or {}), raise_error=False,
            follow_redirects=False, allow_nonstandard_methods=True,
        )  # fmt: skip

    async def ask(
        self, method: str, path: str, sent: Any = None, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status, and JSON where there is some."""
        authorization = {"Authorization": f"Bearer {token}"} if token is not None else {}
        body = None if sent is None else sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        answer = await self.raw(path, method, body, {**authorization, **(headers or {})})
        return answer.code, json.loads(answer.body) if answer.body else None


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[API]:
    made = API(tmp_path)
    await made.database.migrate()
    await made.serve()
    yield made
    await made.stop_serving()
    made.client.close()
    await made.servers.close()
    await made.starter.close()
    await made.database.close()


ALL = [
    ("POST", "login", {"client": "x"}),
    ("POST", "login/answer", {"request": "A" * 43}),
    ("DELETE", "token", None),
    ("GET", "me", None),
    ("GET", "keys", None),
    ("POST", "keys", {"public_key": new_key().bare_line}),
    ("DELETE", "keys/SHA256%3Ax", None),
    ("POST", "servers/start", {"server": "gpu"}),
    ("POST", "servers/stop", {"server": ""}),
]
WITH_TOKEN = [each for each in ALL if not each[1].startswith("login")]


# who may ask


@pytest.mark.parametrize(("method", "path", "body"), ALL)
@pytest.mark.parametrize(
    "header", ["Origin: https://hub.example.org", "Origin: null", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
)
async def test_no_browser_is_answered(api: API, method: str, path: str, body: Any, header: str) -> None:
    """A script of a user server asks from the address, and with the cookies, of whoever visits it."""
    name, _, value = header.partition(": ")
    status, answer = await api.ask(method, path, body, token=await api.token(), headers={name: value})
    assert (status, answer["code"]) == (403, "POLICY_DENIED")
    assert (await api.ask("GET", "me", token=await api.token()))[0] == 200
    assert api.hub.started == api.hub.stopped == []


@pytest.mark.parametrize(("method", "path", "body"), WITH_TOKEN)
async def test_nothing_but_a_token_in_the_header_opens_it(api: API, method: str, path: str, body: Any) -> None:
    token = await api.token()
    for headers in (
        {},
        {"Authorization": f"token {token}"},
        {"Authorization": token},
        {"Authorization": f"Bearer {token[:-1]}"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"Cookie": f"service-ssh={token}; token={token}"},
        {"X-Forwarded-For": token},
    ):
        status, answer = await api.ask(method, f"{path}?token={token}", body, headers=headers)
        assert (status, answer["code"]) == (401, "TOKEN_INVALID")
        assert "jhssh login" in answer["message"]
    assert api.hub.started == api.hub.stopped == api.notes == []


async def test_a_refusal_names_the_scheme_and_stays_nowhere(api: API) -> None:
    answer = await api.raw("me")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Set-Cookie" not in answer.headers


async def test_an_expired_token_is_said_to_be_one(api: API) -> None:
    token = await api.token()
    api.clock.now += 31 * 86400
    status, answer = await api.ask("GET", "me", token=token)
    assert (status, answer["code"]) == (401, "TOKEN_EXPIRED")
    assert "jhssh login" in answer["message"]


@pytest.mark.parametrize("anew", [True, False])
async def test_a_user_who_is_gone_takes_their_tokens_along(api: API, anew: bool) -> None:
    token = await api.token()
    del api.hub.users["alice"]
    if anew:
        api.hub.make("alice", "2027")
    for _ in range(2):
        assert (await api.ask("GET", "me", token=token))[0] == 401
    api.hub.make("alice", "2026")
    assert (await api.ask("GET", "me", token=token))[0] == 401, "also when the Hub comes back with an older database"


async def test_a_hub_that_is_away_or_shows_no_times_loses_no_token(api: API) -> None:
    token = await api.token()
    api.hub.down = True
    status, answer = await api.ask("GET", "me", token=token)
    assert (status, answer["code"]) == (503, "HUB_UNAVAILABLE")
    api.hub.down = False
    api.hub.make("alice", "")
    assert (await api.ask("GET", "me", token=token))[0] == 503
    api.hub.make("alice", "2026")
    assert (await api.ask("GET", "me", token=token))[0] == 200


async def test_one_user_who_asks_much_holds_up_no_other(api: API) -> None:
    alices, bobs = await api.token(), await api.token("bob")
    api.hub.answers.clear()
    asking = [asyncio.create_task(api.ask("GET", "me", token=alices)) for _ in range(30)]
    await until(lambda: sum(task.done() for task in asking) >= 22)
    assert api.hub.asked == 8
    assert {task.result()[0] for task in asking if task.done()} == {429}
    bob = asyncio.create_task(api.ask("GET", "me", token=bobs))
    await until(lambda: api.hub.asked == 9)
    api.hub.answers.set()
    assert (await bob)[0] == 200
    await asyncio.gather(*asking)
    assert (await api.ask("GET", "me", token=alices))[0] == 200, "turns are given back"


async def test_without_its_parts_it_says_so(api: API) -> None:
    await api.serve(client_tokens=None, client_logins=None)
    for method, path, body in ALL:
        assert (await api.ask(method, path, body))[1]["code"] == "POLICY_DENIED"
    await api.serve(client_logins=None)
    status, answer = await api.ask("POST", "login", {"client": "x"})
    assert (status, answer["code"]) == (403, "POLICY_DENIED")
    assert (await api.ask("GET", "me", token=await api.token()))[0] == 200


async def test_a_gateway_that_is_not_wired_answers_too() -> None:
    app = make_app(PREFIX, health=Health(), metrics=Metrics(), hub=None, keys=None)
    server = HTTPServer(app)
    (listening,) = bind_sockets(0, "127.0.0.1")
    server.add_socket(listening)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}{PREFIX}api/me"
    answer = await AsyncHTTPClient(force_instance=True).fetch(url, raise_error=False)
    server.stop()
    await server.close_all_connections()
    assert (answer.code, json.loads(answer.body)["code"]) == (503, "UNAVAILABLE")


@pytest.mark.parametrize(("method", "path", "good"), [each for each in ALL if each[2]])
async def test_bodies_are_taken_strictly(api: API, method: str, path: str, good: dict[str, Any]) -> None:
    token, (name,) = await api.token(), good
    for body in (
        b"",
        b"[]",
        b"null",
        b"{}",
        b"{",
        b"[" * 3000,
        b"\xff",
        {**good, "more": 1},
        {name: 1},
        {name: None},
        {name: [good[name]]},
    ):
        status, answer = await api.ask(method, path, body, token=token)
        assert (status, answer["code"]) == (400, "BAD_REQUEST"), body
    status, answer = await api.ask(method, path, {name: "x" * 61_000}, token=token)
    assert (status, answer["code"]) == (413, "TOO_LARGE")
    assert (await api.ask("GET", "login"))[0] == 405


async def test_secrets_are_in_no_log(api: API, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = await api.token()
    api.hub.down = True
    await api.ask("GET", "me", token=token)
    api.hub.down = False
    await api.ask("DELETE", "token", token=token)
    _, asked = await api.ask("POST", "login", {"client": "x"})
    await api.ask("POST", "login/answer", {"request": asked["request"]})
    logged = caplog.text + str(api.notes)
    assert "The jhssh command was not answered" in logged
    for secret in (token, token.removeprefix("jhssh_"), asked["request"], asked["code"]):
        assert secret not in logged


# login


async def test_login_from_code_to_token(api: API) -> None:
    status, asked = await api.ask("POST", "login", {"client": "jhssh 0.1.0 on laptop"}, headers={"X-Forwarded-For": "192.0.2.7"})
    assert status == 201
    assert set(asked) == {"request", "code", "link", "expires_in", "interval"}
    assert (asked["link"], asked["expires_in"], asked["interval"]) == (LINK, 300, 1.0)

    async def answer(**more: str) -> tuple[int, Any]:
        return await api.ask("POST", "login/answer", {"request": asked["request"], **more})

    assert await answer() == (202, {"status": "waiting"})
    assert await answer(number="123456") == (202, {"status": "waiting"})
    found = await api.approvals.find("alice", asked["code"])
    assert found is not None
    assert (found.client, found.address) == ("jhssh 0.1.0 on laptop", "192.0.2.7")
    assert await api.approvals.claim(found.id, UserServer("alice"))
    number = await api.approvals.approve_by_number("alice", found.id, created="2026")
    assert number is not None
    assert await answer() == (202, {"status": "number"})
    for _ in range(10):
        status, said = await answer(number="not a number")
        assert (status, said["status"]) == (202, "number")
        assert "not the number" in said["message"]
    status, granted = await answer(number=f" {number[:3]} {number[3:]}\n")
    assert status == 200
    assert set(granted) == {"token", "user", "expires"}
    assert (granted["user"], granted["expires"]) == ("alice", int(api.clock.now) + 30 * 86400)
    assert (await answer(number=number))[1]["code"] == "APPROVAL_EXPIRED"
    assert (await api.ask("GET", "me", token=granted["token"]))[1]["user"] == "alice"
    (info,) = await api.tokens.list("alice", "2026")
    who = {"user": "alice", "client": "jhssh 0.1.0 on laptop", "address": "192.0.2.7", "token": info.id}
    assert api.notes == [("client token made", who)]


async def test_wrong_numbers_end_it(api: API) -> None:
    _, asked = await api.ask("POST", "login", {"client": "x"}, headers={"X-Forwarded-For": "192.0.2.7"})
    found = await api.approvals.find("alice", asked["code"])
    assert found is not None
    await api.approvals.claim(found.id, UserServer("alice"))
    number = await api.approvals.approve_by_number("alice", found.id, created="2026")
    assert number is not None
    wrong = "000000" if number != "000000" else "000001"
    for typed, status in ((wrong, 202), (wrong, 202), (wrong, 403), (number, 410)):
        found_status, answer = await api.ask("POST", "login/answer", {"request": asked["request"], "number": typed})
        assert found_status == status
        assert ("wrong 3 times" in answer["message"]) is (status == 403)
    assert api.notes == [("client login refused", {"user": "alice", "client": "x", "address": "192.0.2.7"})]


async def test_denied_and_unknown(api: API) -> None:
    _, asked = await api.ask("POST", "login", {"client": "x"})
    found = await api.approvals.find("alice", asked["code"])
    assert found is not None
    await api.approvals.claim(found.id, UserServer("alice"))
    await api.approvals.deny("alice", found.id)
    status, answer = await api.ask("POST", "login/answer", {"request": asked["request"]})
    assert (status, answer["code"]) == (403, "APPROVAL_DENIED")
    for other in (found.id, asked["code"], "", "x" * 43):
        status, answer = await api.ask("POST", "login/answer", {"request": other})
        assert (status, answer["code"]) == (410, "APPROVAL_EXPIRED")


async def test_logins_that_wait_are_bounded_for_an_address_that_nobody_can_claim(api: API) -> None:
    """What stands before the last hop is whatever a client sent."""
    for n in range(4):
        assert (await api.ask("POST", "login", {"client": "x"}, headers={"X-Forwarded-For": f"203.0.113.{n}, 192.0.2.7"}))[
            0
        ] == 201
    status, answer = await api.ask("POST", "login", {"client": "x"}, headers={"X-Forwarded-For": "203.0.113.9, 192.0.2.7"})
    assert (status, answer["code"]) == (429, "TOO_MANY_ATTEMPTS")
    assert (await api.ask("POST", "login", {"client": "x"}, headers={"X-Forwarded-For": "192.0.2.8"}))[0] == 201
    await api.serve(proxies=TrustedProxies([]))
    for n in range(4):
        assert (await api.ask("POST", "login", {"client": "x"}, headers={"X-Forwarded-For": f"203.0.113.{n}"}))[0] == 201
    assert (await api.ask("POST", "login", {"client": "x"}, headers={"X-Forwarded-For": "203.0.113.9"}))[0] == 429
    addresses = await api.database.run(
        lambda session: session.execute(text("SELECT DISTINCT address FROM approvals")).scalars().all()
    )
    assert sorted(addresses) == ["", "192.0.2.7", "192.0.2.8"]


async def test_logout_revokes_the_very_token(api: API) -> None:
    token, other = await api.token(), await api.token()
    id = (await api.tokens.find(token)).id
    assert await api.ask("DELETE", "token", token=token) == (204, None)
    assert (await api.ask("DELETE", "token", token=token))[0] == 401
    assert (await api.ask("GET", "me", token=other))[0] == 200
    who = {"user": "alice", "client": "jhssh on laptop", "address": "", "token": id}
    assert api.notes == [("client token revoked", who)]


async def test_of_two_who_log_out_at_once_one_is_noted(api: API) -> None:
    token = await api.token()
    api.hub.answers.clear()
    both = [asyncio.create_task(api.ask("DELETE", "token", token=token)) for _ in range(2)]
    await until(lambda: api.hub.asked == 2)
    api.hub.answers.set()
    assert await asyncio.gather(*both) == [(204, None)] * 2
    assert [event for event, _ in api.notes] == ["client token revoked"]


# me


async def test_me(api: API) -> None:
    status, me = await api.ask("GET", "me", token=await api.token())
    assert status == 200
    servers = {server["name"]: server for server in me.pop("servers")}
    assert me == {
        "user": "alice",
        "expires": int(api.clock.now) + 30 * 86400,
        "separator": "+",
        "connect": {
            "host": "ssh.example.org",
            "port": 2222,
            "published": True,
            "host_keys": [HOST_KEY.bare_line],
            "tunnel": "wss://hub.example.org/services/ssh/tunnel",
        },
    }
    assert servers[""] == {
        "name": "", "login_name": "alice", "ready": True, "pending": None, "ssh": True,
        "url": "https://hub.example.org/user/alice/",
    }  # fmt: skip
    assert servers["gpu"] == {
        "name": "gpu", "login_name": "alice+gpu", "ready": False, "pending": None, "ssh": False,
        "url": "https://hub.example.org/user/alice/gpu/",
    }  # fmt: skip
    assert servers["s1"]["ssh"] is None
    assert servers["s1"]["url"] == "https://hub.example.org/user/alice/s1/"


async def test_me_where_little_is_known(api: API) -> None:
    await api.serve(door=None, separator="", public_url="")
    name = "a b@x?"
    api.hub.users[name] = UserModel(
        name, {"": ServerModel("", True, None, state_known=False), "gpu": ServerModel("gpu", True, None)}, "2026"
    )
    _, me = await api.ask("GET", "me", token=await api.token(name))
    assert me["connect"] == {"host": "", "port": 22, "published": False, "host_keys": [], "tunnel": ""}
    found = [(server["login_name"], server["ssh"], server["url"]) for server in me["servers"]]
    assert found == [(name, None, "user/a%20b@x%3F/"), ("", False, "user/a%20b@x%3F/gpu/")]


@pytest.mark.parametrize("name", ["x\nMatch exec id\n#", "x\r", "x\0", "x\u2028y", "x\x1b[1m", "\ud800", "a/b", "x" * 256])
async def test_a_server_that_no_login_name_can_mean_is_left_out(api: API, name: str) -> None:
    api.hub.change(UserServer("alice", name), ServerModel(name, True, None, state=STATE))
    _, me = await api.ask("GET", "me", token=await api.token())
    servers = [server["name"] for server in me["servers"]]
    assert {"", "gpu"} < set(servers)
    assert name not in servers


async def test_servers_with_a_host_of_their_own_keep_it(api: API) -> None:
    api.hub.change(UserServer("alice"), ServerModel("", True, None, state=STATE, url="https://alice.hub.example.org/user/alice/"))
    _, me = await api.ask("GET", "me", token=await api.token())
    assert me["servers"][0]["url"] == "https://alice.hub.example.org/user/alice/"


# keys


async def test_keys_are_added_listed_and_removed(api: API) -> None:
    token, first, second = await api.token(), new_key("me@laptop"), new_key()
    lines = f"{first.bare_line} me@laptop\n{second.bare_line}\n"
    status, added = await api.ask("POST", "keys", {"public_key": lines}, token=token)
    assert status == 201
    assert [key["fingerprint"] for key in added["keys"]] == [first.fingerprint, second.fingerprint]
    status, answer = await api.ask("POST", "keys", {"public_key": lines}, token=token)
    assert (status, answer["code"]) == (409, "KEY_DUPLICATE")
    _, listed = await api.ask("GET", "keys", token=token)
    assert sorted(listed["keys"], key=lambda key: str(key["fingerprint"])) == sorted(
        added["keys"], key=lambda key: str(key["fingerprint"])
    )
    assert listed["keys"][0].keys() == {"fingerprint", "type", "comment", "public_key", "source", "server", "last_used"}
    (of_first,) = [key for key in listed["keys"] if key["fingerprint"] == first.fingerprint]
    assert of_first == {
        "fingerprint": first.fingerprint, "type": "ssh-ed25519", "comment": "me@laptop", "public_key": first.bare_line,
        "source": "page", "server": None, "last_used": None,
    }  # fmt: skip
    assert (await api.keys.list("alice", "2026"))[0].source == "client"
    assert (await api.ask("GET", "keys", token=await api.token("bob")))[1] == {"keys": []}
    path = "keys/" + quote(first.fingerprint, safe="")
    assert (await api.ask("DELETE", path, token=await api.token("bob")))[0] == 404
    assert await api.ask("DELETE", path, token=token) == (204, None)
    assert (await api.ask("DELETE", path, token=token))[0] == 404
    assert [event for event, _ in api.notes] == ["key added", "key added", "key removed"]
    assert api.notes[0][1]["client"] == "jhssh on laptop"


async def test_a_fingerprint_with_slashes_and_pluses_is_removed(api: API) -> None:
    while True:
        key = new_key()
        if "/" in key.fingerprint and "+" in key.fingerprint:
            break
    token = await api.token()
    for path in (quote(key.fingerprint, safe=""), quote(key.fingerprint, safe="/+:")):
        await api.keys.add("alice", "2026", key, "page")
        assert (await api.ask("DELETE", f"keys/{path}", token=token))[0] == 204


async def test_keys_that_stand_elsewhere_are_listed_and_removed_there(api: API) -> None:
    token, here, both, there = await api.token(), new_key(), new_key(), new_key()
    for key in (here, both):
        await api.keys.add("alice", "2026", key, "page")
    await api.keys.used("alice", both.fingerprint, "192.0.2.7")
    now = api.clock.now
    await KeyCopies(api.database, "server").store(
        UserServer("alice", "gpu"), Fetched(frozenset({there, both}), "spawn", "2026"), asked=now, changes=0
    )
    site_key = new_key()
    await KeyCopies(api.database, "github").store(
        UserServer("alice"), Fetched(frozenset({site_key}), "", "2026"), asked=now, changes=0
    )
    _, listed = await api.ask("GET", "keys", token=token)
    found = {key["fingerprint"]: (key["source"], key["server"], key["public_key"]) for key in listed["keys"]}
    assert found == {
        here.fingerprint: ("page", None, here.bare_line),
        both.fingerprint: ("page", None, both.bare_line),
        there.fingerprint: ("server", "gpu", there.bare_line),
        site_key.fingerprint: ("github", None, site_key.bare_line),
    }
    (used,) = [key["last_used"] for key in listed["keys"] if key["fingerprint"] == both.fingerprint]
    assert type(used) is int
    for key, where in ((there, "on that server"), (site_key, "on github")):
        status, answer = await api.ask("DELETE", "keys/" + quote(key.fingerprint, safe=""), token=token)
        assert (status, answer["code"]) == (409, "KEY_ELSEWHERE")
        assert where in answer["message"]


async def test_what_is_no_key_is_refused_with_a_sentence(api: API) -> None:
    token = await api.token()
    private = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    for line, status, code in (
        ("nonsense", 422, "KEY_MALFORMED"),
        ("", 422, "KEY_MALFORMED"),
        (private, 422, "KEY_PRIVATE"),
        (f'command="x" {new_key().bare_line}', 422, ""),
        ("x" * 17_000, 413, "TOO_LARGE"),
    ):
        found, answer = await api.ask("POST", "keys", {"public_key": line}, token=token)
        assert found == status, answer
        assert not code or answer["code"] == code
        assert "PRIVATE KEY" not in answer["message"]


async def test_keys_are_added_all_or_none_and_too_many_are_not_looked_at(api: API) -> None:
    token = await api.token()
    status, answer = await api.ask("POST", "keys", {"public_key": "x\n" * (MAX_KEYS + 1)}, token=token)
    assert (status, answer["code"]) == (409, "KEY_TOO_MANY")
    await api.keys.add_all("alice", "2026", [new_key() for _ in range(MAX_KEYS - 1)], "page")
    two = f"{new_key().bare_line}\n{new_key().bare_line}"
    for lines, status, code in ((two, 409, "KEY_TOO_MANY"), (f"{new_key().bare_line}\nnonsense", 422, "KEY_MALFORMED")):
        found, answer = await api.ask("POST", "keys", {"public_key": lines}, token=token)
        assert (found, answer["code"]) == (status, code)
    assert len(await api.keys.list("alice", "2026")) == MAX_KEYS - 1
    assert api.notes == []


async def test_where_keys_of_the_page_open_nothing_none_is_added_or_listed(api: API) -> None:
    token, key = await api.token(), new_key()
    await api.keys.add("alice", "2026", key, "page")
    await api.serve(keeps_keys=False)
    status, answer = await api.ask("POST", "keys", {"public_key": new_key().bare_line}, token=token)
    assert (status, answer["code"]) == (403, "POLICY_DENIED")
    assert await api.ask("GET", "keys", token=token) == (200, {"keys": []})
    assert len(await api.keys.list("alice", "2026")) == 1
    assert (await api.ask("DELETE", "keys/" + quote(key.fingerprint, safe=""), token=token))[0] == 204


@pytest.mark.parametrize("fingerprint", ["x", "SHA256:", "SHA256:%00" + "A" * 42, "MD5:00:11", "%F0%9F%98%80", "A" * 300])
async def test_what_is_no_fingerprint_is_not_looked_for(api: API, fingerprint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(api.keys, "remove", lambda user, fingerprint: looked.append(fingerprint))
    status, answer = await api.ask("DELETE", f"keys/{fingerprint}", token=await api.token())
    assert (status, answer["code"]) == (404, "KEY_UNKNOWN")
    assert looked == []


async def test_what_a_server_lists_that_is_no_key_hides_no_other(api: API) -> None:
    token, good, odd = await api.token(), new_key(), PublicKey("ssh-ed25519", b"\0\0\0")
    await KeyCopies(api.database, "server").store(
        UserServer("alice"), Fetched(frozenset({good, odd}), "spawn", "2026"), asked=api.clock.now, changes=0
    )
    _, listed = await api.ask("GET", "keys", token=token)
    assert good.bare_line in [key["public_key"] for key in listed["keys"]]


# servers


async def test_a_start_goes_over_the_saved_options_and_turns_ssh_on(api: API) -> None:
    token, gpu = await api.token(), UserServer("alice", "gpu")
    assert await api.ask("POST", "servers/start", {"server": "gpu", "options": {"image": "x"}}, token=token) == (
        202,
        {"status": "accepted"},
    )
    await until(lambda: api.hub.users["alice"].servers["gpu"].ready)
    assert api.hub.started == [(gpu, {"profile": "small", "enable_ssh": True, "image": "x"})]
    await until(lambda: not api.servers.message(gpu))
    (info,) = await api.tokens.list("alice", "2026")
    who = {"user": "alice", "client": "jhssh on laptop", "address": "", "token": info.id}
    assert api.notes == [("server started", {**who, "server": "gpu", "options": "image"})]


async def test_a_start_without_ssh_is_a_start(api: API) -> None:
    token, gpu = await api.token(), UserServer("alice", "gpu")
    await api.ask("POST", "servers/start", {"server": "gpu", "options": {"enable_ssh": False}}, token=token)
    await until(lambda: api.hub.users["alice"].servers["gpu"].ready)
    await until(lambda: not api.servers.message(gpu))
    assert api.hub.started[0][1]["enable_ssh"] is False


async def test_what_became_of_a_start_is_told(api: API) -> None:
    token, gpu = await api.token(), UserServer("alice", "gpu")
    api.hub.answer = StartAnswer("refused", "Too many GPUs\x1b[31m")
    api.hub.gate.clear()

    async def said() -> Any:
        _, me = await api.ask("GET", "me", token=token)
        model = next(server for server in me["servers"] if server["name"] == "gpu")
        return model["pending"], model.get("message")

    assert await said() == (None, None)
    await api.ask("POST", "servers/start", {"server": "gpu"}, token=token)
    await until(lambda: bool(api.hub.started))
    assert await said() == ("spawn", "Starting your server."), "though the Hub does not show it yet"
    api.hub.gate.set()
    await until(lambda: not api.servers.starting(gpu))
    assert await said() == (None, "Your server could not be started. The Hub says: Too many GPUs [31m")
    _, bobs = await api.ask("GET", "me", token=await api.token("bob"))
    assert not any("message" in server for server in bobs["servers"])


async def test_one_start_however_often_it_is_asked_for(api: API) -> None:
    token = await api.token()
    api.hub.gate.clear()
    for _ in range(3):
        assert (await api.ask("POST", "servers/start", {"server": "gpu"}, token=token))[0] == 202
    assert (await api.ask("POST", "servers/start", {"server": ""}, token=token))[0] == 202, "it runs"
    await until(lambda: bool(api.hub.started))
    assert len(api.hub.started) == 1


async def test_starts_of_one_user_are_bounded(api: API) -> None:
    token = await api.token()
    api.hub.gate.clear()
    statuses = [
        (await api.ask("POST", "servers/start", {"server": f"s{n}"}, token=token))[0] for n in range(MAX_STARTS_PER_USER + 1)
    ]
    assert statuses == [202] * MAX_STARTS_PER_USER + [429]
    assert (await api.ask("POST", "servers/start", {"server": "gpu"}, token=await api.token("bob")))[0] == 202


@pytest.mark.parametrize("name", ["typo", "../bob", "bob/gpu", "/", "gpu\n", "x" * 3000])
@pytest.mark.parametrize("verb", ["start", "stop"])
async def test_a_server_that_there_is_not_is_not_made(api: API, name: str, verb: str) -> None:
    status, answer = await api.ask("POST", f"servers/{verb}", {"server": name}, token=await api.token())
    assert (status, answer["code"]) == (404, "NOT_FOUND")
    assert api.hub.started == api.hub.stopped == []


async def test_options_are_bounded_and_for_a_start_alone(api: API) -> None:
    token = await api.token()
    for server, options, status in (
        ("gpu", {"x": "y" * 4096}, 400),
        ("gpu", {"x": "y" * 9000}, 413),
        ("gpu", ["x"], 400),
        ("", {"profile": "gpu"}, 409),
    ):
        assert (await api.ask("POST", "servers/start", {"server": server, "options": options}, token=token))[0] == status
    api.hub.change(UserServer("alice", "gpu"), ServerModel("gpu", True, "stop", state=STATE))
    assert (await api.ask("POST", "servers/start", {"server": "gpu"}, token=token))[0] == 409
    assert api.hub.started == []


async def test_a_server_is_stopped(api: API) -> None:
    token = await api.token()
    assert (await api.ask("POST", "servers/stop", {"server": ""}, token=token))[0] == 202
    assert api.hub.stopped == [UserServer("alice")]
    assert api.notes[0][0] == "server stopped"
    api.hub.stop_answer = "alice is pending spawn"
    status, answer = await api.ask("POST", "servers/stop", {"server": ""}, token=token)
    assert (status, answer["message"]) == (409, "alice is pending spawn")
