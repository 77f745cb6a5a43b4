"""What holds for all commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jhssh_ext import __version__
from jhssh_ext.client import cli, commands, hubs

from ..fakes.gateway_api import FakeGateway
from .conftest import Laptop

PROGRAM = [sys.executable, "-m", "jhssh_ext.client"]


def test_help_and_version(laptop: Laptop) -> None:
    assert laptop.good("--version") == f"jhssh {__version__}\n"
    assert "login" in laptop.good("--help")
    bare = laptop.run()
    assert (bare.status, "Begin with: jhssh login" in bare.out) == (2, True)
    wrong = laptop.run("frobnicate")
    assert (wrong.status, "frobnicate" in wrong.err) == (2, True)


@pytest.mark.parametrize("command", ["config", "keys list", "servers list", "code", "doctor", "logout", "ssh"])
def test_who_is_not_logged_in_is_told_how(laptop: Laptop, command: str) -> None:
    done = laptop.run(*command.split())
    assert (done.status, "jhssh login https://" in done.err) == (3, True)


def test_ctrl_c_ends_it_without_a_traceback(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_given: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run", interrupted)
    done = laptop.run("doctor")
    assert (done.status, done.err) == (130, "\n")


def test_a_reader_that_goes_away_is_no_failure(logged_in: Laptop) -> None:
    with subprocess.Popen([*PROGRAM, "keys", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("platform", "environment", "wanted"),
    [
        ("linux", {}, "~/.config/jhssh"),
        ("linux", {"XDG_CONFIG_HOME": "/x"}, "/x/jhssh"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, "~/.config/jhssh"),
        ("darwin", {}, "~/Library/Application Support/jhssh"),
        ("win32", {"APPDATA": "/appdata"}, "/appdata/jhssh"),
        ("win32", {}, "~/AppData/Roaming/jhssh"),
        ("linux", {"JHSSH_CONFIG_DIR": "/y"}, "/y"),
    ],
)
def test_each_system_has_its_own_place(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], wanted: str
) -> None:
    monkeypatch.delenv("APPDATA", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hubs.sys, "platform", platform)
    assert hubs.folder() == Path(wanted).expanduser()


def test_what_cannot_be_written_is_named(laptop: Laptop) -> None:
    (laptop.home / ".config").write_text("a file")
    with pytest.raises(hubs.Failure, match=r"hubs\.json can't be (read|written)"):
        hubs.save(hubs.Hub("hub", "https://hub.example.org/", hubs.GATEWAY, "alice"))


def test_the_tools_are_in_the_help() -> None:
    shown = commands.parser().format_help()
    assert all(f"    {tool} " in shown for tool in cli.TOOLS)


@pytest.mark.parametrize("command", ["keys list", "--help", "completion bash", "doctor --json"])
def test_output_that_cannot_be_written_is_told(
    logged_in: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # argparse says nothing then
    told = "jhssh: standard output: No space left on device.\n"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.parametrize(
    ("closed", "command", "status", "told"),
    [
        ("<&-", "keys list", 0, ""),
        ("<&-", "keys add -", 1, "What was piped in"),
        (">&-", "keys list", 1, "jhssh: standard output: Bad file descriptor."),
        ("2>&-", "keys list", 0, ""),
        ("2>&-", "frobnicate", 2, ""),
        ("<&- >&- 2>&-", "proxy alice.hub", 4, ""),
        ("<&- >&-", "proxy alice.hub", 4, "can't be reached"),
    ],
)
def test_closed_streams(logged_in: Laptop, fake: FakeGateway, closed: str, command: str, status: int, told: str) -> None:
    fake.connect["tunnel"] = "ws://127.0.0.1:1/"
    logged_in.good("servers", "list")
    script = f'"$0" -m jhssh_ext.client {command} {closed}'
    done = subprocess.run(["sh", "-c", script, sys.executable], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status, done
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_piped_in_may_be_in_another_encoding(logged_in: Laptop) -> None:
    done = subprocess.run([*PROGRAM, "keys", "add", "-"], input=b"\xff\xfe", capture_output=True, check=False, timeout=60)
    assert (done.returncode, b"What was piped in" in done.stderr) == (1, True)


def test_a_failure_of_the_system_is_told(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_given: object) -> int:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(commands, "run", failing)
    done = laptop.run("doctor")
    assert (done.status, done.err) == (1, "jhssh: /some/file: Permission denied.\n")


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "0", "x"])
def test_a_timeout_is_a_number_of_seconds(laptop: Laptop, given: str) -> None:
    done = laptop.run("servers", "start", f"--timeout={given}")
    assert (done.status, "invalid seconds value" in done.err) == (2, True)
