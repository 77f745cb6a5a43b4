"""OpenSSH's sshd on a port of loopback, for whoever runs the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..harness.processes import free_port, listening, stop_child, wait_until
from ..harness.ssh import make_key

USER = pwd.getpwuid(os.getuid()).pw_name


@dataclass(frozen=True)
class SSHD:
    port: int
    host_key: str
    authorized_keys: Path


@contextmanager
def running(folder: Path) -> Iterator[SSHD]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no sshd here (Debian: apt-get install openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)
    key, port, authorized_keys = make_key(folder / "host_key"), free_port(), folder / "authorized_keys"
    authorized_keys.write_text("")
    options = {
        "ListenAddress": "127.0.0.1",
        "Port": port,
        "HostKey": key.private,
        "AuthorizedKeysFile": authorized_keys,
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PidFile": "none",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: listening(port), what="sshd")
        yield SSHD(port, " ".join(key.public.split()[:2]), authorized_keys)
    finally:
        stop_child(process)
