"""The text that ssh_config(5) and known_hosts get: which hosts, by which way. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from ..identifiers import printable
from ..login_names import candidates
from . import hubs
from .failures import Failure

BEGIN = "# >>> jhssh >>>"
END = "# <<< jhssh <<<"
GATEWAY_ALIAS = "jhssh-gateway."
KEEPALIVE = 30
FOR_SHELLS = re.compile(r"""['"`;&<>|(){}$%]|^-|\s-|\\(?:\s|\Z)""")
"""what ssh refuses in user names on its command line since 9.6 (ssh.c, valid_ruser), and what it expands in User since 10.0"""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class BrokenMarkers(Exception):
    """The marker lines are not one BEGIN and, after it, one END; the text says what is wrong."""


@dataclass(frozen=True)
class Host:
    """One section ``Host``."""

    name: str
    user: str
    host_key_alias: str
    hub: hubs.Hub
    tunnel: bool
    """by `jhssh proxy`, else by TCP"""


def hosts(hub: hubs.Hub, *, tunnel: bool) -> list[Host]:
    """All that can be reached: without a gateway, the servers whose own host key is known."""
    servers = [each for each in hub.servers if takes(each.login_name)]
    if hub.kind == hubs.TOKEN:
        return [Host(each.host, each.login_name, each.host, hub, True) for each in servers if each.host_keys and each.tunnel]
    if not (hub.tunnel if tunnel else hub.ssh_port):
        return []
    return [Host(each.host, each.login_name, gateway_alias(hub), hub, tunnel) for each in servers]


def takes(login_name: str) -> bool:
    """Can it stand behind ``User``? Others chose it, and ssh gives it to a shell for each %r in the user's own sections."""
    return bool(candidates(login_name)) and not FOR_SHELLS.search(login_name)


def gateway_alias(hub: hubs.Hub) -> str:
    """By which known_hosts knows a gateway, whatever its address and port."""
    return f"{GATEWAY_ALIAS}{hub.name}"


def known_hosts(all_hubs: Iterable[hubs.Hub]) -> str:
    """sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"."""
    lines = ["# Written by `jhssh config --write`. Changes are lost."]
    for hub in all_hubs:
        if hub.kind == hubs.GATEWAY:
            lines += [f"{gateway_alias(hub)} {key}" for key in hub.host_keys]
        else:
            lines += [f"{each.host} {key}" for each in hub.servers for key in each.host_keys]
    return "\n".join(lines) + "\n"


def block(sections: Iterable[Host], *, known_hosts_file: str, command: list[str], markers: bool = True) -> str:
    """With markers, the managed block; ends with a newline. ``command``: how `jhssh` itself is run."""
    lines: list[str] = []
    for host in sections:
        lines += [f"Host {host.name}", *(f"    {line}" for line in _options(host, known_hosts_file, command)), ""]
    if not markers:
        return "\n".join(lines)
    head = [BEGIN, "# Written by `jhssh config --write`, which replaces everything up to the closing mark."]
    # What follows the block in the file counts for all hosts again, as it did before the block was there.
    return "\n".join([*head, *lines, "Host *", END]) + "\n"


def _options(host: Host, known_hosts_file: str, command: list[str]) -> list[str]:
    hub = host.hub
    options = [
        f"HostName {host.name if host.tunnel else hub.ssh_host}",
        f"User {quoted(host.user)}",
        f"HostKeyAlias {host.host_key_alias}",
        f"UserKnownHostsFile {quoted(known_hosts_file.replace('%', '%%'))}",
        "StrictHostKeyChecking yes",
        f"ServerAliveInterval {KEEPALIVE}",
    ]
    if host.tunnel:
        options.append(f"ProxyCommand {proxy_command(command)}")
    else:
        options += [f"Port {hub.ssh_port}", "ProxyCommand none"]
    return options


def quoted(value: str) -> str:
    """One argument of ssh_config(5). Raises Failure."""
    if re.fullmatch(r"[A-Za-z0-9@%+:,./_~-]+", value):
        return value
    return '"' + _one_line(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def proxy_command(command: list[str]) -> str:
    """A line for the user's shell, in which ssh replaces %h. Raises Failure."""
    return f"{_one_line(shell_words(command)).replace('%', '%%')} proxy %h"


def _one_line(value: str) -> str:
    if CONTROL.search(value):
        raise Failure(f"{printable(value)} can't stand in ssh's configuration: it holds a control character.")
    return value


def shell_words(words: list[str]) -> str:
    """In double quotes where that will do: cmd.exe knows no others, and neither do some editors that read the configuration."""
    return " ".join(f'"{word}"' if re.fullmatch(r"[^\"$`\\!%]* [^\"$`\\!%]*", word) else shlex.quote(word) for word in words)


def replaced(text: str, new_block: str) -> str:
    """``text`` with ``new_block`` in the place of the block, or at the top where there is none: what stands first counts.

    An empty ``new_block`` takes the block out. Raises BrokenMarkers.
    """
    newline = "\r\n" if "\r\n" in text and "\n" not in text.replace("\r\n", "") else "\n"
    new_block = new_block.replace("\n", newline)
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # as ssh sees them
    begins = [number for number, line in enumerate(lines) if line.strip() == BEGIN]
    ends = [number for number, line in enumerate(lines) if line.strip() == END]
    if not begins and not ends:
        return new_block + text
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        at = ", ".join(f"line {number + 1}: {lines[number].strip()}" for number in sorted(begins + ends))
        raise BrokenMarkers(f"there should be one {BEGIN!r} and after it one {END!r}, but there is {at}")
    return "".join([*lines[: begins[0]], new_block, *lines[ends[0] + 1 :]])
