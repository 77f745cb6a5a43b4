from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from jhssh_ext.payloads import SIDECAR, ServerEnvironment
from jhssh_ext.singleuser import sidecar_sshd
from jhssh_ext.singleuser.environment import take
from jhssh_ext.singleuser.sidecar_sshd import SidecarSSHD

GIVEN = ServerEnvironment(
    True,
    sshd=SIDECAR,
    public_host_key="ssh-ed25519 AAAA",
    audience="a",
    secret="s",
    listen_port=2222,
    gateway_url="http://gateway/",
)


def test_what_only_sshd_needs_is_not_missed() -> None:
    environ = {"PATH": "/bin", **GIVEN.to_environ()}
    assert take(environ) == GIVEN
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("missing", ["public_host_key", "audience", "secret", "listen_port"])
def test_an_incomplete_setup_is_off_with_a_reason(missing: str) -> None:
    environ = GIVEN.to_environ()
    del environ[f"JHSSH_{missing.upper()}"]
    found = take(environ)
    assert not found.enabled
    assert "incomplete" in found.disabled_because


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("told", "listens"), [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("127.0.0.3", "127.0.0.3")]
)
async def test_an_sshd_that_listens_is_running(told: str, listens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar_sshd, "LOOK_TIMEOUT", 30.0)
    with socket.create_server((listens, 0)) as listener:
        status = await SidecarSSHD(replace(GIVEN, listen_address=told, listen_port=listener.getsockname()[1])).status()
    assert status == {"implementation": "sidecar", "state": "running", "host_keys": ["ssh-ed25519 AAAA"], "sessions": 0}


@pytest.mark.asyncio
@pytest.mark.parametrize("listens", ["127.0.0.1", "::1"])
async def test_the_connections_of_the_gateway_are_sessions(listens: str) -> None:
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    try:
        listener = socket.create_server((listens, 0), family=family)
    except OSError as error:
        pytest.skip(f"no {listens} here: {error.strerror}")
    with listener, contextlib.ExitStack() as stack:
        port = listener.getsockname()[1]
        sshd = SidecarSSHD(replace(GIVEN, listen_address=listens, listen_port=port))
        for _ in range(2):
            stack.enter_context(socket.create_connection((listens, port)))
        assert (await sshd.status())["sessions"] == 2


@pytest.mark.asyncio
async def test_where_connections_can_not_be_seen_their_number_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sidecar_sshd, "TABLES", (tmp_path / "none",))
    assert (await SidecarSSHD(GIVEN).status())["sessions"] is None


@pytest.mark.asyncio
async def test_an_sshd_that_does_not_listen_has_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status = await SidecarSSHD(replace(GIVEN, listen_address="127.0.0.1", listen_port=port)).status()
    assert status["state"] == "failed"
    assert f"does not answer on port {port}: " in status["reason"]


@pytest.mark.asyncio
async def test_an_sshd_that_says_nothing_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    monkeypatch.setattr(sidecar_sshd, "LOOK_TIMEOUT", 0.1)
    looking = asyncio.create_task(SidecarSSHD(GIVEN).status())
    await asyncio.sleep(0)
    assert not looking.done()
    assert (await looking)["reason"] == "The sidecar's sshd does not answer on port 2222: no answer."


@pytest.mark.asyncio
async def test_it_is_neither_started_nor_stopped_from_here() -> None:
    sshd = SidecarSSHD(GIVEN)
    sshd.start()
    await sshd.stop()
    assert (await sshd.status())["implementation"] == "sidecar"
