"""Names of hosts: harmless whatever users and servers are called, each its own."""

from __future__ import annotations

import random
import re

import pytest

from jhssh_ext.client import host_names as module
from jhssh_ext.client.host_names import host_names

HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.hub")


@pytest.mark.parametrize(
    ("user", "servers", "wanted"),
    [
        ("alice", ["", "gpu"], {"": "alice.hub", "gpu": "alice-gpu.hub"}),
        ("Alice@Example.org", [""], {"": "alice-example.org.hub"}),
        ("a b", ["", "c d"], {"": "a-b.hub", "c d": "a-b-c-d-b561f19f.hub"}),
        ("alice", ["GPU", "gpu"], {"GPU": "alice-gpu-ea49523d.hub", "gpu": "alice-gpu.hub"}),
        ("alice", ["日本", "deadbeef"], {"日本": "alice-cf2abf0c.hub", "deadbeef": "alice-deadbeef-2baf1f40.hub"}),
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
    for server in servers:
        assert host_names(user, [server], "hub")[server] == names[server]


def test_no_name_moves_and_no_two_are_alike_whatever_there_is() -> None:
    """Names of few letters, and names that look like what others become: by chance, always the same."""
    chance = random.Random(6)
    servers = {"".join(chance.choices("gG-.!é", k=chance.randrange(5))) for _ in range(300)}
    for _ in range(3):
        servers |= {
            host.removeprefix("alice").lstrip("-").removesuffix(".hub") for host in host_names("alice", servers, "hub").values()
        }
    names = host_names("alice", servers, "hub")
    assert len(set(names.values())) == len(servers) > 500
    assert not [name for name in names.values() if not HOST.fullmatch(name)]
    for server in servers:
        assert host_names("alice", {"", server, "GPU"}, "hub")[server] == names[server]


def test_hashes_that_begin_alike_are_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.hashlib, "sha256", lambda text: FakeHash(text))
    names = host_names("alice", ["A", "a", "Å", "ä"], "hub")
    assert len(set(names.values())) == 4


class FakeHash:
    """Of which the first digits are always the same."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def hexdigest(self) -> str:
        return f"00000000{self._text.hex():0<56}"
