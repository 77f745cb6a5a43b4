from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from jhssh_ext.hub import user_ca_keys
from jhssh_ext.hub.user_ca_keys import UserCAKeysRefused

from .conftest import make_public_key

PRIVATE = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii")


def test_several_keys_with_comments_and_empty_lines() -> None:
    one, two = make_public_key(), make_public_key()
    text = f"# the old one\n{one} gateway CA 2025\n\n  {two}\r\n"
    assert user_ca_keys.parse(text, "it") == (one, two)


def test_no_keys_is_no_error() -> None:
    assert user_ca_keys.parse("# none yet\n\n", "it") == ()


def test_a_private_key_is_named_as_such_and_not_shown() -> None:
    with pytest.raises(UserCAKeysRefused, match="the file x holds a private key") as refused:
        user_ca_keys.parse(PRIVATE, "the file x")
    assert not any(line in str(refused.value) for line in PRIVATE.splitlines())


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + make_public_key().split()[1],
        "ssh-dss AAAAB3NzaC1kc3M=",
        "ssh-ed25519-cert-v01@openssh.com " + make_public_key().split()[1],
        'cert-authority,principals="x" ' + make_public_key(),
        "ssh-ed25519 " + "\u00e9",
        make_public_key()[:-8],
    ],
    ids=range(10),  # not by keys that are new in each process
)
def test_what_is_no_public_key_is_refused_by_its_line(line: str) -> None:
    with pytest.raises(UserCAKeysRefused, match=r"^line 2 of it is not an? .*OpenSSH public key$"):
        user_ca_keys.parse(f"{make_public_key()}\n{line}\n", "it")


def test_a_key_given_twice_counts_once() -> None:
    one, two = make_public_key(), make_public_key()
    assert user_ca_keys.unique([one, two, one]) == (one, two)


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pub").write_text("some text\n")
    assert user_ca_keys.read_file(tmp_path / "ca.pub") == "some text\n"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserCAKeysRefused, match=r"none\.pub can't be read: No such file"):
        user_ca_keys.read_file(tmp_path / "none.pub")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pub").write_bytes(b"#" * (user_ca_keys.MAX_FILE + 1))
    with pytest.raises(UserCAKeysRefused, match="no file of public keys"):
        user_ca_keys.read_file(tmp_path / "ca.pub")
