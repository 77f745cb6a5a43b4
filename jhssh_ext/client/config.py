"""``jhssh config``: the hubs' hosts in ssh's own configuration, which stays the user's: nothing outside the block is touched."""

from __future__ import annotations

import difflib
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..identifiers import printable
from . import hubs, ssh_client, ssh_config
from .failures import Failure, LoginNeeded
from .hub_api import refreshed
from .output import Progress, note, say
from .paths import expanded

AUTO, TUNNEL, DIRECT = "auto", "tunnel", "direct"
PROBE_TIMEOUT = 3.0
PROBE_HOST = "jhssh-probe.invalid"
FEW = 20
"""hosts that ssh reads in a moment"""


@dataclass(frozen=True)
class Written:
    """What ssh is to read."""

    hosts: list[ssh_config.Host]
    known_hosts: str


def config(
    *, write: bool = False, dry_run: bool = False, way: str | None = None, hub: str | None = None, file: str | None = None
) -> None:
    """Prints the block, or writes it. ``way``: from now on, for ``hub`` (else for all). Raises Failure."""
    if hub is not None:
        hubs.choose(hub)  # raises where there is none of that name
    known = _asked(hubs.load())
    if way is not None:
        known = [replace(each, way=way) if hub in (None, each.name) else each for each in known]
        if not dry_run:
            for each in known:
                hubs.save(each)
    if not known and not (write or dry_run):
        raise LoginNeeded("You are not logged in to any hub. Log in: jhssh login https://hub.example.org")
    path = expanded(file) if file else ssh_client.folder() / "config"
    known_hosts_path = ssh_client.folder() / "jhssh_known_hosts"
    wanted = Written(sections(known), ssh_config.known_hosts(known))
    text = ssh_config.block(wanted.hosts, known_hosts_file=_slashes(known_hosts_path), command=own_command())
    if not (write or dry_run):
        say(text.rstrip("\n"))
        note(f"\nThis goes to the top of {path}, and into {known_hosts_path}:")
        note(wanted.known_hosts + "\n`jhssh config --write` does both.")
        return
    before = _read(path)
    try:
        after = ssh_config.replaced(before, text if wanted.hosts else "")
    except ssh_config.BrokenMarkers as error:
        raise Failure(f"{path} was not changed: the block of jhssh is damaged: {error}. Mend or remove it.") from None
    changes = [(path, before, after), (known_hosts_path, _read(known_hosts_path), wanted.known_hosts if wanted.hosts else "")]
    changes = [change for change in changes if change[1] != change[2]]
    if dry_run:
        for change in changes:
            say(_difference(*change))
        if not changes:
            note("Nothing would change.")
        return
    _check(path, before, after, wanted.hosts)
    for change in reversed(changes):  # the keys first: the hosts need them
        _write(*change)
    _tell(path, changed=bool(changes), sections_=wanted.hosts)


def sections(known: Iterable[hubs.Hub], named: Container[str] | None = None) -> list[ssh_config.Host]:
    """All hosts of all hubs, each by the way that works from here. Of those left out, the ``named`` ones are told; None: all."""
    found = []
    for hub in known:
        of_hub = ssh_config.hosts(hub, tunnel=by_tunnel(hub))
        left_out = [each for each in hub.servers if not ssh_config.takes(each.login_name)]
        for each in left_out:
            if named is None or each.host in named:
                note(f"{each.host} is left out: {_why_left_out(each)}")
        if not of_hub and hub.kind == hubs.TOKEN:
            note(f"{hub.name}: no server of yours takes SSH right now. See why: jhssh servers list")
        elif not hub.servers:
            note(f"{hub.name}: no server of yours has a name that SSH could take.")
        elif not of_hub and not left_out:
            note(f"{hub.name}: the hub says no way by which ssh could reach it. Ask its admin.")
        found += of_hub
    return found


def _why_left_out(server: hubs.KnownServer) -> str:
    if not server.login_name:
        return "its hub has no login name for it."
    return f"its login name {printable(server.login_name)} holds what a shell would act on. Make a server with a plainer name."


def by_tunnel(hub: hubs.Hub) -> bool:
    """Through the Hub's own HTTPS? Where the user does not say: if the SSH port can't be reached from here."""
    if hub.kind == hubs.TOKEN or hub.way == TUNNEL:
        return True
    if hub.way == DIRECT or not hub.tunnel:
        return False
    return not (hub.published and hub.ssh_port and reachable(hub.ssh_host, hub.ssh_port))


def reachable(host: str, port: int) -> bool:
    """Does something that speaks SSH answer there? (A captive portal accepts connections to any port.)"""
    try:
        with socket.create_connection((host, port), timeout=PROBE_TIMEOUT) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def own_command() -> list[str]:
    """How this very command is run from anywhere: its absolute path, or this Python."""
    invoked = Path(sys.argv[0])
    if invoked.stem == "jhssh":
        found = shutil.which(sys.argv[0])
        if found:
            return [_slashes(Path(found).absolute())]
    return [_slashes(Path(sys.executable)), "-m", __name__.rpartition(".")[0]]


def _asked(known: dict[str, hubs.Hub]) -> list[hubs.Hub]:
    """Each as its hub tells it now, else as it was remembered."""
    found = []
    for hub in known.values():
        try:
            found.append(refreshed(hub)[0])
        except Failure as error:
            note(f"{hub.name}: {error.sentence} What was known before is used.")
            found.append(hub)
    return found


def _read(path: Path) -> str:
    """Byte for byte, whatever its encoding; empty where there is none. Raises Failure."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Failure(f"{path} can't be read: {error.strerror or error}.") from None


def _write(path: Path, before: str, text: str) -> None:
    """Whole or not at all; a link stays a link, and the file keeps its mode. Raises Failure, also if it is not as before."""
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.stat().st_mode & stat.S_IWUSR:
            raise Failure(f"{path} was not changed: it is read-only. If it is to be written: chmod u+w {path}")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(prefix=".jhssh-", dir=target.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
            if target.exists():
                shutil.copymode(target, temporary)
            if _read(path) != before:
                raise Failure(f"{path} was not changed: something else has just written it. Run this again.")
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror or error}.") from None


def _check(path: Path, before: str, after: str, wanted: list[ssh_config.Host]) -> None:
    """Asks ssh itself whether it understands the file as it is, and means the hosts by the new one. Raises Failure."""
    if shutil.which("ssh") is None:
        note("There is no ssh on this computer that could check the configuration.")
        return
    with tempfile.TemporaryDirectory(prefix="jhssh-") as folder:
        trial = Path(folder) / "config"
        trial.write_bytes(before.encode("utf-8", "surrogateescape"))
        said = ssh_client.read(trial, PROBE_HOST)
        if isinstance(said, str):
            raise Failure(f"{path} was not changed: ssh itself rejects it: {said.replace(str(trial), str(path))}")
        trial.write_bytes(after.encode("utf-8", "surrogateescape"))
        progress = Progress()
        try:
            for host in wanted:
                if len(wanted) > FEW:
                    progress.show(f"Checking how ssh reads {len(wanted)} hosts …")
                _check_host(path, trial, host)
        finally:
            progress.clear()


def _check_host(path: Path, trial: Path, host: ssh_config.Host) -> None:
    found = ssh_client.read(trial, host.name)
    if isinstance(found, str):
        raise Failure(f"{path} was not changed: ssh would reject it: {found.replace(str(trial), str(path))}")
    if found.get("hostkeyalias") != [host.host_key_alias] or found.get("user") != [host.user]:
        raise Failure(
            f"{path} was not changed: for {host.name} something else in it counts before the block of jhssh "
            f"(user {printable(' '.join(found.get('user', [])))}). Move the block to the top."
        )


def _difference(path: Path, before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), str(path), lineterm="")
    return "\n".join(line.encode("utf-8", "replace").decode() for line in lines)


def _tell(path: Path, *, changed: bool, sections_: list[ssh_config.Host]) -> None:
    state = "is written" if sections_ else "has no hosts of hubs any more"
    note(f"{path} {state if changed else 'was already as it should be'}.")
    for host in sections_:
        note(f"  ssh {host.name}{'   (through the Hub)' if host.tunnel and host.hub.kind == hubs.GATEWAY else ''}")


def _slashes(path: Path) -> str:
    """As ssh on Windows takes it too: there a backslash would escape."""
    return path.as_posix()
