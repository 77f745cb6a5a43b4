"""``jhssh ssh|scp|rsync|sftp``: the real tools, with the hubs' hosts known to them, written into the user's file or not."""

from __future__ import annotations

import getopt
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from . import config, hubs, ssh_client, ssh_config
from .failures import Failure
from .hub_api import refreshed
from .output import note

SSH_OPTIONS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"
"""ssh(1); its options with an argument have a colon"""


def run(tool: str, arguments: list[str]) -> int:
    """Becomes the tool where the system allows it, else waits for it; its exit status. Raises Failure."""
    found = shutil.which(tool)
    if found is None:
        raise Failure(f"There is no {tool} on this computer. Install it{' (OpenSSH)' if tool != 'rsync' else ''}.")
    if tool == "ssh":
        arguments = [*arguments, *_missing_host(arguments)]
    file = written(arguments)
    command, environment = [found, "-F", str(file), *arguments], dict(os.environ)
    if tool == "rsync":
        command = [found, *arguments]
        # rsync(1), --rsh: quotes keep spaces, backslashes do not
        environment["RSYNC_RSH"] = f'ssh -F "{file}"'
    return become(command, environment)


def become(command: list[str], environment: dict[str, str] | None = None) -> int:
    """Runs it in our place: the same terminal, signals and exit status."""
    environment = dict(os.environ) if environment is None else environment
    if hasattr(os, "fork"):  # on Windows, exec returns to the shell at once
        os.execve(command[0], command, environment)  # noqa: S606  a list, and the user's own words
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except OSError as error:
        raise Failure(f"{command[0]} can't be run: {error.strerror or error}.") from None


def written(arguments: list[str]) -> Path:
    """A configuration with the hosts, followed by the user's and the system's own. Raises Failure."""
    known = [_with_named_hosts(hub, arguments) for hub in hubs.load().values()]
    if not known:
        hubs.choose()  # raises
    # Of these hubs alone: finding out how another one is reached now may take seconds.
    named = {hub.name: hosts for hub in known if (hosts := named_hosts(hub, arguments))}
    sections = config.sections((hub for hub in known if hub.name in named), set().union(*named.values()))
    return write_files(hubs.folder(), known, sections, "+".join(["ssh_config", *named]))


def write_files(folder: Path, known: Iterable[hubs.Hub], sections: Iterable[ssh_config.Host], name: str = "ssh_config") -> Path:
    """The configuration ``name`` and known_hosts in ``folder``; the path of the former. Raises Failure.

    Other tools that run read them too, and again for each connection: so one file for each set of hubs.
    """
    known_hosts, file = folder / "known_hosts", folder / name
    text = ssh_config.block(sections, known_hosts_file=known_hosts.as_posix(), command=config.own_command())
    own, system = ssh_client.folder() / "config", Path("/etc/ssh/ssh_config")
    if sys.platform == "win32":
        system = Path(os.environ.get("PROGRAMDATA", "C:/ProgramData")) / "ssh/ssh_config"
    for other in (own, system):
        if other.exists():
            text += f"Include {ssh_config.quoted(other.as_posix())}\nHost *\n"
    for path, wanted in ((known_hosts, ssh_config.known_hosts(known)), (file, text)):
        if _read(path) != wanted.encode():
            hubs.write_private(path, wanted)
    return file


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def named_hosts(hub: hubs.Hub, arguments: list[str]) -> set[str]:
    """Host names of that hub that stand in the arguments, as ``alice.hub`` in ``bob@alice.hub:file``."""
    ending = re.compile(rf"(?:^|[@/=\s,])([a-z0-9_.-]+\.{re.escape(hub.name)})(?=$|[:/\s,])", re.IGNORECASE)
    return {found.lower() for argument in arguments for found in ending.findall(argument)}


def _with_named_hosts(hub: hubs.Hub, arguments: list[str]) -> hubs.Hub:
    """Asks the hub anew where a host is named that was not there when it was last asked: a new server."""
    unknown = {host for host in named_hosts(hub, arguments) if not _known(hub, host)}
    if not unknown:
        return hub
    try:
        now = refreshed(hub)[0]
    except Failure as error:
        note(f"{hub.name}: {error.sentence}")
        return hub
    missing = sorted(host for host in unknown if not _known(now, host))
    if missing:
        note(f"{hub.name} has no {', '.join(missing)}. There is: {', '.join(each.host for each in now.servers)}.")
    return now


def _known(hub: hubs.Hub, host: str) -> bool:
    server = hub.server_of_host(host)
    return server is not None and (hub.kind == hubs.GATEWAY or bool(server.host_keys))


def _missing_host(arguments: list[str]) -> list[str]:
    """The default server's host where ssh was given options alone. Raises Failure."""
    try:
        options, operands = getopt.getopt(arguments, SSH_OPTIONS)
    except getopt.GetoptError:
        return []  # ssh itself says what is wrong
    if operands or any(option in ("-V", "-Q") for option, _ in options):
        return []
    hub = hubs.choose()
    server = next((each for each in hub.servers if not each.name), None)
    if server is None:
        raise Failure(f"You have no default server on {hub.name}. Name the host: jhssh servers list")
    return [server.host]
