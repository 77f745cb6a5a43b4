"""Asks the ssh of this computer: how it reads a configuration, and whether it gets to a host."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..identifiers import printable
from . import ssh_config
from .paths import home

TIMEOUT = 20


def folder() -> Path:
    return home() / ".ssh"


def read(file: Path, host: str, *options: str) -> dict[str, list[str]] | str:
    """What ``ssh -G`` makes of ``file`` for ``host``, by option in small letters; or its complaint."""
    done = _run(["-G", "-F", str(file), *options, host])
    if isinstance(done, str):
        return done
    if done.returncode:
        return _said(done.stderr) or "it gives no reason"
    found: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def configured(host: str) -> dict[str, list[str]] | None:
    """What the user's own configuration makes of ``host``, if that is what we wrote; else None."""
    file = folder() / "config"
    found = read(file, host) if file.exists() else ""
    if isinstance(found, str):
        return None
    alias = found.get("hostkeyalias", [""])[0]
    return found if alias in (host, f"{ssh_config.GATEWAY_ALIAS}{host.rpartition('.')[2]}") else None


def identities(file: Path, host: str) -> tuple[list[Path], str]:
    """Which key files ssh would try for ``host``, and which agent it would ask: ssh_config(5), IdentityFile and IdentityAgent."""
    found = read(file, host)
    if isinstance(found, str):
        return [], ""
    named = [_expanded(file, host, each) for each in found.get("identityfile", [])]
    return [Path(each) for each in named if each], found.get("identityagent", [""])[0]


def _expanded(file: Path, host: str, name: str) -> str:
    """``ssh -G`` tells IdentityFile as it was written, but ControlPath, which takes the same tokens, as it is meant."""
    if not re.search(r"[%$~]", name):
        return name
    found = read(file, host, "-o", f"ControlPath={ssh_config.quoted(name)}")
    return "" if isinstance(found, str) else found.get("controlpath", [""])[0]


@dataclass(frozen=True)
class Tried:
    """``said``: the last thing that ssh said where it failed."""

    ok: bool
    wrong_host_key: bool
    said: str


def try_host_key(file: Path, host: str) -> Tried:
    """Comes as far as the authentication, for which it offers nothing: whoever asks for it has proved its host key."""
    options = ["-o", "PreferredAuthentications=none", "-o", "ControlPath=none"]
    tried = _tried(["-F", str(file), *options, "-T", host, "true"])
    return Tried(tried.ok or "Permission denied" in tried.said, tried.wrong_host_key, tried.said)


def try_login(file: Path, host: str) -> Tried:
    """``ssh host true``, by keys that need nobody to type anything."""
    options = ["-o", "PreferredAuthentications=publickey", "-o", "ControlPath=none"]
    return _tried(["-F", str(file), *options, "-T", host, "true"])


def _tried(arguments: list[str]) -> Tried:
    settings = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=INFO", "-o", "ControlMaster=no"]
    done = _run([*settings, *arguments])
    if isinstance(done, str):
        return Tried(False, False, done)
    wrong = b"Host key verification failed" in done.stderr or b"HOST IDENTIFICATION HAS CHANGED" in done.stderr
    lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    # Where `jhssh proxy` has said why there is no connection, ssh says only that there is none.
    told = [line for line in lines if line.startswith("jhssh: ")] or lines[-1:]
    return Tried(done.returncode == 0, wrong, printable(told[-1], 300) if told else "it gives no reason")


def _run(arguments: list[str]) -> subprocess.CompletedProcess[bytes] | str:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            ["ssh", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, env=environment, check=False
        )
    except FileNotFoundError:
        return "there is no ssh on this computer: install OpenSSH"
    except (OSError, subprocess.TimeoutExpired):
        return f"ssh did not end within {TIMEOUT} s"


def _said(stderr: bytes) -> str:
    return printable(" ".join(stderr.decode("utf-8", "replace").split()), 500)
