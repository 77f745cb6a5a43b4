"""After logins of every kind, good and bad: what Hub, gateway and user servers wrote holds nothing that opens anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ..conftest import register_key
from ..harness.hub import Hub
from ..harness.ssh import SSHClient, make_key
from .conftest import works
from .hostile import found_in, private_key_secrets, secrets_of_hub

pytestmark = pytest.mark.slow


def test_logs_and_sessions_hold_no_secret(any_hub: Hub, client: Callable[..., SSHClient], tmp_path: Path) -> None:
    assert any_hub.gateway is not None
    user, key = "faults-logs", make_key(tmp_path / "id")
    token, refused = any_hub.token(user), any_hub.token("faults-carl")
    typo = "my-secret-password-in-place-of-a-token"
    assert works(client(any_hub, user, password=token), user)
    assert client(any_hub, user, password=refused).run("true").returncode == 255
    assert client(any_hub, user, password=typo).run("true").returncode == 255
    register_key(any_hub, user, key)
    assert works(client(any_hub, user, key=key), user)
    any_hub.server_api("POST", user, "publickey", {"public_key": key.private.read_text()})
    state = any_hub.server_state(user)
    environ = psutil.Process(state["pid"]).environ()
    secrets = {
        **secrets_of_hub(any_hub),
        "token": [token.encode()],
        "refused token": [refused.encode()],
        "typo": [typo.encode()],
        "private key": private_key_secrets(key.private),
        "spawn secret": [state["jhssh"]["secret"].encode()],
        "host key": [environ["JHSSH_HOST_KEY"].splitlines()[2].encode()],
        "server's token": [environ["JUPYTERHUB_API_TOKEN"].encode()],
    }
    assert found_in(environ["JHSSH_SECRET"].encode(), secrets) == ["spawn secret"]
    for log in {any_hub.log_file, any_hub.gateway.log_file}:
        assert found_in(log.read_bytes(), secrets) == [], log
        assert b"cert-v01" not in log.read_bytes()
    # A session is its owner's, who may have the token of their server, but never what proves the server to the gateway.
    session = client(any_hub, user, key=key).run("env; cat /proc/self/environ").stdout
    assert b"JHSSH_" not in session
    assert set(found_in(session, secrets)) <= {"server's token"}
