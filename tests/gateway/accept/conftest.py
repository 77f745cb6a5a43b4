"""A gateway's SSH side in this process: real SSH on both hops, a Hub and a user server that the test controls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio

from jhssh_ext.errors import HubUnavailable, JHSSHError
from jhssh_ext.gateway.accept.entry import Entry
from jhssh_ext.gateway.accept.limits import ConnectionLimits, FailureBudget
from jhssh_ext.gateway.accept.services import Rules, Services
from jhssh_ext.gateway.accept.ssh_server import ClientConnection, make_options
from jhssh_ext.gateway.authenticate.authentication import Authentication
from jhssh_ext.gateway.authenticate.key_cache import KeyCache
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.authenticate.key_sources.user_server import UserServerKeys
from jhssh_ext.gateway.authenticate.login import Login
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.gateway.authenticate.sessions import Sessions
from jhssh_ext.gateway.connect.hub_models import ServerModel, TokenModel, UserModel
from jhssh_ext.gateway.connect.routes import DIRECT, Routes
from jhssh_ext.gateway.connect.upstream import Upstream
from jhssh_ext.gateway.connect.user_ca import UserCA
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.identifiers import PRINCIPAL, opaque_id
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState
from jhssh_ext.public_keys import PublicKey, parse_line

FLOOR = 0.3
CREATED = "2026-01-01T00:00:00Z"
"""when all users were made"""
ALICE = UserServer("alice")
BOTH = UserServer("carol", "gpu")
TOKEN = "t" * 32


class FakeHub:
    """What authentication asks of the Hub; counts the questions."""

    def __init__(self) -> None:
        self.users = {name: UserModel(name, {"": ServerModel("", True, None)}, CREATED) for name in ("alice", "bob", "carol+gpu")}
        self.users["carol"] = UserModel("carol", {name: ServerModel(name, True, None) for name in ("", "gpu")}, CREATED)
        self.tokens: dict[str, TokenModel] = {}
        self.asked: list[str] = []
        self.down = False

    async def user(self, name: str) -> UserModel | None:
        self.asked.append(f"user {name}")
        if self.down:
            raise HubUnavailable
        return self.users.get(name)

    async def identify(self, token: str) -> TokenModel | None:
        self.asked.append("identify")
        if self.down:
            raise HubUnavailable
        return self.tokens.get(token)


@dataclass
class FakeStarter:
    """Gives the state of the one user server there is; says progress, waits for ``gate`` and raises ``failure`` where told to."""

    state: ServerState
    progress: list[str] = field(default_factory=list)
    failure: JHSSHError | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[UserServer] = field(default_factory=list)
    starts: bool = False

    async def running(self, target: UserServer, *, may_start: bool, on_progress: object) -> tuple[ServerState, bool]:
        assert callable(on_progress)
        self.asked.append(target)
        for line in self.progress:
            on_progress(line)
        self.waiting.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.state, self.starts


@dataclass
class Record:
    """What the observer was told."""

    refusals: list[tuple[str, str]] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    ended: list[Login] = field(default_factory=list)
    end: asyncio.Event = field(default_factory=asyncio.Event)

    def unauthenticated(self, count: int) -> None:
        assert count >= 0

    def refused(self, address: str, login_name: str, method: str, code: str) -> None:
        self.refusals.append((login_name, code))

    def opened(self, login: Login) -> None:
        self.logins.append(login)

    def closed(self, login: Login, from_client: int, from_server: int) -> None:
        self.ended.append(login)
        self.end.set()


@dataclass
class Door:
    """The gateway under test, and its surroundings."""

    port: int
    hub: FakeHub
    starter: FakeStarter
    services: Services
    record: Record
    fetches: list[UserServer]
    keys: dict[UserServer, set[PublicKey]]
    key: asyncssh.SSHKey
    data: list[int]
    options: asyncssh.SSHServerConnectionOptions

    def register(self, target: UserServer, key: asyncssh.SSHKey) -> None:
        self.keys.setdefault(target, set()).add(parse_line(key.export_public_key().decode()))

    async def connect(self, user: str, **keywords: object) -> asyncssh.SSHClientConnection:
        options: dict[str, object] = {
            "client_keys": None, "known_hosts": None, "agent_path": None, "config": None, "gss_host": None,
            "preferred_auth": ["publickey", "password"], **keywords,
        }  # fmt: skip
        return await asyncssh.connect("127.0.0.1", self.port, username=user, **options)  # type: ignore[arg-type]


class Activity:
    def __init__(self) -> None:
        self.data: list[int] = []

    def saw_data(self, target: UserServer, count: int) -> None:
        self.data.append(count)


class UserServerSSH(asyncssh.SSHServer):
    """Lets in who has a certificate for alice's server."""

    def __init__(self, ca: asyncssh.SSHKey, principal: str) -> None:
        self._ca, self._principal = ca.public_data, principal

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key.public_data == self._ca


async def _echo(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(b"ran " + (process.command or "shell").encode() + b"\n")
    async for chunk in process.stdin:
        process.stdout.write(chunk)
    process.exit(3)


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    ca = asyncssh.generate_private_key("ssh-ed25519")
    server_host_key = asyncssh.generate_private_key("ssh-ed25519")
    principal = opaque_id(PRINCIPAL, "hub", "alice", "")
    user_server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: UserServerSSH(ca, principal),
        server_host_keys=[server_host_key],
        process_factory=_echo,
        encoding=None,
        # asyncssh asks for the SSH user name among the principals
    )
    state = ServerState(
        host="127.0.0.1",
        port=user_server.get_port(),
        user=principal,
        host_key=server_host_key.export_public_key().decode().strip(),
        url="http://127.0.0.1:1/",
        secret="s" * 64,
        spawn="1",
        hub_id="hub",
    )
    hub, starter, record, activity = FakeHub(), FakeStarter(state), Record(), Activity()
    starter.gate.set()
    keys: dict[UserServer, set[PublicKey]] = {}
    fetches: list[UserServer] = []

    async def fetch(target: UserServer) -> Fetched:
        fetches.append(target)
        if hub.down:
            raise HubUnavailable
        return Fetched(frozenset(keys.get(target, set())), starter.state.spawn)

    database = Database(sqlite_url(str(tmp_path / "gateway.sqlite")))
    await database.migrate()
    cache = KeyCache(KeyCopies(database, "server"), fetch)
    registered = RegisteredKeys([UserServerKeys(cache)])
    sessions = Sessions(database, poll=0.05)
    services = Services(
        rules=Rules(max_auth_tries=4, failure_floor=5, known_key_wait=60),
        limits=ConnectionLimits(unauthenticated=8, unauthenticated_per_address=6, per_user=3),
        failures=FailureBudget(burst=20, per_minute=0),
        authentication=Authentication(hub, registered, separator="+", allow_shared_servers=False),  # type: ignore[arg-type]
        entry=Entry(starter, Upstream(UserCA(ca), Routes(DIRECT, ping_interval=30), timeout=1), registered),  # type: ignore[arg-type]
        activity=activity,  # type: ignore[arg-type]
        sessions=sessions,
        observer=record,
        log=logging.getLogger("test"),
    )
    loop = asyncio.get_running_loop()
    options = await make_options(server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], login_timeout=60)
    listener = await loop.create_server(lambda: ClientConnection(loop, options, services), "127.0.0.1", 0)
    key = asyncssh.generate_private_key("ssh-ed25519")
    made = Door(listener.sockets[0].getsockname()[1], hub, starter, services, record, fetches, keys, key, activity.data, options)
    yield made
    listener.close()
    for connection in list(services.connections):
        connection.abort()
        await connection.wait_closed()
    await cache.close()
    await sessions.close()
    await database.close()
    user_server.close()
    await user_server.wait_closed()


@pytest.fixture
def hasty(door: Door) -> None:
    """Refusals take FLOOR, and not what a key may take on a busy machine until it is fetched."""
    door.services.rules = replace(door.services.rules, failure_floor=FLOOR)
