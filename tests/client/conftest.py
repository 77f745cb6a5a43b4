"""A user's computer: a home of its own, with a space in its path, and the command run in it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jhssh_ext.client import cli, config, login, servers

from ..fakes import gateway_api
from ..fakes.gateway_api import NUMBER, FakeGateway
from ..harness.ssh import KeyPair, make_key

FORGOTTEN = ("JHSSH_", "XDG_", "DBUS_", "PYTHON_KEYRING", "SSH_", "DISPLAY", "WAYLAND", "JUPYTERHUB_")


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


@dataclass
class Laptop:
    """``run("keys", "list")`` is ``jhssh keys list``, in this process."""

    home: Path
    run_: Callable[..., Done] = field(repr=False)

    def run(self, *arguments: str, typed: str = "") -> Done:
        return self.run_(*arguments, typed=typed)

    def good(self, *arguments: str, typed: str = "") -> str:
        """What it writes to stdout when all is well."""
        done = self.run(*arguments, typed=typed)
        assert done.status == 0, done
        return done.out

    @property
    def ssh(self) -> Path:
        return self.home / ".ssh"

    @property
    def settings(self) -> Path:
        return self.home / ".config/jhssh"

    def key(self, name: str = "id_ed25519") -> KeyPair:
        self.ssh.mkdir(exist_ok=True, mode=0o700)
        return make_key(self.ssh / name)

    def log_in(self, fake: FakeGateway, *options: str) -> None:
        self.good("login", fake.url, *options, typed=f"{NUMBER}\n")

    def process(self, *arguments: str, input: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """The same as a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "jhssh_ext.client", *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **environment},
            check=False,
        )


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Laptop:
    home = tmp_path / "lap top"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(FORGOTTEN) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setattr(login, "MIN_INTERVAL", 0.01)
    monkeypatch.setattr(servers, "INTERVAL", 0.05)
    monkeypatch.setattr(config, "PROBE_TIMEOUT", 30.0)

    def run(*arguments: str, typed: str) -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        capsys.readouterr()
        try:
            status = cli.main(list(arguments))
        except SystemExit as end:  # argparse
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return Laptop(home, run)


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    """A hub with a gateway."""
    with gateway_api.running() as gateway:
        yield gateway
        assert gateway.complaints == []


@pytest.fixture
def logged_in(laptop: Laptop, fake: FakeGateway) -> Laptop:
    laptop.log_in(fake)
    return laptop
