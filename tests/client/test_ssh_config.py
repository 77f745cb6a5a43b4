"""Names that others chose, on their way into ssh's configuration: by the real ssh, none of them runs a command here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jhssh_ext.client import config, hubs, ssh_client, ssh_config, tools
from jhssh_ext.client.failures import Failure
from jhssh_ext.client.ssh_config import BEGIN, END, proxy_command, quoted, replaced, takes

from ..fakes import hub_without_gateway
from ..fakes.gateway_api import FakeGateway
from ..fakes.hub_without_gateway import TOKEN, FakeHub
from .conftest import Laptop

COMMAND = "touch ran"
LINE_ENDS = ["\n", "\r", "\r\n", "\0", "\0\n", "\v", "\f", "\x1e", "\x85", "\u2028", "\u2029"]
LINES = [f'alice{end}Match exec "{COMMAND}"{end}#' for end in LINE_ENDS]
LINES += [
    'alice"\nMatch exec "touch ran"\n#',
    f"alice\n    ProxyCommand {COMMAND}\n",
    f"\nLocalCommand {COMMAND}\nPermitLocalCommand yes",
]
EXPANDED = [
    "$(touch ran)",
    "`touch ran`",
    "x; touch ran;",
    "x & touch ran &",
    "x | touch ran |",
    "x' || touch ran || '",
    "x ) || touch ran",
]
EXPANDED += [
    'x" || touch ran || "',
    "x > ran",
    "<ran",
    "-oProxyCommand=touch ran",
    "x -o y",
    "x\\",
    "x\\ y",
    "${HOME}",
    "%d",
    "{a,b}",
]
OWN = 'Match exec "test %r = work"\n    Compression yes\nHost *\n    PermitLocalCommand yes\n    LocalCommand test %r = work\n'


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Has COMMAND been run?"""
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "ran").exists


@pytest.fixture(autouse=True)
def hub(fake: FakeGateway) -> None:
    fake.connect |= {"host": "127.0.0.1", "port": 1, "tunnel": "ws://127.0.0.1:1/"}
    fake.servers["gpu"] = fake.server("gpu")


@pytest.fixture
def own_hub() -> Iterator[FakeHub]:
    with hub_without_gateway.running() as found:
        yield found


def named(fake: FakeGateway, names: list[str]) -> None:
    """Servers s0, s1, … whose login names these are."""
    fake.servers |= {f"s{n}": fake.server(f"s{n}", login_name=name) for n, name in enumerate(names)}


def use(laptop: Laptop, host: str = "alice.hub") -> None:
    """All that writes a configuration, and ssh that reads it."""
    laptop.run("config", "--write")
    assert isinstance(ssh_client.read(laptop.ssh / "config", host), dict)
    assert laptop.process("ssh", "-G", host).returncode == 0
    assert laptop.process("scp", "x", f"{host}:y").returncode != 0


@pytest.mark.parametrize("name", [LINES[0], '"$(touch ran)"', '"x; touch ran;"'])
def test_that_they_would_run(name: str, ran: Callable[[], bool], tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(f"Host alice.hub\n    User {name}\n{OWN}")
    ssh_client.read(file, "alice.hub")
    assert ran()


def test_a_login_name_of_a_hub_adds_no_line(logged_in: Laptop, fake: FakeGateway, ran: Callable[[], bool]) -> None:
    named(fake, LINES)
    use(logged_in, "alice-gpu.hub")
    assert not ran()
    found = ssh_client.read(logged_in.ssh / "config", "alice-gpu.hub")
    assert isinstance(found, dict)
    assert found["user"] == ["alice+gpu"]
    for file in (logged_in.ssh / "config", logged_in.settings / "ssh_config+hub"):
        assert "Match" not in file.read_text()
        assert "Host alice-gpu.hub\n" in file.read_text()


def test_a_server_of_such_a_name_adds_no_line(logged_in: Laptop, fake: FakeGateway, ran: Callable[[], bool]) -> None:
    """As a script in the user's Lab may make it."""
    fake.servers |= {name: fake.server(name) for name in LINES}
    fake.servers |= {f"{name} ": fake.server(f"{name} ", login_name="") for name in LINES}
    use(logged_in)
    assert not ran()


def test_what_is_remembered_already_adds_no_line(logged_in: Laptop, fake: FakeGateway, ran: Callable[[], bool]) -> None:
    named(fake, ["x"] * len(LINES))
    logged_in.good("servers", "list")
    known = hubs.choose()
    servers = [replace(each, login_name=LINES[n]) for n, each in enumerate(known.servers[-len(LINES) :])]
    hubs.save(replace(known, servers=(known.servers[0], *servers)))
    fake.answers["api/me"] = (503, b"", {})
    use(logged_in)
    assert not ran()


@pytest.mark.slow
def test_a_users_own_server_adds_no_line(laptop: Laptop, own_hub: FakeHub, ran: Callable[[], bool]) -> None:
    laptop.good("login", own_hub.url, "--token", typed=f"{TOKEN}\n")
    laptop.ssh.mkdir()
    for name in LINES + EXPANDED:
        own_hub.status[1]["tunnel"]["user"] = name
        (laptop.ssh / "config").write_text(OWN)
        laptop.run("config", "--write")
        for file in (laptop.ssh / "config", tools.written(["alice.hub"])):
            ssh_client.read(file, "alice.hub")
        assert not ran()
        assert "can't be given the name of its account" in laptop.run("servers", "list").err


def test_no_login_name_gets_to_a_shell(logged_in: Laptop, fake: FakeGateway, ran: Callable[[], bool]) -> None:
    logged_in.ssh.mkdir()
    (logged_in.ssh / "config").write_text(OWN)
    named(fake, EXPANDED)
    use(logged_in)
    assert not ran()
    done = logged_in.run("config", "--write")
    for n in range(len(EXPANDED)):
        host = f"alice-s{n}.hub"
        assert f"{host} is left out: its login name" in done.err
        assert f"Host {host}\n" not in (logged_in.ssh / "config").read_text()
        assert host in logged_in.good("servers", "list")
    assert "alice-s0.hub is left out" in logged_in.process("ssh", "-G", "alice-s0.hub").stderr
    assert "left out" not in logged_in.process("ssh", "-G", "alice-gpu.hub").stderr
    assert not ran()


def test_a_hub_all_of_whose_names_are_none(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.servers = {"": fake.server("", login_name=LINES[0])}
    assert "no server of yours has a name that SSH could take" in logged_in.run("config", "--write").err


def test_a_server_without_a_login_name_is_left_out(logged_in: Laptop, fake: FakeGateway) -> None:
    """A named one, where the gateway has no separator."""
    fake.servers["gpu"]["login_name"] = ""
    done = logged_in.run("config", "--write")
    assert "alice-gpu.hub is left out: its hub has no login name for it." in done.err
    assert "alice-gpu" not in (logged_in.ssh / "config").read_text()


def test_other_names_reach_ssh_as_they_are(logged_in: Laptop, fake: FakeGateway) -> None:
    names = ["=x", "alice example", "a#b", "日本", "a\\b", "DOMAIN\\alice", "a@b.example.org", "a*", "~a", "!a", "a=b"]
    named(fake, names)
    logged_in.good("config", "--write")
    for n, name in enumerate(names):
        found = ssh_client.read(logged_in.ssh / "config", f"alice-s{n}.hub")
        assert isinstance(found, dict)
        assert found["user"] == [name]


@pytest.mark.parametrize("character", [*LINE_ENDS, "\x1b", "\x7f"])
def test_nothing_that_ends_a_line_is_ever_written(character: str) -> None:
    for written in (quoted, lambda path: proxy_command([path])):
        with pytest.raises(Failure, match="control character"):
            written(f"/home/a{character}b")
    assert not takes(f"a{character}b")


def test_a_file_is_read_by_lines_as_ssh_reads_it() -> None:
    text = f"# a\u2028{BEGIN}\n# b\x85{END}\n"
    assert replaced(text, f"{BEGIN}\n{END}\n") == f"{BEGIN}\n{END}\n{text}"


def test_what_else_a_hub_names_is_plain(logged_in: Laptop, fake: FakeGateway) -> None:
    for changes in ({"host": "$(id)"}, {"host": "%h"}, {"host": "a;b"}, {"tunnel": "wss://[x"}, {"tunnel": "wss://x:99999/"}):
        before = json.dumps(fake.connect)
        fake.connect |= changes
        done = logged_in.run("config", "--write")
        assert "makes no sense" in done.err
        fake.connect = json.loads(before)
    (host,) = ssh_config.hosts(replace(hubs.choose(), servers=hubs.choose().servers[:1]), tunnel=True)
    assert config.sections([host.hub]) == [host]
