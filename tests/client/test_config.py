"""The block in ssh's configuration, as the real ssh reads it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jhssh_ext.client import config, ssh_client
from jhssh_ext.client.ssh_config import BEGIN, END, BrokenMarkers, quoted, replaced, shell_words

from ..fakes.gateway_api import FakeGateway
from ..harness.processes import free_port
from .conftest import Laptop
from .ssh_port import speaking

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKMwN5GLUYHBuuccH/ktWGtqzGbKjwGznVr8VvbMBPHS"
TUNNEL = "wss://hub.example.org/services/ssh/tunnel"
OWN = "# mine\nUser someone\n\nHost other\n    Port 1234\n"


@pytest.fixture(autouse=True)
def hub(fake: FakeGateway) -> None:
    """One whose SSH port is not published, with two servers."""
    fake.connect = {"host": "hub.example.org", "port": 2222, "published": False, "host_keys": [KEY], "tunnel": TUNNEL}
    fake.servers["gpu"] = fake.server("gpu")


def seen(laptop: Laptop, host: str) -> dict[str, list[str]]:
    found = ssh_client.read(laptop.ssh / "config", host)
    assert isinstance(found, dict), found
    return found


def test_it_is_printed_and_nothing_is_written(logged_in: Laptop) -> None:
    done = logged_in.run("config")
    assert done.out.startswith(f"{BEGIN}\n")
    assert f"jhssh-gateway.hub {KEY}" in done.err
    assert "-Host alice" not in done.out
    assert not logged_in.ssh.exists()


def test_it_is_written_so_that_ssh_finds_it(logged_in: Laptop) -> None:
    logged_in.good("config", "--write")
    for host, user in (("alice.hub", "alice"), ("alice-gpu.hub", "alice+gpu")):
        found = seen(logged_in, host)
        assert found["user"] == [user]
        assert found["hostname"] == [host]
        assert found["hostkeyalias"] == ["jhssh-gateway.hub"]
        assert found["stricthostkeychecking"] == ["true"]
        assert found["userknownhostsfile"] == [str(logged_in.ssh / "jhssh_known_hosts")]
        assert found["proxycommand"] == [f"{sys.executable} -m jhssh_ext.client proxy %h"]
    assert (logged_in.ssh / "jhssh_known_hosts").read_text().splitlines()[1:] == [f"jhssh-gateway.hub {KEY}"]
    assert stat.S_IMODE(logged_in.ssh.stat().st_mode) == 0o700
    assert stat.S_IMODE((logged_in.ssh / "config").stat().st_mode) == 0o600
    assert "StrictHostKeyChecking no" not in (logged_in.ssh / "config").read_text()


def test_the_second_time_nothing_changes(logged_in: Laptop) -> None:
    logged_in.good("config", "--write")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in logged_in.ssh.iterdir()}
    done = logged_in.run("config", "--write")
    assert "already as it should be" in done.err
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in logged_in.ssh.iterdir()}


@pytest.mark.parametrize("own", [OWN, OWN.rstrip("\n"), OWN.replace("\n", "\r\n"), "Host *\n  User \udcff\udcfe # latin-1\n"])
def test_what_is_the_users_stays_byte_for_byte(logged_in: Laptop, fake: FakeGateway, own: str) -> None:
    logged_in.ssh.mkdir()
    file = logged_in.ssh / "config"
    raw = own.encode("utf-8", "surrogateescape")
    file.write_bytes(raw)
    logged_in.good("config", "--write")
    assert file.read_bytes().endswith(raw)
    assert seen(logged_in, "alice.hub")["user"] == ["alice"]
    fake.servers["big"] = fake.server("big")
    logged_in.good("config", "--write")
    assert file.read_bytes().endswith(raw)
    assert file.read_bytes().count(BEGIN.encode()) == 1
    assert seen(logged_in, "alice-big.hub")["user"] == ["alice+big"]
    logged_in.good("logout")
    logged_in.good("config", "--write")
    assert file.read_bytes() == raw


def test_what_was_for_all_hosts_still_is(logged_in: Laptop) -> None:
    logged_in.ssh.mkdir()
    (logged_in.ssh / "config").write_text(OWN)
    logged_in.good("config", "--write")
    assert seen(logged_in, "elsewhere.example.org")["user"] == ["someone"]
    assert seen(logged_in, "other")["port"] == ["1234"]


def test_a_block_that_was_moved_stays_where_it_is(logged_in: Laptop, fake: FakeGateway) -> None:
    logged_in.good("config", "--write")
    file = logged_in.ssh / "config"
    file.write_text("Host first\n    Port 99\n" + file.read_text() + "Host last\n    Port 98\n")
    fake.servers["big"] = fake.server("big")
    logged_in.good("config", "--write")
    text = file.read_text()
    assert text.startswith("Host first\n    Port 99\n# >>>")
    assert text.endswith("# <<< jhssh <<<\nHost last\n    Port 98\n")
    assert "alice-big.hub" in text


def test_a_block_that_comes_too_late_is_told(logged_in: Laptop) -> None:
    logged_in.good("config", "--write")
    file = logged_in.ssh / "config"
    before = "Host *.hub\n    User root\n" + file.read_text()
    file.write_text(before)
    done = logged_in.run("config", "--write")
    assert done.status == 1
    assert "Move the block to the top" in done.err
    assert file.read_text() == before


def test_a_configuration_that_ssh_rejects_is_reported_and_left_alone(logged_in: Laptop) -> None:
    logged_in.ssh.mkdir()
    file = logged_in.ssh / "config"
    file.write_text("Host x\n    Porrt 1\n")
    done = logged_in.run("config", "--write")
    assert done.status == 1
    assert f"{file} was not changed: ssh itself rejects it" in done.err
    assert "porrt" in done.err.lower()
    assert file.read_text() == "Host x\n    Porrt 1\n"
    assert not (logged_in.ssh / "jhssh_known_hosts").exists()


@pytest.mark.parametrize("damage", [f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"])
def test_damaged_marks_are_reported_and_left_alone(logged_in: Laptop, damage: str) -> None:
    logged_in.ssh.mkdir()
    file = logged_in.ssh / "config"
    file.write_text(damage + OWN)
    done = logged_in.run("config", "--write")
    assert (done.status, "the block of jhssh is damaged" in done.err, "line 1" in done.err) == (1, True, True)
    assert file.read_text() == damage + OWN


def test_links_and_modes_are_kept(logged_in: Laptop) -> None:
    logged_in.ssh.mkdir()
    real = logged_in.home / "dotfiles config"
    real.write_text(OWN)
    real.chmod(0o640)
    (logged_in.ssh / "config").symlink_to(real)
    logged_in.good("config", "--write")
    assert (logged_in.ssh / "config").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert real.read_text().startswith(BEGIN)
    assert sorted(path.name for path in logged_in.ssh.iterdir()) == ["config", "jhssh_known_hosts"]


def test_dry_run_shows_the_difference_and_writes_nothing(logged_in: Laptop) -> None:
    out = logged_in.good("config", "--dry-run")
    assert "+Host alice-gpu.hub" in out
    assert f"+jhssh-gateway.hub {KEY}" in out
    assert not logged_in.ssh.exists()
    logged_in.good("config", "--write")
    assert logged_in.run("config", "--dry-run").err == "Nothing would change.\n"


@pytest.mark.parametrize("own", ["", OWN])
def test_what_an_editor_saves_meanwhile_is_not_lost(logged_in: Laptop, monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    logged_in.ssh.mkdir()
    file = logged_in.ssh / "config"
    if own:
        file.write_text(own)
    read = ssh_client.read

    def read_while_it_is_saved(path: Path, host: str) -> dict[str, list[str]] | str:
        file.write_text(OWN + "Host important\n")
        return read(path, host)

    monkeypatch.setattr(ssh_client, "read", read_while_it_is_saved)
    done = logged_in.run("config", "--write")
    assert (done.status, "something else has just written it" in done.err) == (1, True)
    assert file.read_text() == OWN + "Host important\n"
    assert not [path for path in logged_in.ssh.iterdir() if path.name.startswith(".jhssh-")]
    monkeypatch.setattr(ssh_client, "read", read)
    logged_in.good("config", "--write")
    assert file.read_text().endswith(OWN + "Host important\n")


def test_a_file_that_its_owner_may_not_write_is_left_alone(logged_in: Laptop) -> None:
    logged_in.ssh.mkdir()
    file = logged_in.ssh / "config"
    file.write_text(OWN)
    file.chmod(0o400)
    done = logged_in.run("config", "--write")
    assert (done.status, f"chmod u+w {file}" in done.err) == (1, True)
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (OWN, 0o400)


def test_a_check_of_many_hosts_is_told(logged_in: Laptop, fake: FakeGateway) -> None:
    assert "Checking" not in logged_in.run("config", "--write").err
    fake.servers |= {f"s{n}": fake.server(f"s{n}") for n in range(config.FEW)}
    done = logged_in.run("config", "--write")
    assert done.err.count(f"Checking how ssh reads {config.FEW + 2} hosts …") == 1
    assert seen(logged_in, "alice-s7.hub")["user"] == ["alice+s7"]


def test_another_file(logged_in: Laptop) -> None:
    file = logged_in.home / "some where/hosts"
    logged_in.good("config", "--write", "--file", str(file))
    assert file.read_text().startswith(BEGIN)
    assert not (logged_in.ssh / "config").exists()


def test_the_way_is_the_port_where_it_can_be_reached(logged_in: Laptop, fake: FakeGateway) -> None:
    with speaking(b"SSH-2.0-x\r\n") as port:
        fake.connect |= {"host": "127.0.0.1", "port": port, "published": True}
        logged_in.good("config", "--write")
        found = seen(logged_in, "alice.hub")
        assert (found["hostname"], found["port"], found.get("proxycommand")) == (["127.0.0.1"], [str(port)], None)
        logged_in.good("config", "--write", "--tunnel")
        assert "proxycommand" in seen(logged_in, "alice.hub")
        logged_in.good("config", "--write")  # it is remembered
        assert "proxycommand" in seen(logged_in, "alice.hub")
        logged_in.log_in(fake)  # also by the next login
        logged_in.good("config", "--write")
        assert "proxycommand" in seen(logged_in, "alice.hub")
        logged_in.good("config", "--write", "--auto")
        assert "proxycommand" not in seen(logged_in, "alice.hub")
        fake.connect["published"] = False
        logged_in.good("config", "--write")
        assert "proxycommand" in seen(logged_in, "alice.hub")
        logged_in.good("config", "--write", "--direct")
        assert "proxycommand" not in seen(logged_in, "alice.hub")


def test_the_way_is_the_tunnel_where_the_port_is_closed_or_another_service(logged_in: Laptop, fake: FakeGateway) -> None:
    with speaking(b"HTTP/1.1 302 Found\r\nLocation: https://portal\r\n\r\n") as portal:
        for port in (free_port(), portal):
            fake.connect |= {"host": "127.0.0.1", "port": port, "published": True}
            logged_in.good("config", "--write")
            assert "proxycommand" in seen(logged_in, "alice.hub")


def test_a_hub_that_is_down_keeps_its_hosts(logged_in: Laptop, fake: FakeGateway) -> None:
    logged_in.good("config", "--write")
    fake.answers["api/me"] = (503, b"", {})
    done = logged_in.run("config", "--write")
    assert done.status == 0
    assert "What was known before is used." in done.err
    assert seen(logged_in, "alice-gpu.hub")["user"] == ["alice+gpu"]


def test_a_hub_without_any_way_is_told(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.connect |= {"port": 0, "tunnel": ""}
    assert "no way by which ssh could reach it" in logged_in.run("config", "--write").err
    assert not (logged_in.ssh / "config").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "evil\n  ProxyCommand touch x"},
        {"host": "-oProxyCommand=x"},
        {"host": "a b"},
        {"port": 70000},
        {"port": "22"},
        {"tunnel": "ws://hub.example.org/"},
        {"tunnel": "https://hub.example.org/"},
        {"tunnel": "wss://hub.example.org/ x"},
        {"host_keys": "x"},
    ],
)
def test_a_hub_that_tells_nonsense_changes_nothing(logged_in: Laptop, fake: FakeGateway, changes: dict[str, object]) -> None:
    before = (logged_in.settings / "hubs.json").read_bytes()
    fake.connect |= changes
    done = logged_in.run("servers", "list")
    assert (done.status, "makes no sense" in done.err) == (1, True)
    assert (logged_in.settings / "hubs.json").read_bytes() == before


def test_host_keys_that_are_none_are_left_out(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.connect["host_keys"] = [KEY + " comment\n* ssh-rsa AAAA", "@cert-authority * x", KEY + " gateway", 7]
    logged_in.good("config", "--write")
    assert (logged_in.ssh / "jhssh_known_hosts").read_text().splitlines()[1:] == [f"jhssh-gateway.hub {KEY}"]


def test_a_hub_that_is_not_known(logged_in: Laptop) -> None:
    done = logged_in.run("config", "--write", "--hub", "nowhere")
    assert (done.status, "Known: hub." in done.err) == (3, True)
    assert not logged_in.ssh.exists()


def test_nobody_logged_in(laptop: Laptop) -> None:
    assert laptop.run("config").status == 3
    laptop.good("config", "--write")
    assert not laptop.ssh.exists()


@pytest.mark.parametrize("where", ["plain", "with space", "with 100% and 'quotes'"])
def test_the_command_is_found_wherever_it_is(
    tmp_path: Path, logged_in: Laptop, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    program, out = tmp_path / where / "jhssh", tmp_path / "out"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$0 $*" >"$OUT"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("OUT", str(out))
    logged_in.good("config", "--write")
    subprocess.run(["ssh", "-F", str(logged_in.ssh / "config"), "alice.hub"], capture_output=True, timeout=30, check=False)
    assert out.read_text() == f"{program} proxy alice.hub\n"


def test_no_ssh_no_check(logged_in: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.shutil, "which", lambda _name: None)
    done = logged_in.run("config", "--write")
    assert (done.status, "no ssh on this computer" in done.err) == (0, True)


def test_a_folder_that_cannot_be_written(logged_in: Laptop) -> None:
    (logged_in.home / ".ssh").write_text("a file")
    done = logged_in.run("config", "--write")
    assert (done.status, str(logged_in.ssh / "config") in done.err) == (1, True)


def test_windows_line_ends_stay(tmp_path: Path) -> None:
    text = replaced("Host x\r\n  Port 1\r\n", f"{BEGIN}\nHost *\n{END}\n")
    assert text == f"{BEGIN}\r\nHost *\r\n{END}\r\nHost x\r\n  Port 1\r\n"
    assert replaced(text, "") == "Host x\r\n  Port 1\r\n"
    with pytest.raises(BrokenMarkers):
        replaced(f"{BEGIN}\r\n", "")


def test_quotes() -> None:
    assert quoted("C:/Users/a b/x") == '"C:/Users/a b/x"'
    assert quoted("/plain/path") == "/plain/path"
    assert quoted("=x") == '"=x"'
    assert shell_words(["C:/Program Files/jhssh.exe", "-m"]) == '"C:/Program Files/jhssh.exe" -m'
    assert shell_words(["/a $b"]) == "'/a $b'"
