from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from jhssh_ext.errors import KeyRefused
from jhssh_ext.payloads import ServerEnvironment
from jhssh_ext.singleuser.environment import public_host_key, session_environment, take

from .servers import Credentials, keygen


def test_takes_everything_of_ours_out_and_reads_it(credentials: Credentials) -> None:
    given = credentials.environment(2022)
    environ = {"PATH": "/bin", "JHSSH_OF_A_LATER_VERSION": "x", **given.to_environ()}
    assert take(environ) == given
    assert environ == {"PATH": "/bin"}


def test_without_a_hub_ssh_is_off() -> None:
    found = take({"PATH": "/bin"})
    assert not found.enabled
    assert found.disabled_because


def test_where_it_is_off_the_reason_is_kept() -> None:
    given = ServerEnvironment(False, disabled_because="Tick the box.")
    assert take(given.to_environ()) == given


@pytest.mark.parametrize("missing", ["principal", "host_key", "user_ca_keys", "audience", "listen_port"])
def test_an_incomplete_setup_is_off_with_a_reason(credentials: Credentials, missing: str) -> None:
    environ = credentials.environment(2022).to_environ()
    del environ[f"JHSSH_{missing.upper()}"]
    found = take(environ)
    assert not found.enabled
    assert "incomplete" in found.disabled_because


def test_a_setup_of_another_shape_is_off_with_a_reason(credentials: Credentials) -> None:
    environ = {**credentials.environment(2022).to_environ(), "JHSSH_LISTEN_PORT": "ssh"}
    found = take(environ)
    assert not found.enabled
    assert found.disabled_because
    assert environ == {}


def test_sessions_get_the_environment_of_the_server_and_nothing_of_ours_or_of_another_session() -> None:
    environ = {"PATH": "/bin", "ODD": "a\nb", "JHSSH_SECRET": "x", "SSH_CLIENT": "1.2.3.4", "SSH_AUTH_SOCK": "/agent"}
    assert session_environment(environ, "/home/alice", "http://127.0.0.1/") == {
        "PATH": "/bin",
        "ODD": "a\nb",
        "SSH_AUTH_SOCK": "/agent",
        "JUPYTER_SERVER_ROOT": "/home/alice",
        "JUPYTER_SERVER_URL": "http://127.0.0.1/",
    }


def test_the_public_host_key_is_that_of_the_private_one(credentials: Credentials) -> None:
    private = (credentials.folder / "host_key").read_text()
    assert public_host_key(private).line == " ".join((credentials.folder / "host_key.pub").read_text().split()[:2])
    assert public_host_key(f"\n{private}\n\n") == public_host_key(private)


def test_a_host_key_of_another_kind_is_refused(credentials: Credentials, tmp_path: Path) -> None:
    private = (credentials.folder / "host_key").read_text()
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa], check=True)
    encrypted = keygen(tmp_path / "encrypted")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", encrypted], check=True)
    head, *body, foot = private.strip().splitlines()
    for text in (
        "",
        "no key",
        rsa.read_text(),
        encrypted.read_text(),
        "\n".join([head, body[0][:40], foot]),
        "\n".join([head, "!!!", foot]),
        "\n".join([head, base64.b64encode(b"something else").decode(), foot]),
        private.replace("OPENSSH", "RSA"),
    ):
        with pytest.raises((ValueError, KeyRefused)):
            public_host_key(text)
