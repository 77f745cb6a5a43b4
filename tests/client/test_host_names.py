"""Names of hosts: harmless whatever users and servers are called, each its own."""

from __future__ import annotations

import re

import pytest

from jhssh_ext.client.host_names import host_names

HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.hub")


@pytest.mark.parametrize(
    ("user", "servers", "wanted"),
    [
        ("alice", ["", "gpu"], {"": "alice.hub", "gpu": "alice-gpu.hub"}),
        ("Alice@Example.org", [""], {"": "alice-example.org.hub"}),
        ("a b", ["", "c d"], {"": "a-b.hub", "c d": "a-b-c-d.hub"}),
    ],
)
def test_what_they_are(user: str, servers: list[str], wanted: dict[str, str]) -> None:
    assert host_names(user, servers, "hub") == wanted


@pytest.mark.parametrize("user", ["alice", "ä", "*", "-x", "a\nProxyCommand x", "#", "x" * 300, "\ud800", "a%h", '"', "日本"])
def test_they_are_harmless_and_no_two_are_alike(user: str) -> None:
    servers = ["", "gpu", "GPU", "g p u", "g-p-u", "ö", "ü", "*", "\n", "g%u"]
    names = host_names(user, servers, "hub")
    assert set(names) == set(servers)
    assert len(set(names.values())) == len(servers)
    assert not [name for name in names.values() if not HOST.fullmatch(name)]
    assert host_names(user, reversed(servers), "hub") == names
