from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from jhssh_ext.hub import host_keys
from jhssh_ext.identifiers import HOST_KEY, opaque_id

SECRET = b"s" * 32
CREATED = "2026-01-02T03:04:05.000006"


def seed(user: str = "alice", server: str = "", created: str = CREATED, epoch: str = "", secret: bytes = SECRET) -> bytes:
    return host_keys.host_key_seed(secret, opaque_id(HOST_KEY, "hub", user, server), created, epoch)


def test_the_derivation_never_changes_between_versions() -> None:
    """Values fixed once: another value here gives every user server on every hub another host key."""
    assert host_keys.derive_secret(bytes(range(32))).hex() == "5e57f208245601950969eabe5ab8e6d76725a230f5de09b97e8321600b46cf3a"
    assert host_keys.derive_hub_id(SECRET) == "ae55fa7bfba55c6a445b6ad9d2fcc9f4"
    assert host_keys.host_key(seed()).public == "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICwLFbXT+uR1/BP6DJBtcm3SzbAa7qQZ6c0Kv3s5mgpb"


def test_each_input_gives_another_key() -> None:
    seeds = {
        seed(),
        seed(user="bob"),
        seed(server="gpu"),
        seed(created="2026-01-02T03:04:06"),
        seed(epoch="2"),
        seed(secret=b"t" * 32),
    }
    assert len(seeds) == 6
    assert all(len(value) == 32 for value in seeds)


def test_names_that_join_to_the_same_text_get_different_keys() -> None:
    assert len({seed("a", "b"), seed("a/b", ""), seed('a","b', ""), seed("ab", "")}) == 4


def test_the_private_half_is_openssh_and_fits_the_public_half() -> None:
    key = host_keys.host_key(seed())
    assert key.private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    loaded = load_ssh_private_key(key.private.encode("ascii"), None)
    assert loaded.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii") == key.public
    assert key.public.split()[0] == "ssh-ed25519"
    assert len(key.public.split()) == 2


def test_a_host_key_does_not_show_its_private_half() -> None:
    key = host_keys.host_key(seed())
    assert "PRIVATE" not in repr(key)
    assert key.public in repr(key)


def test_the_cookie_secret_is_not_the_secret() -> None:
    assert host_keys.derive_secret(SECRET) != SECRET
    assert host_keys.derive_hub_id(SECRET) not in SECRET.hex()


def test_a_short_cookie_secret_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="has 5 bytes") as refused:
        host_keys.derive_secret(b"hello")
    assert "hello" not in str(refused.value)


def test_the_same_moment_is_the_same_text_in_any_zone() -> None:
    naive = datetime(2026, 1, 2, 3, 4, 5, 6)
    aware = naive.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(hours=5)))
    assert host_keys.created_text(naive) == host_keys.created_text(aware) == CREATED
    assert host_keys.created_text(None) == ""
