"""User and login names that were chosen to confuse: each leads to its own server or nowhere, and is escaped wherever it goes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import asyncssh
import pytest

from ..conftest import register_key
from ..harness.hub import Hub, request
from ..harness.ssh import KeyPair, SSHClient
from . import raw_ssh
from .conftest import works

pytestmark = pytest.mark.slow
BOB = "faults-bob"
ODD = ("a b", "*", "élise", "a@b.org", "faults-eve+x")
UNSAYABLE = ("x\ny",)


def _register(hub: Hub, user: str, key: KeyPair) -> None:
    """At the server itself: PyPI's configurable-http-proxy escapes @ on the way, and then no Jupyter server knows its own URL."""
    answer = request(
        "POST",
        hub.server_state(user)["jhssh"]["url"] + "publickey",
        json={"public_key": key.public},
        headers={"Authorization": f"token {hub.token(user)}"},
    )
    assert answer.status in (201, 409), answer


def test_odd_user_names_lead_to_their_own_server_and_to_no_other(
    any_hub: Hub, client: Callable[..., SSHClient], a_key: KeyPair, bobs_key: KeyPair, bob: SSHClient
) -> None:
    with ThreadPoolExecutor() as threads:
        list(threads.map(any_hub.start_server, (*ODD, *UNSAYABLE)))
    for number, name in enumerate(ODD):
        address = f"BindAddress 127.0.5.{number + 1}"
        assert works(client(any_hub, name, password=any_hub.token(name), options=[address]), name)
        _register(any_hub, name, a_key)
        assert works(client(any_hub, name, key=a_key, options=[address]), name)
        assert client(any_hub, name, key=bobs_key, options=[address]).run("true").returncode == 255
        assert client(any_hub, name, password=any_hub.token(BOB), options=[address]).run("true").returncode == 255
    for name in UNSAYABLE:
        _register(any_hub, name, a_key)
    assert client(any_hub, BOB, key=a_key).run("true").returncode == 255
    assert client(any_hub, "x", key=a_key).run("true").returncode == 255
    assert works(bob, BOB)
    with ThreadPoolExecutor() as threads:
        list(threads.map(any_hub.stop_server, (*ODD, *UNSAYABLE)))


def test_a_name_that_is_a_user_and_a_server_is_refused_to_both(
    any_hub: Hub, client: Callable[..., SSHClient], a_key: KeyPair
) -> None:
    user, twin = "faults-eve", "faults-eve+gpu"
    any_hub.start_server(user, "gpu")
    register_key(any_hub, user, a_key, server="gpu")
    assert works(client(any_hub, twin, key=a_key), user)
    token = any_hub.token(user)
    any_hub.create_user(twin)
    try:
        for options in ({"key": a_key}, {"password": token}, {"password": any_hub.token(twin)}):
            done = client(any_hub, twin, **options).run("true")
            assert done.returncode == 255
            assert b"Permission denied" in done.stderr
    finally:
        any_hub.delete_user(twin)
    assert works(client(any_hub, twin, key=a_key), user)
    any_hub.stop_server(user, "gpu")


NAMES: tuple[str | bytes, ...] = (
    "a/b",
    f"../{BOB}",
    "..",
    ".",
    "",
    f"{BOB}/",
    f"/{BOB}",
    f"%2e%2e/{BOB}",
    "%66aults-bob",
    f"{BOB}%00",
    f"{BOB}?x=1",
    f"{BOB}#x",
    f"{BOB}\\..",
    f"{BOB};id",
    f"{BOB}\n",
    f"x\n{BOB}",
    f"{BOB}\x00",
    "\x1b[31mred",
    "\u202e" + BOB,
    f"{BOB}+",
    f"+{BOB}",
    "+",
    "++",
    f"{BOB}+../../{BOB}/server",
    f"{BOB}+%2f",
    f"{BOB}+ ",
    f"{BOB}+/",
    "x" * 256,
    "x" * 10240,
    "é" * 5120,
    "e\u0301lise",
    b"\xff\xfe" + BOB.encode(),
    BOB.upper(),
    f" {BOB}",
    f"{BOB} ",
    "日本語",
    "🦊",
    "%s%n%x",
    "{0}",
    "$HOME",
    "'; drop table users; --",
    "faults-\ud7ffbob",
)


def test_absurd_login_names_are_nobodys_and_are_escaped(any_hub: Hub, bob: SSHClient, bobs_key: KeyPair) -> None:
    """With bob's own token and key, so that a name that came to mean bob would show."""
    assert any_hub.gateway is not None
    port, token = any_hub.gateway.ssh_port, any_hub.token(BOB)
    key = asyncssh.read_private_key(bobs_key.private)
    size = any_hub.log_file.stat().st_size

    async def one(number: int, name: str | bytes) -> None:
        connection = await raw_ssh.connect(port, f"127.0.6.{number + 1}")
        kind, _ = await connection.password(name, token)
        assert kind in (raw_ssh.FAILURE, raw_ssh.CLOSED), name
        if kind == raw_ssh.FAILURE:
            kind, _ = await connection.probe(name, key)
            assert kind in (raw_ssh.FAILURE, raw_ssh.CLOSED), name
        connection.abort()

    async def each() -> None:
        await asyncio.gather(*(one(number, name) for number, name in enumerate(NAMES)))

    asyncio.run(each())
    with any_hub.log_file.open("rb") as log:
        log.seek(size)
        asked = re.findall(r" (\S+) /hub/api(/\S*) \(ssh@", log.read().decode())
    # Sessions of tests before may still be open; each is reported once a minute.
    asked = [(method, path) for method, path in asked if not (method == "POST" and path.endswith("/activity"))]
    assert asked
    for method, path in asked:
        assert method == "GET", path
        assert re.fullmatch(r"/user|/users/[A-Za-z0-9%_.~+-]{1,800}\?include_stopped_servers=1", path), path
        assert "%2F" not in path.upper(), path
        assert "/.." not in path
    gateway_log = any_hub.gateway.log_file.read_bytes()
    assert b"\x1b" not in gateway_log
    assert "\u202e".encode() not in gateway_log
    assert works(bob, BOB)
