"""What the command asks of a hub: the gateway's JSON API, parsed strictly. Names are as the Hub has them, sentences printable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from ..errors import KeyRefused
from ..identifiers import printable
from ..login_names import MAX_LOGIN_NAME, candidates
from ..public_keys import listed_key
from . import hubs, tokens
from .failures import Failure, LoginNeeded
from .host_names import host_names
from .http_client import Client
from .tls import is_loopback

HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
"""a name or an address: nothing that ssh's configuration could take for something else"""
MAX_SERVERS, MAX_HOST_KEYS, MAX_HOST, MAX_TUNNEL = 1000, 20, 253, 2000
MAX_SECONDS = 1e11
"""the year 5138"""

T = TypeVar("T")


@dataclass(frozen=True)
class Connect:
    """How ssh gets to the gateway."""

    host: str = ""
    port: int = 0
    published: bool = False
    host_keys: tuple[str, ...] = ()
    tunnel: str = ""


@dataclass(frozen=True)
class Server:
    """One user server as the hub tells it now."""

    name: str
    login_name: str
    """empty: none, so no SSH (a named server where the gateway has no separator)"""
    ready: bool
    pending: str = ""
    """``spawn``, ``stop`` or nothing"""
    ssh: bool | None = None
    """is SSH on; None: not known, since it does not run"""
    url: str = ""
    message: str = ""
    """what went wrong at the last start"""
    tunnel: str = ""
    host_keys: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        return {"spawn": "starting", "stop": "stopping"}.get(self.pending) or ("running" if self.ready else "stopped")


@dataclass(frozen=True)
class Me:
    user: str
    expires: float
    """when the token does, in seconds since 1970; 0: not known"""
    connect: Connect
    servers: tuple[Server, ...]

    def server(self, name: str) -> Server | None:
        return next((each for each in self.servers if each.name == name), None)


@dataclass(frozen=True)
class Key:
    fingerprint: str
    type: str
    comment: str
    public_key: str
    source: str
    server: str | None = None
    """of a key on one of the user's servers, which"""
    last_used: float | None = None


class Account(Protocol):
    """The user's own things on one hub. All raise Failure."""

    def me(self) -> Me: ...
    def registered_keys(self) -> list[Key]: ...
    def add_keys(self, text: str) -> list[Key]: ...
    def remove_key(self, fingerprint: str) -> None: ...
    def start(self, server: str, options: Mapping[str, Any]) -> None: ...
    def stop(self, server: str) -> None: ...
    def forget_token(self) -> None: ...


def account(hub: hubs.Hub, server: str = "") -> Account:
    """With the token that is kept for it. Raises LoginNeeded.

    ``server`` matters where there is no gateway: keys are then on each server.
    """
    token = tokens.load(hub.token_key)
    if not token:
        raise LoginNeeded(f"There is no token for {hub.name} here. {login_again(hub)}")
    if hub.kind == hubs.TOKEN:
        from .own_servers import OwnServers  # here, since it is the rarer way

        return OwnServers(hub, token, server)
    return Gateway(hub, token)


def login_again(hub: hubs.Hub) -> str:
    """The command that does it."""
    command = f"jhssh login {hub.url} --name {hub.name}"
    if hub.kind == hubs.TOKEN:
        command += " --token"
    elif not hub.service.endswith("/ssh/"):
        command += f" --service {service_name(hub)}"
    return f"Log in again: {command}"


def service_name(hub: hubs.Hub) -> str:
    """What its gateway is called among the Hub's services, as in its URL."""
    return hub.service.rstrip("/").rpartition("/")[2]


class Gateway:
    """docs/architecture.md, "The API for the jhssh command". ``token``: of the gateway's own making."""

    def __init__(self, hub: hubs.Hub, token: str) -> None:
        self._hub = hub
        self._client = Client(hub.service, ca_file=hub.ca_file, plain_http=hub.plain_http, authorization=f"Bearer {token}")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        try:
            return self._client.call(method, f"api/{path}", body)
        except LoginNeeded as error:
            what = error.sentence.partition(" Run: ")[0].rstrip(".")  # the gateway doesn't know what the hub is called here
            raise LoginNeeded(f"{what}. {login_again(self._hub)}", code=error.code) from None

    def me(self) -> Me:
        return read_me(self._call("GET", "me").object, self._hub)

    def registered_keys(self) -> list[Key]:
        return read_keys(self._call("GET", "keys").object)

    def add_keys(self, text: str) -> list[Key]:
        return read_keys(self._call("POST", "keys", {"public_key": text}).object)

    def remove_key(self, fingerprint: str) -> None:
        self._call("DELETE", f"keys/{quote(fingerprint, safe='')}")

    def start(self, server: str, options: Mapping[str, Any]) -> None:
        self._call("POST", "servers/start", {"server": server, **({"options": dict(options)} if options else {})})

    def stop(self, server: str) -> None:
        self._call("POST", "servers/stop", {"server": server})

    def forget_token(self) -> None:
        self._client.call("DELETE", "api/token")


def known(hub: hubs.Hub, me: Me) -> hubs.Hub:
    """What is to be remembered of ``hub`` after it told ``me``."""
    names = host_names(me.user, [each.name for each in me.servers], hub.name)
    before = {each.name: each for each in hub.servers}
    connect = me.connect
    return replace(
        hub,
        user=me.user,
        expires=me.expires,
        ssh_host=connect.host,
        ssh_port=connect.port,
        published=connect.published,
        tunnel=connect.tunnel,
        host_keys=connect.host_keys,
        servers=tuple(_known_server(each, names[each.name], before.get(each.name)) for each in me.servers),
    )


def _known_server(server: Server, host: str, before: hubs.KnownServer | None) -> hubs.KnownServer:
    """What only a running server tells stays known while it is stopped."""
    if before is not None and before.tunnel and not server.tunnel:
        return replace(before, host=host)
    return hubs.KnownServer(server.name, server.login_name, host, server.tunnel, server.host_keys)


def remembered(hub: hubs.Hub, me: Me) -> hubs.Hub:
    """The same, and written down where it changed. Raises Failure."""
    now = known(hub, me)
    if now != hub:
        hubs.save(now)
    return now


def refreshed(hub: hubs.Hub) -> tuple[hubs.Hub, Me]:
    """Asks the hub, and remembers what changed. Raises Failure."""
    me = account(hub).me()
    return remembered(hub, me), me


def read_me(model: dict[str, Any], hub: hubs.Hub) -> Me:
    """``GET /api/me``. Raises Failure."""
    connect = field(model, "connect", dict)
    host = field(connect, "host", str) or urlsplit(hub.url).hostname or ""
    port = field(connect, "port", int)
    tunnel = field(connect, "tunnel", str)
    if len(host) > MAX_HOST or not HOST.fullmatch(host) or not 0 <= port < 65536 or (tunnel and not good_tunnel(tunnel, hub)):
        raise not_understood("connect")
    found = [_server(each) for each in field(model, "servers", list)[:MAX_SERVERS]]
    return Me(
        user=field(model, "user", str),
        expires=seconds(model.get("expires")) or 0.0,
        connect=Connect(host, port, field(connect, "published", bool), host_keys(field(connect, "host_keys", list)), tunnel),
        servers=tuple(each for each in found if _can_be(each)),
    )


def _can_be(server: Server) -> bool:
    """What no login name can mean is of no use here, and may hold a newline."""
    return len(server.name) <= MAX_LOGIN_NAME and (not server.login_name or bool(candidates(server.login_name)))


def _server(model: Any) -> Server:
    ssh = model.get("ssh")
    message = model.get("message")
    return Server(
        name=field(model, "name", str),
        login_name=field(model, "login_name", str),
        ready=field(model, "ready", bool),
        pending=model.get("pending") if model.get("pending") in ("spawn", "stop") else "",
        ssh=ssh if isinstance(ssh, bool) else None,
        url=printable(field(model, "url", str), 1000),
        message=printable(message, 500) if isinstance(message, str) else "",
    )


def read_keys(model: dict[str, Any]) -> list[Key]:
    """``GET /api/keys`` and ``GET /publickey``. Raises Failure."""
    return [
        Key(
            fingerprint=printable(field(each, "fingerprint", str)),
            type=printable(field(each, "type", str)),
            comment=printable(field(each, "comment", str)),
            public_key=printable(field(each, "public_key", str), 20_000),
            source=printable(field(each, "source", str)),
            server=printable(each["server"]) if isinstance(each.get("server"), str) else None,
            last_used=seconds(each.get("last_used")),
        )
        for each in field(model, "keys", list)
    ]


def host_keys(lines: list[Any]) -> tuple[str, ...]:
    """``type base64`` of each line that is a public key; others are for newer versions than this."""
    found = []
    for line in lines[:MAX_HOST_KEYS]:
        if isinstance(line, str):
            try:
                key = listed_key(line)
            except KeyRefused:
                continue
            found.append(" ".join(key.line.split(" ")[:2]))
    return tuple(dict.fromkeys(found))


def good_tunnel(url: str, hub: hubs.Hub) -> bool:
    """Is it a WebSocket that nobody can listen to, or whose hub is reached without TLS anyway?"""
    if len(url) > MAX_TUNNEL or re.search(r"[\s\"'\\\x00-\x1f]", url):
        return False
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            return False
    except ValueError:
        return False
    return parts.scheme == "wss" or (parts.scheme == "ws" and (hub.plain_http or is_loopback(parts.hostname)))


def field(model: Any, name: str, kind: type[T]) -> T:
    """The value of that type. Raises Failure."""
    value = model.get(name) if isinstance(model, dict) else None
    if type(value) is not kind:
        raise not_understood(name)
    return value


def seconds(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_SECONDS
    return float(value) if known else None


def not_understood(what: str) -> Failure:
    return Failure(f"The hub's answer makes no sense to this version of jhssh ({what}). Update it.")
