"""The hubs that the user is logged in to, remembered in ``hubs.json``: what `jhssh proxy` needs to ask nobody. No tokens.

On the path of every connection: it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .failures import Failure, LoginNeeded, WrongUsage
from .paths import home

GATEWAY = "gateway"
TOKEN = "token"  # noqa: S105  the kind's name
MAX_FILE, MAX_HUB = 4 << 20, 256 << 10
"""bytes of a file of ours, and of one hub in it: no hub's answer crowds the others out"""


@dataclass(frozen=True)
class KnownServer:
    """One user server as it was when the Hub was last asked."""

    name: str
    login_name: str
    host: str
    """by which ssh knows it, as ``alice-gpu.hub``"""
    tunnel: str = ""
    """its own WebSocket, where there is no gateway"""
    host_keys: tuple[str, ...] = ()
    """of its own sshd, where there is no gateway"""


@dataclass(frozen=True)
class Hub:
    """``kind``: ``gateway``, or ``token`` where the hub has none and the user's own token is used."""

    name: str
    url: str
    kind: str
    user: str
    service: str = ""
    """base URL of the gateway; ends with a slash"""
    ca_file: str = ""
    plain_http: bool = False
    expires: float = 0.0
    """when the token does, in seconds since 1970; 0: not known"""
    ssh_host: str = ""
    ssh_port: int = 0
    published: bool = False
    """can users reach that port, as the gateway says"""
    tunnel: str = ""
    host_keys: tuple[str, ...] = ()
    servers: tuple[KnownServer, ...] = ()
    way: str = "auto"
    """which the user wants: ``direct``, ``tunnel``, or what works (``auto``)"""

    @property
    def token_key(self) -> str:
        """Under what the token is kept: with the name, since a user may have two accounts on one hub."""
        return f"{self.name} {self.service or self.url}"

    def server_of_host(self, host: str) -> KnownServer | None:
        return next((each for each in self.servers if each.host == host.lower()), None)


def folder() -> Path:
    """Where this command keeps its files; each system has its own place."""
    given = os.environ.get("JHSSH_CONFIG_DIR")
    if given:
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or home() / "AppData/Roaming") / "jhssh"
    if sys.platform == "darwin":
        return home() / "Library/Application Support/jhssh"
    given = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(given) if given.startswith("/") else home() / ".config") / "jhssh"


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by its owner alone. Raises Failure."""
    import tempfile  # here: `jhssh proxy` writes nothing

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror or error}.") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of ours; empty where there is no such file. Raises Failure."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE)
        found = json.loads(text)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Failure(f"{path} can't be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Failure(f"{path} is damaged. Remove it and log in again: jhssh login https://…")
    return found


def hubs_file() -> Path:
    return folder() / "hubs.json"


def load() -> dict[str, Hub]:
    """By name. Raises Failure."""
    listed = read_json(hubs_file()).get("hubs", {})
    try:
        return {name: _hub(name, model) for name, model in listed.items()}
    except (AttributeError, TypeError, KeyError, ValueError):
        raise Failure(f"{hubs_file()} is damaged. Remove it and log in again: jhssh login https://…") from None


def save(hub: Hub) -> None:
    """Puts it in the place of what was known by that name. Raises Failure."""
    if len(json.dumps(asdict(hub))) > MAX_HUB:
        raise Failure(f"{hub.name} has more servers and keys than jhssh can remember.")
    _write({**load(), hub.name: hub})


def forget(name: str) -> None:
    _write({each: hub for each, hub in load().items() if each != name})


def choose(name: str | None = None) -> Hub:
    """The hub of that name; where none is given the only one, or that of ``JHSSH_HUB``. Raises LoginNeeded, WrongUsage."""
    hubs = load()
    wanted = name or os.environ.get("JHSSH_HUB")
    if wanted:
        if wanted in hubs:
            return hubs[wanted]
        known = f" Known: {', '.join(hubs)}." if hubs else ""
        raise LoginNeeded(f"No hub is called {wanted!r} here.{known} Log in: jhssh login https://… --name {wanted}")
    if not hubs:
        raise LoginNeeded("You are not logged in to any hub. Log in: jhssh login https://hub.example.org")
    if len(hubs) > 1:
        raise WrongUsage(f"Which hub? Say --hub NAME, or set JHSSH_HUB. Known: {', '.join(hubs)}.")
    return next(iter(hubs.values()))


def of_host(host: str) -> Hub:
    """The hub to which a host name as ``alice-gpu.hub`` belongs. Raises WrongUsage, LoginNeeded."""
    hubs = load()
    hub_name = host.lower().rpartition(".")[2]
    if hub_name in hubs:
        return hubs[hub_name]
    if "." not in host:
        raise WrongUsage(f"{host} is no host of a hub. They look like alice.hub: jhssh servers list")
    raise LoginNeeded(f"{host} is on no hub that is known here. Log in: jhssh login https://… --name {hub_name}")


def _write(hubs: dict[str, Hub]) -> None:
    models = {name: {key: value for key, value in asdict(hub).items() if key != "name"} for name, hub in hubs.items()}
    text = json.dumps({"hubs": models}, indent=1) + "\n"
    if len(text) >= MAX_FILE:
        raise Failure("There are more hubs than jhssh can remember. Log out of one: jhssh logout --hub NAME")
    write_private(hubs_file(), text)


def _hub(name: str, model: dict[str, Any]) -> Hub:
    servers = tuple(KnownServer(**{**each, "host_keys": tuple(each.get("host_keys", ()))}) for each in model.get("servers", ()))
    hub = Hub(name=name, **{key: value for key, value in model.items() if key not in ("servers", "host_keys")})
    if not isinstance(hub.url, str) or hub.kind not in (GATEWAY, TOKEN) or not isinstance(hub.tunnel, str):
        raise ValueError(name)
    return replace(hub, servers=servers, host_keys=tuple(model.get("host_keys", ())))
