"""What holds for all commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jhssh_ext import __version__
from jhssh_ext.client import cli, commands, hubs

from .conftest import Laptop


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
    with subprocess.Popen(
        [sys.executable, "-m", "jhssh_ext.client", "keys", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
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
