"""The real tools, as they are called: doubles of them write down what they were given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jhssh_ext.client import ssh_client, tools
from jhssh_ext.client.failures import Failure

from ..fakes import gateway_api
from ..fakes.gateway_api import FakeGateway
from .conftest import Laptop

DOUBLE = """\
#!/bin/sh
case "$1" in -G) PATH="$REAL_PATH" exec ssh "$@" ;; esac
{ echo "${0##*/}"; echo "RSH=$RSYNC_RSH"; for each; do echo "<$each>"; done; } >"$OUT"
if [ "$3" = alice-gpu.hub ] && [ "${4#cd}" != "$4" ]; then echo /home/alice/src; fi
exit 7
"""


@pytest.fixture
def called(logged_in: Laptop, fake: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a double writes what it was called with."""
    fake.connect |= {"host": "hub.example.org", "tunnel": "wss://hub.example.org/services/ssh/tunnel"}
    logged_in.good("servers", "list")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("ssh", "scp", "rsync", "sftp", "code"):
        (programs / name).write_text(DOUBLE)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("REAL_PATH", os.environ["PATH"])
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("OUT", str(tmp_path / "called"))
    return tmp_path / "called"


def arguments(called: Path) -> list[str]:
    return [line[1:-1] for line in called.read_text().splitlines() if line.startswith("<")]


@pytest.mark.parametrize("tool", ["ssh", "scp", "sftp"])
def test_a_tool_takes_our_place(logged_in: Laptop, called: Path, tool: str) -> None:
    done = logged_in.process(tool, "alice.hub", "a b", "-x", "$(y)")
    assert done.returncode == 7, done
    assert called.read_text().startswith(f"{tool}\n")
    file = logged_in.settings / "ssh_config+hub"
    assert arguments(called) == ["-F", str(file), "alice.hub", "a b", "-x", "$(y)"]
    found = ssh_client.read(file, "alice.hub")
    assert isinstance(found, dict)
    assert found["proxycommand"] == [f"{sys.executable} -m jhssh_ext.client proxy %h"]
    assert found["userknownhostsfile"] == [str(logged_in.settings / "known_hosts")]


def test_rsync_gets_it_by_its_variable(logged_in: Laptop, called: Path) -> None:
    assert logged_in.process("rsync", "-a", "x", "alice.hub:y").returncode == 7
    assert arguments(called) == ["-a", "x", "alice.hub:y"]
    assert f'RSH=ssh -F "{logged_in.settings / "ssh_config+hub"}"' in called.read_text()


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ([], True),
        (["-L", "8888:localhost:8888", "-N"], True),
        (["-v", "-o", "User=x"], True),
        (["-V"], False),
        (["other.example.org"], False),
        (["-p", "22", "alice.hub", "ls"], False),
        (["--help"], False),
    ],
)
def test_without_a_host_it_is_the_default_server(logged_in: Laptop, called: Path, given: list[str], host: bool) -> None:
    logged_in.process("ssh", *given)
    assert arguments(called)[2:] == [*given, *(["alice.hub"] if host else [])]


def test_the_users_own_configuration_counts_too(logged_in: Laptop, called: Path) -> None:
    logged_in.ssh.mkdir()
    (logged_in.ssh / "config").write_text("User mine\nHost other\n    Port 77\n")
    logged_in.process("ssh", "alice.hub")
    for host, wanted in (("other", ["mine", "77"]), ("alice.hub", ["alice", "22"])):
        found = ssh_client.read(logged_in.settings / "ssh_config+hub", host)
        assert isinstance(found, dict)
        assert found["user"] + found["port"] == wanted


def test_a_new_server_is_found(logged_in: Laptop, fake: FakeGateway, called: Path) -> None:
    fake.servers["gpu"] = fake.server("gpu")
    logged_in.process("scp", "x", "alice@alice-gpu.hub:y")
    assert "Host alice-gpu.hub\n" in (logged_in.settings / "ssh_config+hub").read_text()


def test_no_tool_takes_the_hosts_from_another_that_runs(logged_in: Laptop, fake: FakeGateway, called: Path) -> None:
    with gateway_api.running() as other:
        other.connect |= fake.connect
        logged_in.log_in(other, "--name", "two")
        logged_in.process("ssh", "alice.hub")
        file = Path(arguments(called)[1])
        before = (file.read_bytes(), file.stat().st_ino, file.stat().st_mtime_ns)
        keys = logged_in.settings / "known_hosts"
        keys_before = (keys.read_bytes(), keys.stat().st_ino)
        for others in (["ssh", "-V"], ["ssh", "alice.two"], ["scp", "alice.hub:x", "alice.two:y"], ["ssh", "alice.hub", "-v"]):
            logged_in.process(*others)
            assert before == (file.read_bytes(), file.stat().st_ino, file.stat().st_mtime_ns)
            assert keys_before == (keys.read_bytes(), keys.stat().st_ino)
        logged_in.process("scp", "alice.hub:x", "alice.two:y")
        for host in ("alice.hub", "alice.two"):
            found = ssh_client.read(Path(arguments(called)[1]), host)
            assert isinstance(found, dict)
            assert found["hostkeyalias"] == [f"jhssh-gateway.{host.rpartition('.')[2]}"]


def test_a_host_that_is_none_is_told(logged_in: Laptop, called: Path) -> None:
    assert "hub has no alice-gqu.hub. There is: alice.hub." in logged_in.process("ssh", "alice-gqu.hub").stderr


def test_a_tool_that_is_missing(logged_in: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = logged_in.run("rsync", "x", "y")
    assert (done.status, "There is no rsync on this computer" in done.err) == (1, True)


def test_nobody_logged_in(laptop: Laptop) -> None:
    assert laptop.run("ssh", "alice.hub").status == 3


def test_where_nothing_can_take_our_place_its_status_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    assert tools.become([sys.executable, "-c", "raise SystemExit(5)"]) == 5
    with pytest.raises(Failure, match="can't be run"):
        tools.become(["/nowhere/ssh"])


class TestCode:
    @pytest.fixture(autouse=True)
    def configured(self, logged_in: Laptop, fake: FakeGateway) -> None:
        fake.servers["gpu"] = fake.server("gpu")
        fake.connect |= {"host": "hub.example.org", "tunnel": "wss://hub.example.org/services/ssh/tunnel"}
        logged_in.good("config", "--write")

    def test_an_absolute_folder(self, logged_in: Laptop, called: Path) -> None:
        done = logged_in.process("code", "/srv/a b", "--server", "gpu")
        assert (done.returncode, done.stderr) == (7, "Opening alice-gpu.hub:/srv/a b …\n")
        assert called.read_text().startswith("code\n")
        assert arguments(called) == ["--remote", "ssh-remote+alice-gpu.hub", "/srv/a b"]

    def test_no_folder(self, logged_in: Laptop, called: Path) -> None:
        logged_in.process("code")
        assert arguments(called) == ["--remote", "ssh-remote+alice.hub"]

    @pytest.mark.parametrize(
        ("folder", "command"),
        [("src", "cd src && pwd"), ("~/a b", "cd ~/'a b' && pwd"), ("~", "cd ~/ && pwd"), ("$x", "cd '$x' && pwd")],
    )
    def test_a_relative_folder_is_asked_for_on_the_server(
        self, logged_in: Laptop, called: Path, tmp_path: Path, folder: str, command: str
    ) -> None:
        ssh = tmp_path / "programs/ssh"
        ssh.write_text(DOUBLE.replace('>"$OUT"', '>"$OUT.ssh"').replace("exit 7", "exit 0"))
        logged_in.process("code", folder, "--server", "gpu")
        assert arguments(called.with_name("called.ssh"))[2:] == ["alice-gpu.hub", command]
        assert arguments(called) == ["--remote", "ssh-remote+alice-gpu.hub", "/home/alice/src"]

    def test_a_folder_that_is_not_there(self, logged_in: Laptop, called: Path) -> None:
        done = logged_in.process("code", "nothing")
        assert (done.returncode, "nothing could not be found on alice.hub" in done.stderr) == (1, True)

    def test_an_editor_that_is_not_there(self, logged_in: Laptop, called: Path) -> None:
        done = logged_in.process("code", "/a b", "--editor", "cursor")
        assert done.returncode == 1
        assert done.stdout == "cursor://vscode-remote/ssh-remote+alice.hub/a%20b\n"
        assert "There is no command cursor" in done.stderr

    def test_hosts_that_ssh_does_not_know(self, logged_in: Laptop, called: Path) -> None:
        (logged_in.ssh / "config").unlink()
        done = logged_in.process("code", "/x")
        assert (done.returncode, "jhssh config --write" in done.stderr) == (1, True)
        assert not called.exists()

    def test_a_server_that_is_none(self, logged_in: Laptop, called: Path) -> None:
        done = logged_in.process("code", "/x", "--server", "gqu")
        assert (done.returncode, "no server called gqu" in done.stderr) == (1, True)


def test_completion_in_bash(logged_in: Laptop, called: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    (programs / "jhssh").write_text(f'#!/bin/sh\nexec {sys.executable} -m jhssh_ext.client "$@"\n')
    (programs / "jhssh").chmod(0o755)

    def offered(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        script = f'eval "$(jhssh completion bash)"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _jhssh'
        script += '; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert not done.stderr
        return set(done.stdout.split())

    assert {"login", "doctor", "ssh", "--version"} <= offered("jhssh", "")
    assert offered("jhssh", "do") == {"doctor"}
    assert offered("jhssh", "keys", "re") == {"remove"}
    assert offered("jhssh", "servers", "start", "--no") == {"--no-wait"}
    assert offered("jhssh", "scp", "al") == {"alice.hub"}
    assert offered("jhssh", "servers", "start", "gpu", "--no") == {"--no-wait"}
    assert offered("jhssh", "login", "https://hub.example.org", "--ca") == {"--ca-file"}
    assert offered("jhssh", "keys", "nonsense", "") == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_names_every_command(laptop: Laptop, shell: str) -> None:
    script = laptop.good("completion", shell)
    for word in ("login", "logout", "config", "proxy", "keys", "servers", "code", "doctor", "completion", "dry-run", "no-wait"):
        assert word in script
