"""Certificates that open one user server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncssh
import pytest

from jhssh_ext.gateway import key_files
from jhssh_ext.gateway.connect.user_ca import CLOCK_SKEW, LIFETIME, UserCA
from jhssh_ext.identifiers import PRINCIPAL, opaque_id
from jhssh_ext.login_names import UserServer


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    key_files.make(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.mark.parametrize("target", [UserServer("alice", "gpu"), UserServer("*"), UserServer("x\ny")])
def test_a_certificate_names_one_user_server_alone(keys: Path, tmp_path: Path, target: UserServer) -> None:
    credential = UserCA.read(str(keys / "user_ca")).credential("hub", target)
    path = tmp_path / "cert.pub"
    path.write_bytes(credential.certificate.export_certificate())
    shown = subprocess.run(["ssh-keygen", "-L", "-f", path], capture_output=True, text=True, check=True).stdout
    principals = shown.split("Principals:")[1].split("Critical Options:")[0].split()
    assert principals == [opaque_id(PRINCIPAL, "hub", target.user, target.server)]
    assert "user certificate" in shown
    assert "Critical Options: (none)" in shown


def test_a_certificate_lives_for_minutes(keys: Path) -> None:
    certificate = UserCA.read(str(keys / "user_ca")).credential("hub", UserServer("alice")).certificate
    assert certificate._valid_before - certificate._valid_after == LIFETIME + 2 * CLOCK_SKEW  # type: ignore[attr-defined]


def test_each_connection_has_a_key_of_its_own(keys: Path) -> None:
    ca = UserCA.read(str(keys / "user_ca"))
    first, second = (ca.credential("hub", UserServer("alice")).key.public_data for _ in range(2))
    assert first != second


def test_keys_are_made_once_and_are_private(keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    assert set(before) == {"host_key", "host_key.pub", "user_ca", "user_ca.pub"}
    assert key_files.make(keys) == []
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
    assert [(keys / name).stat().st_mode & 0o777 for name in ("host_key", "user_ca")] == [0o600, 0o600]
    assert asyncssh.read_private_key(keys / "host_key").get_algorithm() == "ssh-ed25519"
