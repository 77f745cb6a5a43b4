"""``jhssh code``: VS Code, or an editor made of it, on a folder of a user server, by its Remote-SSH."""

from __future__ import annotations

import posixpath
import shlex
import shutil
import subprocess
from urllib.parse import quote

from ..identifiers import printable
from . import hubs, servers, ssh_client
from .failures import Failure
from .hub_api import refreshed
from .output import note, say
from .tools import become, written

EDITORS = {"code": "vscode", "code-insiders": "vscode-insiders", "cursor": "cursor", "windsurf": "windsurf", "codium": "vscodium"}
"""the command of each → the scheme of its links"""


def code(hub: hubs.Hub, folder: str | None, *, server: str = "", editor: str = "code") -> int:
    """Opens it; the exit status of the editor's command. Raises Failure."""
    host = _host(hub, server)
    path = _absolute(host, folder)
    command = shutil.which(editor)
    if command is None:
        scheme = EDITORS.get(editor, "vscode")
        say(f"{scheme}://vscode-remote/ssh-remote+{host}{quote(path or '/')}")
        raise Failure(f"There is no command {printable(editor)} here. Open the link above in a browser, or say --editor NAME.")
    _check_known(host)
    note(f"Opening {host}{':' + printable(path) if path else ''} …")
    return become([command, "--remote", f"ssh-remote+{host}", *([path] if path else [])])


def _host(hub: hubs.Hub, server: str) -> str:
    for each in hub.servers:
        if server in (each.name, each.login_name, each.host):
            return each.host
    hub, me = refreshed(hub)  # a new one
    wanted = servers.found(me, server, hub)  # raises where there is none
    return next(each.host for each in hub.servers if each.name == wanted.name)


def _absolute(host: str, folder: str | None) -> str:
    """The editors take absolute folders alone, and only the server knows what a relative one is below."""
    if not folder or posixpath.isabs(folder):
        return folder or ""
    start = folder if folder in ("~", "~/") or folder.startswith("~/") else ""
    rest = shlex.quote(folder[2:] if start else folder)
    command = f"cd {'~/' if start else ''}{rest if rest != chr(39) * 2 else ''} && pwd"
    ssh = shutil.which("ssh")
    if ssh is None:
        raise Failure("There is no ssh on this computer. Install it (OpenSSH).")
    done = subprocess.run([ssh, "-F", str(written([host])), host, command], stdout=subprocess.PIPE, check=False)
    path = done.stdout.decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2]
    if done.returncode or not posixpath.isabs(path):
        raise Failure(f"{printable(folder)} could not be found on {host}.")
    return path


def _check_known(host: str) -> None:
    """The editor runs ssh by itself: it needs the hosts in the user's own configuration. Raises Failure."""
    if ssh_client.configured(host) is None:
        raise Failure(f"ssh does not know {host} yet, and neither does the editor. Run this first: jhssh config --write")
