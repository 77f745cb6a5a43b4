"""Tokens that may too little, are another's or are gone; keys that were removed: each at the next connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import quote

import asyncssh
import pytest

from ..conftest import register_key
from ..harness.hub import Hub
from ..harness.ssh import KeyPair, SSHClient, make_key
from . import raw_ssh
from .conftest import works

pytestmark = pytest.mark.slow
BOB = "faults-bob"


def test_tokens_open_what_they_may_and_start_what_they_may(
    any_hub: Hub, client: Callable[..., SSHClient], bob: SSHClient
) -> None:
    def login(password: str, user: str = BOB) -> tuple[int, bytes]:
        done = client(any_hub, user, password=password, options=["BindAddress 127.0.7.1"]).run("true")
        return done.returncode, done.stderr

    assert any_hub.gateway is not None
    enter = any_hub.token(BOB, ["access:servers!server=faults-bob/"])
    assert login(enter)[0] == 0, "to enter a server that runs takes no more than access to it"
    assert login(any_hub.token(BOB, ["access:servers!user=faults-bob"]))[0] == 0
    refused = {
        "identify only": any_hub.token(BOB, ["read:users:name!user=faults-bob"]),
        "all but access": any_hub.token(BOB, ["servers!user=faults-bob", "read:users!user=faults-bob"]),
        "of another user": any_hub.token("faults-carl"),
        "of an admin service": any_hub.admin_token,
        "the gateway's own": any_hub.gateway.token,
        "nobody's": "0123456789abcdef" * 2,
        "a password": "correct horse battery staple",
        "empty": "",
    }
    answers = {name: login(token) for name, token in refused.items()}
    assert {status for status, _ in answers.values()} == {255}
    said = {message.split(b"Permission denied")[-1] for _, message in answers.values()}
    assert len(said) == 1, answers

    token = any_hub.token(BOB)
    assert login(token)[0] == 0
    mine = any_hub.api("GET", f"users/{BOB}/tokens").json["api_tokens"]
    newest = max(mine, key=lambda each: each["created"])
    assert any_hub.api("DELETE", f"users/{BOB}/tokens/{newest['id']}").status == 204
    assert login(token)[0] == 255, "a revoked token"

    stopped = "faults-stopped"
    status, message = login(any_hub.token(stopped, [f"access:servers!server={stopped}/"]), stopped)
    assert status == 255
    assert b"This server is stopped, and this login may not start it." in message, message
    assert b"[SERVER_STOPPED]" in message
    assert not any_hub.running(stopped)


def test_a_removed_key_is_refused_at_the_next_connection(
    any_hub: Hub, client: Callable[..., SSHClient], a_key: KeyPair, bob: SSHClient
) -> None:
    assert any_hub.gateway is not None
    port, key = any_hub.gateway.ssh_port, asyncssh.read_private_key(a_key.private)
    alice = client(any_hub, BOB, key=a_key, options=["BindAddress 127.0.7.2"])
    blob = quote(key.get_fingerprint(), safe="")

    async def seconds_until(wanted: int) -> float:
        began = time.monotonic()
        while time.monotonic() - began < 30:
            connection = await raw_ssh.connect(port, "127.0.7.3")
            kind, _ = await connection.probe(BOB, key)
            connection.abort()
            if kind == wanted:
                return time.monotonic() - began
        raise AssertionError("never")

    for _ in range(3):
        register_key(any_hub, BOB, a_key)
        assert works(alice, BOB)
        answer = any_hub.server_api("DELETE", BOB, f"publickey/{blob}")
        assert answer.status == 204, answer
        assert alice.run("true").returncode == 255

    store = any_hub.user_home(BOB) / ".ssh/jhssh_authorized_keys"
    before = store.read_text()
    added, removed = [], []
    for _ in range(3):  # a busy machine may be late, but not each time
        store.write_text(before + a_key.public + "\n")
        try:
            added.append(asyncio.run(seconds_until(raw_ssh.KEY_OK)))
            assert works(alice, BOB)
        finally:
            store.write_text(before)
        removed.append(asyncio.run(seconds_until(raw_ssh.FAILURE)))
    assert min(added) < 5
    assert min(removed) < 5
    assert alice.run("true").returncode == 255
    assert works(bob, BOB)


def test_a_key_opens_the_server_that_holds_it_and_no_other(
    any_hub: Hub, client: Callable[..., SSHClient], a_key: KeyPair, bob: SSHClient
) -> None:
    """Neither another user's, nor another server of the same user, nor a stopped one to the public half alone."""
    user = "faults-two"
    any_hub.start_server(user)
    register_key(any_hub, user, a_key)
    assert works(client(any_hub, user, key=a_key), user)
    for other in (BOB, f"{user}+gpu", f"{BOB}+", "faults-nobody"):
        assert client(any_hub, other, key=a_key).run("true").returncode == 255
    any_hub.stop_server(user)
    assert works(bob, BOB)

    # The key is known, the server stopped: a probe is answered, a wrong signature refused, nothing starts.
    assert any_hub.gateway is not None
    port, key = any_hub.gateway.ssh_port, asyncssh.read_private_key(a_key.private)
    other_key = asyncssh.generate_private_key("ssh-ed25519")

    async def knock() -> list[int]:
        connection = await raw_ssh.connect(port, "127.0.7.4")
        kinds = [(await connection.probe(user, key))[0] for _ in range(5)]
        kinds.append((await connection.sign(user, key, other_key))[0])
        connection.abort()
        return kinds

    assert asyncio.run(knock()) == [raw_ssh.KEY_OK] * 5 + [raw_ssh.FAILURE]
    assert not any_hub.running(user)
    model = any_hub.server_model(user)
    assert model is not None
    assert not model["pending"]


def test_a_second_user_name_and_what_comes_before_the_proof_end_the_connection(
    any_hub: Hub, bob: SSHClient, bobs_key: KeyPair
) -> None:
    assert any_hub.gateway is not None
    port, key = any_hub.gateway.ssh_port, asyncssh.read_private_key(bobs_key.private)
    token = any_hub.token("faults-carl")

    async def second_name() -> None:
        connection = await raw_ssh.connect(port, "127.0.7.5")
        assert (await connection.probe(BOB, key))[0] == raw_ssh.KEY_OK
        assert (await connection.password("faults-carl", token))[0] == raw_ssh.CLOSED
        connection = await raw_ssh.connect(port, "127.0.7.5")
        # In one breath: bob's name, and before that is answered carl's proof.
        connection.send_packet(50, raw_ssh.request(BOB, "password", b"\0", asyncssh.packet.String("x" * 32)))
        assert (await connection.password("faults-carl", token))[0] == raw_ssh.CLOSED

    async def early_channel() -> None:
        for number in (80, 90, 94, 98):
            connection = await raw_ssh.connect(port, "127.0.7.6")
            connection._auth_complete = True  # else asyncssh holds the message back
            connection.send_packet(number, asyncssh.packet.String("session") + bytes(12))
            assert (await connection.answer())[0] == raw_ssh.CLOSED, number

    asyncio.run(second_name())
    asyncio.run(early_channel())
    assert works(bob, BOB)


def test_refusals_look_the_same_and_take_the_same_time(
    any_hub: Hub, bob: SSHClient, bobs_key: KeyPair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert any_hub.gateway is not None
    port = any_hub.gateway.ssh_port
    any_hub.create_user("faults-stopped")
    wrong, known = (
        asyncssh.read_private_key(key.private) for key in (make_key(tmp_path_factory.mktemp("wrong") / "id"), bobs_key)
    )
    carls = any_hub.token("faults-carl")
    samples = 8

    async def refusals(number: int, ask: Callable[[raw_ssh.RawClient], object]) -> list[float]:
        connection = await raw_ssh.connect(port, f"127.0.8.{number}")
        found = []
        for _ in range(samples):
            kind, seconds = await ask(connection)  # type: ignore[misc]
            assert kind == raw_ssh.FAILURE
            found.append(seconds)
        connection.abort()
        return sorted(found)

    cases: dict[str, Callable[[raw_ssh.RawClient], object]] = {
        "unknown user, key": lambda c: c.probe("faults-nobody", wrong),
        "running, wrong key": lambda c: c.probe(BOB, wrong),
        "stopped, wrong key": lambda c: c.probe("faults-stopped", wrong),
        "running, wrong key, signed": lambda c: c.sign(BOB, wrong),
        "running, known key, wrong signature": lambda c: c.sign(BOB, known, wrong),
        "unknown user, signed": lambda c: c.sign("faults-nobody", wrong),
        "unknown user, no token": lambda c: c.password("faults-nobody", "0123456789abcdef" * 2),
        "running, no token": lambda c: c.password(BOB, "0123456789abcdef" * 2),
        "unknown user, another's token": lambda c: c.password("faults-nobody", carls),
        "running, another's token": lambda c: c.password(BOB, carls),
        "absurd password": lambda c: c.password(BOB, "no token, " * 200),
    }

    async def all_cases() -> dict[str, list[float]]:
        found = {}
        for number, (name, ask) in enumerate(cases.items(), 1):
            found[name] = asyncio.create_task(refusals(number, ask))
            await asyncio.sleep(0.04)  # apart, so that they do not queue for one processor
        return {name: await task for name, task in found.items()}

    found = asyncio.run(all_cases())
    # The quickest of each: a busy machine makes single answers late, never early.
    quickest = {name: seconds[0] for name, seconds in found.items()}
    assert min(quickest.values()) >= 0.49, found
    assert max(quickest.values()) - min(quickest.values()) < 0.1, quickest
    slowest = {name: seconds[-1] for name, seconds in found.items()}
    assert min(slowest.values()) >= 0.99, f"the first refusal of a connection waits for two floors: {found}"


def test_strangers_cost_the_hub_next_to_nothing(any_hub: Hub, bob: SSHClient, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Probes of strangers' keys, for one name: the Hub is asked once, not for each."""
    assert any_hub.gateway is not None
    port = any_hub.gateway.ssh_port
    key = asyncssh.read_private_key(make_key(tmp_path_factory.mktemp("knock") / "id").private)
    size = any_hub.log_file.stat().st_size

    async def knock(number: int) -> None:
        connection = await raw_ssh.connect(port, f"127.0.9.{number}")
        for _ in range(3):
            assert (await connection.probe("faults-knocked", key))[0] == raw_ssh.FAILURE
        connection.abort()

    async def all_knock() -> None:
        await asyncio.gather(*(knock(number) for number in range(1, 9)))

    asyncio.run(all_knock())
    with any_hub.log_file.open("rb") as log:
        log.seek(size)
        asked = [line for line in log.read().decode().splitlines() if "faults-knocked" in line and "(ssh@" in line]
    assert len(asked) == 1, asked
    assert any_hub.server_model("faults-knocked") is None
