"""Commands and configuration as OpenSSH takes them."""

from __future__ import annotations

import base64
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jhssh_ext.gateway.page_wiring import make_door
from jhssh_ext.gateway.settings import GatewaySettings
from jhssh_ext.gateway.web.ways_in import Door, client_setup
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import PublicKey

KEY = PublicKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x20" + bytes(32), "comment")


def door(port: int = 2222, separator: str = "+") -> Door:
    return Door("hub.example.org", port, KEY, separator)


@pytest.mark.parametrize(
    ("port", "target", "ssh"),
    [
        (2222, UserServer("alice"), "ssh -p 2222 alice@hub.example.org"),
        (22, UserServer("alice"), "ssh alice@hub.example.org"),
        (22, UserServer("alice", "gpu"), "ssh alice+gpu@hub.example.org"),
        (22, UserServer("alice@example.org"), "ssh -o User=alice@example.org hub.example.org"),
        (22, UserServer("a; rm -rf ~"), "ssh -o User='a; rm -rf ~' hub.example.org"),
        (22, UserServer("-oProxyCommand=x"), "ssh -o User=-oProxyCommand=x hub.example.org"),
    ],
)
def test_the_command_names_the_login(port: int, target: UserServer, ssh: str) -> None:
    way = door(port).way_to(target)
    assert way is not None
    assert way.ssh == ssh
    assert shlex.split(way.ssh)[-1] in ("hub.example.org", f"{target.user}@hub.example.org", "alice+gpu@hub.example.org")


def test_the_configuration_is_read_by_ssh(tmp_path: Path) -> None:
    way = door().way_to(UserServer("alice", "gpu"))
    assert way is not None
    (tmp_path / "config").write_text(way.config)
    done = subprocess.run(
        ["ssh", "-G", "-F", str(tmp_path / "config"), way.alias], capture_output=True, text=True, check=True, timeout=20
    )
    said = set(done.stdout.splitlines())
    assert {"hostname hub.example.org", "port 2222", "user alice+gpu"} <= said


@pytest.mark.parametrize("target", [UserServer('a"b'), UserServer("a b"), UserServer("%h"), UserServer("alice", "g*")])
def test_what_ssh_config_would_read_as_more_than_a_name_has_none(target: UserServer) -> None:
    way = door().way_to(target)
    assert way is not None
    assert (way.alias, way.config) == ("", "")


def test_without_a_separator_there_is_no_way_to_named_servers() -> None:
    assert door(separator="").way_to(UserServer("alice", "gpu")) is None
    assert door(separator="").way_to(UserServer("alice")) is not None


@pytest.mark.parametrize(("port", "host"), [(22, "hub.example.org"), (2222, "[hub.example.org]:2222")])
def test_the_line_for_known_hosts(port: int, host: str) -> None:
    assert door(port).known_hosts == f"{host} ssh-ed25519 {base64.b64encode(KEY.blob).decode()}"


TUNNEL = "wss://hub.example.org/a%20b/services/ssh/tunnel"


def test_through_the_tunnel(tmp_path: Path) -> None:
    way = Door("hub.example.org", 22, KEY, "+", False, TUNNEL).way_to(UserServer("alice", "gpu"))
    assert way is not None
    (tmp_path / "config").write_text(way.config)
    _, *options, host = shlex.split(way.through_tunnel)
    for arguments in (["-F", "none", *options, host], ["-F", str(tmp_path / "config"), way.alias]):
        done = subprocess.run(["ssh", "-G", *arguments], capture_output=True, text=True, check=True, timeout=20)
        said = set(done.stdout.splitlines())
        assert {"hostname hub.example.org", "port 22", "user alice+gpu"} <= said
        assert f"proxycommand websocat --binary --no-async-stdio {TUNNEL.replace('%', '%%')}" in said
    published = Door("hub.example.org", 2222, KEY, "+", True, TUNNEL).way_to(UserServer("alice"))
    assert published is not None
    assert "ProxyCommand" not in published.ssh + published.config
    assert "ProxyCommand" in published.through_tunnel
    without = door().way_to(UserServer("alice"))
    assert without is not None
    assert without.through_tunnel == ""


def test_the_address_of_the_hub_is_one_word_of_the_shell() -> None:
    login = client_setup("https://hub.example.org/$(x) y/services/ssh/").splitlines()[1]
    assert shlex.split(login) == ["jhssh", "login", "https://hub.example.org/$(x) y/"]


@pytest.mark.parametrize(
    ("page", "arguments"),
    [
        ("https://h/services/ssh/", "https://h/"),
        ("https://ssh--service.h:8000/b/services/ssh/", "https://ssh--service.h:8000/b/"),
        ("https://h/services/my%20ssh/", "https://h/ --service 'my ssh'"),
        ("https://h/elsewhere/", None),
    ],
)
def test_the_command_logs_in_where_it_finds_the_gateway(page: str, arguments: str | None) -> None:
    assert f"\njhssh login {arguments}\n" in client_setup(page) if arguments else client_setup(page) == ""


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"ssh_host": "ssh.h"}, ("ssh.h", 2222, True, "")),
        ({"ssh_host": "ssh.h", "public_ssh_port": 22}, ("ssh.h", 22, True, "")),
        ({"ssh_host": "ssh.h", "public_url": "https://h/b/"}, ("ssh.h", 2222, True, "wss://h/services/ssh/tunnel")),
        ({"ssh_host": "ssh.h", "page_url": "http://p:80/x"}, ("ssh.h", 2222, True, "ws://p:80/x/tunnel")),
        ({"ssh_host": "ssh.h", "public_url": "https://h/", "tunnel": False}, ("ssh.h", 2222, True, "")),
        (
            {"ssh_host": "ssh.h", "public_url": "https://h/", "ssh_published": False},
            ("ssh.h", 22, False, "wss://h/services/ssh/tunnel"),
        ),
        ({"public_url": "https://h/"}, ("h", 22, False, "wss://h/services/ssh/tunnel")),
        ({"public_url": "https://h/", "tunnel": False}, None),
        ({"ssh_host": "ssh.h", "ssh_published": False}, None),
        ({}, None),
    ],
)
def test_the_door_that_users_are_shown(settings: dict[str, Any], wanted: tuple[str, int, bool, str] | None) -> None:
    found = make_door(GatewaySettings(**settings), KEY)
    assert (found and (found.host, found.port, found.published, found.tunnel)) == wanted
