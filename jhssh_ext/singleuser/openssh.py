"""OpenSSH's sshd: is there one that can serve here, and the files and command with which it does."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..sshd_config import SSHDConfig, UnsafeValue, sshd_config
from . import session
from .runtime_dir import AUTHORIZED_KEYS, RuntimeDir

PRIVSEP_DIR = Path("/run/sshd")
"""Debian's; sshd run by root refuses to start where it is missing"""
_FOLDERS = ("/usr/sbin", "/usr/lib/ssh", "/usr/libexec", "/usr/local/sbin", "/usr/bin")
_SFTP_FOLDERS = (
    "/usr/lib/openssh",
    "/usr/libexec/openssh",
    "/usr/libexec",
    "/usr/lib/ssh",
    "/usr/lib/misc",
    "/usr/local/libexec",
)
_NO_SHELLS = ("nologin", "false", "sync", "halt", "shutdown")
_TIMEOUT = 10


class Unusable(Exception):
    """Why OpenSSH's sshd can't serve here: a sentence."""


@dataclass(frozen=True)
class OpenSSH:
    """An sshd that was found, and what belongs to it."""

    sshd: str
    sftp_server: str
    version: tuple[int, int]
    account: str


def find(prefix: str = sys.prefix) -> OpenSSH:
    """Raises Unusable."""
    account = account_name()
    conda = [f"{prefix}/{folder}" for folder in ("sbin", "bin", "libexec")]
    search = os.pathsep.join([*conda, os.environ.get("PATH", os.defpath), *_FOLDERS])
    sshd = shutil.which("sshd", path=search)
    if sshd is None:
        raise Unusable("OpenSSH's sshd was not found: install openssh-server (Debian) or openssh (conda).")
    sshd = os.path.abspath(sshd)  # noqa: PTH100 - sshd wants an absolute path, links unresolved
    sftp_server = find_sftp_server(prefix)
    if not sftp_server:
        raise Unusable("sftp-server was not found beside OpenSSH's sshd: install openssh-sftp-server.")
    return OpenSSH(sshd, sftp_server, _version(sshd), account)


def find_sftp_server(prefix: str = sys.prefix) -> str:
    """Its path; empty if there is none. It serves either kind of sshd."""
    return shutil.which("sftp-server", path=os.pathsep.join([f"{prefix}/libexec", *_SFTP_FOLDERS])) or ""


def prepare(found: OpenSSH, runtime: RuntimeDir, *, sftp: bool, own_keys: bool = False) -> Path:
    """Writes sshd_config beside the files that sshd.py wrote, and has sshd check it (``sshd -t``). Raises Unusable, OSError.

    ``own_keys``: the user's own keys get in, in place of the gateway's certificates (own_sshd.py).
    """
    if own_keys:
        admitted = {"authorized_keys": str(runtime.path / AUTHORIZED_KEYS)}
    else:
        admitted = {"user_ca_keys": str(runtime.path / "user_ca_keys"), "principals": str(runtime.path / "principals")}
    command = shlex.join([sys.executable, "-IS", str(Path(session.__file__).resolve()), str(runtime.path / "session.json")])
    try:
        text = sshd_config(
            SSHDConfig(
                host_key=str(runtime.path / "host_key"),
                forced_command="exec " + command,
                account=found.account,
                version=found.version,
                **admitted,
                sftp=sftp,
                xauth=shutil.which("xauth") or "",
            )
        )
    except UnsafeValue as error:
        raise Unusable(f"OpenSSH's sshd can't be used here: {error}.") from None
    path = runtime.write("sshd_config", text)
    runtime.write("sshd.json", json.dumps({"arguments": [found.sshd, "-i", "-e", "-f", str(path)]}))
    if os.getuid() == 0:
        _make_privsep_dir()
    try:
        checked = subprocess.run(
            [found.sshd, "-t", "-f", path], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"OpenSSH's sshd can't be run: {error}.") from None
    if checked.returncode != 0:
        said = checked.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unusable(f"OpenSSH's sshd refuses its setup: {said[-1] if said else checked.returncode}.")
    return path


def account_name() -> str:
    """The account that an sshd without privileges lets in: its own. Raises Unusable where it lets nobody in."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        raise Unusable(f"User id {os.getuid()} has no entry in /etc/passwd, which OpenSSH's sshd needs.") from None
    shell = entry.pw_shell or "/bin/sh"  # passwd(5)
    # auth.c, allowed_user(): a shell that is no executable file shuts the account out
    if Path(shell).name in _NO_SHELLS or not (Path(shell).is_file() and os.access(shell, os.X_OK)):
        raise Unusable(f"The account's shell {shell} allows no login, which OpenSSH's sshd heeds.")
    if not Path(entry.pw_dir).is_dir():
        raise Unusable(f"The account's home {entry.pw_dir} is missing, of which OpenSSH's sshd complains in each session.")
    if os.getuid() == 0 and _locked(entry.pw_name):
        raise Unusable(f"The account {entry.pw_name} is locked, which OpenSSH's sshd heeds.")
    if os.getuid() != 0:
        _check_terminals(entry)
    return entry.pw_name


def _check_terminals(entry: pwd.struct_passwd) -> None:
    """As sshpty.c, pty_setowner(): sshd ends a session whose terminal it can't give to the group tty."""
    try:
        group = grp.getgrnam("tty").gr_gid
    except KeyError:
        group = entry.pw_gid
    try:
        controlling, terminal = os.openpty()
    except OSError as error:
        raise Unusable(f"No terminal can be opened here: {error.strerror}.") from None
    try:
        os.chown(terminal, os.getuid(), group)
    except OSError:
        raise Unusable("OpenSSH's sshd can't give terminals to the group tty here (devpts is mounted without its gid).") from None
    finally:
        os.close(controlling)
        os.close(terminal)


def _locked(account: str, shadow: Path = Path("/etc/shadow")) -> bool:
    """As auth.c does on Linux where PAM is off: the password begins with an exclamation mark."""
    try:
        lines = shadow.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{account}:!") for line in lines)


def _version(sshd: str) -> tuple[int, int]:
    """From ``sshd -V``, or from the usage that one older than 9.2 prints."""
    try:
        shown = subprocess.run(
            [sshd, "-V"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"OpenSSH's sshd can't be run: {error}.") from None
    matched = re.search(rb"OpenSSH_(\d+)\.(\d+)", shown.stdout)
    if matched is None:
        raise Unusable(f"{sshd} is not OpenSSH's sshd.")
    return int(matched[1]), int(matched[2])


def _make_privsep_dir() -> None:
    try:
        PRIVSEP_DIR.mkdir(mode=0o755, exist_ok=True)
        safe = not PRIVSEP_DIR.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    except OSError as error:
        raise Unusable(f"{PRIVSEP_DIR}, which OpenSSH's sshd needs, can't be made: {error.strerror}.") from None
    if not safe:
        raise Unusable(f"{PRIVSEP_DIR} is writable by others, which OpenSSH's sshd refuses.")
