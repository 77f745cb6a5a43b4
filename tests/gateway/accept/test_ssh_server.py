"""The door: proofs, refusals and bounds, with real SSH on both hops."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.connection import SSHClientConnection
from asyncssh.packet import Boolean, String

from jhssh_ext.errors import SpawnFailed, SSHNotEnabled
from jhssh_ext.gateway.accept import signatures, ssh_server
from jhssh_ext.gateway.authenticate.user_keys import PageKey, UserKeys
from jhssh_ext.gateway.connect.hub_models import TokenModel
from jhssh_ext.login_names import UserServer

from .conftest import ALICE, FLOOR, TOKEN, Door

pytestmark = pytest.mark.asyncio


def alices_token(*scopes: str, name: str = "alice", kind: str = "user") -> TokenModel:
    return TokenModel(name, kind, frozenset(scopes or ("access:servers!server=alice/", "servers!server=alice/")))


async def test_a_registered_key_opens_its_server(door: Door) -> None:
    door.register(ALICE, door.key)
    async with await door.connect("alice", client_keys=[door.key]) as connection:
        done = await connection.run("hello", input="abc")
        assert (done.stdout, done.exit_status) == ("ran hello\nabc", 3)
    await door.record.end.wait()
    (login,) = door.record.logins
    assert (login.target, login.method, login.address) == (ALICE, "publickey", "127.0.0.1")
    assert login.fingerprint == door.key.get_fingerprint()
    assert sum(door.data) > 0


@pytest.mark.slow
async def test_a_client_that_gives_up_on_silence_waits_for_a_slow_start(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSH's counts ServerAliveInterval during the login too, and ``jhssh config`` sets it."""
    monkeypatch.setattr(ssh_server, "LONGEST_SILENCE", 0.5)
    door.register(ALICE, door.key)
    door.starter.gate.clear()
    door.key.write_private_key(tmp_path / "id")
    (tmp_path / "id").chmod(0o600)
    options = [
        *("-F", "none", "-p", str(door.port), "-i", str(tmp_path / "id")),
        *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}"),
        *("-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=2"),
    ]
    client = await asyncio.create_subprocess_exec(
        *("ssh", *options, "alice@127.0.0.1", "hello"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    answer = asyncio.create_task(client.communicate())
    await asyncio.wait_for(door.starter.waiting.wait(), 30)
    await asyncio.wait([answer], timeout=7)
    door.starter.gate.set()
    out, err = await asyncio.wait_for(answer, 30)
    assert (out, client.returncode) == (b"ran hello\n", 3), err


async def test_a_token_opens_its_owners_server(door: Door) -> None:
    door.hub.tokens[TOKEN] = alices_token()
    async with await door.connect("alice", password=TOKEN) as connection:
        assert (await connection.run("x", stdin=asyncssh.DEVNULL)).stdout == "ran x\n"
    assert door.record.logins[0].method == "password"
    assert door.record.logins[0].may_start


@pytest.mark.parametrize(
    "token",
    [
        alices_token("access:servers!server=bob/"),
        alices_token("identify"),
        alices_token("access:servers!server=alice/gpu"),
        alices_token("access:servers", name="bob"),
        alices_token("access:servers", name="alice", kind="service"),
    ],
)
@pytest.mark.usefixtures("hasty")
async def test_a_token_of_another_or_with_too_few_scopes_is_refused(door: Door, token: TokenModel) -> None:
    door.hub.tokens[TOKEN] = token
    with pytest.raises(asyncssh.PermissionDenied):
        await door.connect("alice", password=TOKEN)
    assert door.starter.asked == []


async def test_a_token_that_may_only_enter_starts_nothing(door: Door) -> None:
    door.hub.tokens[TOKEN] = alices_token("access:servers!server=alice/")
    async with await door.connect("alice", password=TOKEN):
        assert not door.record.logins[0].may_start


async def _refusal(door: Door, user: str, **keywords: object) -> tuple[str, float]:
    began = time.monotonic()
    with pytest.raises(asyncssh.PermissionDenied) as refused:
        await door.connect(user, **keywords)
    return refused.value.reason.replace(user, "USER"), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_unknown_user_wrong_key_and_wrong_token_get_the_same_answer_after_the_same_floor(door: Door) -> None:
    door.register(ALICE, asyncssh.generate_private_key("ssh-ed25519"))
    answers = [
        await _refusal(door, "alice", client_keys=[door.key]),
        await _refusal(door, "nobody", client_keys=[door.key]),
        await _refusal(door, "alice", password=TOKEN),
        await _refusal(door, "nobody", password=TOKEN),
        await _refusal(door, "alice", password="a password, not a token"),
        await _refusal(door, "a*b", password=TOKEN),
    ]
    assert len({reason for reason, _ in answers}) == 1
    assert all(taken >= FLOOR for _, taken in answers)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_what_cannot_be_a_token_is_not_shown_to_the_hub(door: Door) -> None:
    for password in ("my secret phrase", "ünïcode-password-x", "x" * 600, "short"):
        await _refusal(door, "alice", password=password)
    assert "identify" not in door.hub.asked


@pytest.mark.usefixtures("hasty")
async def test_a_key_of_one_user_never_opens_anothers_server(door: Door) -> None:
    door.register(ALICE, door.key)
    async with await door.connect("alice", client_keys=[door.key]):
        pass
    await _refusal(door, "bob", client_keys=[door.key])
    assert door.starter.asked == [ALICE]


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_a_name_that_may_mean_two_servers_is_refused(door: Door) -> None:
    door.register(UserServer("carol", "gpu"), door.key)
    door.hub.tokens[TOKEN] = TokenModel("carol", "user", frozenset({"access:servers!user=carol", "servers!user=carol"}))
    await _refusal(door, "carol+gpu", client_keys=[door.key])
    await _refusal(door, "carol+gpu", password=TOKEN)
    assert door.starter.asked == []


async def _raw(door: Door, user: str) -> tuple[SSHClientConnection, asyncio.Queue[int]]:
    """A connection whose authentication the test does by hand; the types of the answers come in the queue."""
    answers: asyncio.Queue[int] = asyncio.Queue()
    started = asyncio.Event()

    class Raw(SSHClientConnection):
        def try_next_auth(self, *, next_method: bool = False) -> None:
            started.set()

        def process_packet(self, pkttype, pktid, packet):  # type: ignore[no-untyped-def]
            if pkttype in (51, 52):
                answers.put_nowait(pkttype)
                return True
            return super().process_packet(pkttype, pktid, packet)

        def connection_lost(self, exc: Exception | None = None) -> None:
            answers.put_nowait(-1)
            super().connection_lost(exc)

        def _force_close(self, exc: Exception | None) -> None:
            answers.put_nowait(-1)
            super()._force_close(exc)

    options = await asyncssh.SSHClientConnectionOptions.construct(
        username=user, known_hosts=None, client_keys=None, agent_path=None, config=None, host="127.0.0.1", port=door.port
    )
    options.waiter = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Raw(loop, options, wait="auth"), "127.0.0.1", door.port)
    await asyncio.wait_for(started.wait(), 30)
    connection._auth = None
    options.waiter.cancel()
    return connection, answers


def _request(user: str, method: bytes, *fields: bytes) -> bytes:
    return String(user) + String(b"ssh-connection") + String(method) + b"".join(fields)


@pytest.mark.usefixtures("hasty")
async def test_a_second_user_name_ends_the_connection(door: Door) -> None:
    door.hub.tokens[TOKEN] = alices_token()
    connection, answers = await _raw(door, "mallory")
    connection.send_packet(50, _request("mallory", b"password", Boolean(False), String("x" * 20)))
    assert await asyncio.wait_for(answers.get(), 30) == 51
    connection.send_packet(50, _request("alice", b"password", Boolean(False), String(TOKEN)))
    assert await asyncio.wait_for(answers.get(), 30) == -1
    assert door.record.logins == []


async def test_a_request_while_the_proof_waits_ends_the_connection(door: Door) -> None:
    door.starter.gate.clear()
    door.hub.tokens[TOKEN] = alices_token()
    connection, answers = await _raw(door, "alice")
    connection.send_packet(50, _request("alice", b"password", Boolean(False), String(TOKEN)))
    await asyncio.wait_for(door.starter.waiting.wait(), 30)
    connection.send_packet(50, _request("alice", b"none"))
    assert await asyncio.wait_for(answers.get(), 30) == -1
    door.starter.gate.set()
    assert door.record.logins == []


async def test_a_flood_of_requests_without_waiting_is_cut(door: Door) -> None:
    connection, answers = await _raw(door, "alice")
    for _ in range(40):
        connection.send_packet(50, _request("alice", b"password", Boolean(False), String(TOKEN)))
    assert await asyncio.wait_for(answers.get(), 30) == -1
    assert door.hub.asked.count("identify") <= 12


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_tries_on_one_connection_are_bounded(door: Door) -> None:
    connection, answers = await _raw(door, "alice")
    got = []
    for _ in range(4):
        connection.send_packet(50, _request("alice", b"password", Boolean(False), String("x" * 20)))
        got.append(await asyncio.wait_for(answers.get(), 30))
    assert got == [51, 51, 51, -1]


async def test_a_public_key_alone_starts_nothing_and_asks_once(door: Door) -> None:
    door.register(ALICE, door.key)
    blob = door.key.public_data
    for _ in range(5):
        connection, _ = await _raw(door, "alice")
        packets: list[bytes] = [Boolean(False), String(b"ssh-ed25519"), String(blob)]
        connection.send_packet(50, _request("alice", b"publickey", *packets))
        connection.abort()
        await connection.wait_closed()
    assert door.starter.asked == []
    assert len(door.fetches) <= 1
    assert door.hub.asked == []


@pytest.mark.usefixtures("hasty")
async def test_a_known_public_key_with_a_wrong_signature_is_refused(door: Door) -> None:
    door.register(ALICE, door.key)
    connection, answers = await _raw(door, "alice")
    signature = String(String(b"ssh-ed25519") + String(bytes(64)))
    packets = [Boolean(True), String(b"ssh-ed25519"), String(door.key.public_data), signature]
    connection.send_packet(50, _request("alice", b"publickey", *packets))
    assert await asyncio.wait_for(answers.get(), 30) == 51
    assert door.starter.asked == []
    connection.abort()


@pytest.mark.parametrize(
    "failure", [SpawnFailed("It broke: no GPU."), SSHNotEnabled("SSH is off: tick “Enable SSH access” at https://h/x")]
)
async def test_what_fails_after_the_proof_ends_with_its_sentence(door: Door, failure: SpawnFailed | SSHNotEnabled) -> None:
    door.register(ALICE, door.key)
    door.starter.failure = failure
    with pytest.raises(asyncssh.DisconnectError) as ended:
        await door.connect("alice", client_keys=[door.key])
    assert failure.code in ended.value.reason
    assert failure.sentence[:7] in ended.value.reason
    assert ended.value.reason.isascii()


async def test_progress_is_shown_while_the_server_starts(door: Door) -> None:
    door.register(ALICE, door.key)
    door.starter.progress = ["Pulling\x1b[2J image", "50 %"]
    shown: list[str] = []

    class Client(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            shown.append(msg)

    async with await door.connect("alice", client_keys=[door.key], client_factory=Client):
        assert shown == ["Pulling [2J image\r\n", "50 %\r\n"]


class KeysToTellOf(UserKeys):
    """Two keys that the user was not told of; notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def announce(self, user: str, fingerprint: str) -> list[PageKey]:
        self.asked.append(("announce", user, fingerprint))
        return [PageKey(f"SHA256:{source}", "", "", source, 0.0, 0.0, None, None, "") for source in ("client", "approval")]

    async def used(self, user: str, fingerprint: str, address: str) -> None:
        self.asked.append(("used", user, fingerprint))


async def test_keys_that_were_not_added_on_the_page_are_told_of_at_a_login(door: Door) -> None:
    door.register(ALICE, door.key)
    keys, shown = KeysToTellOf(), list[str]()
    door.services.user_keys = keys

    class Client(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            shown.append(msg)

    async with await door.connect("alice", client_keys=[door.key], client_factory=Client):
        assert [line.partition(". ")[0] for line in shown] == [
            "The key SHA256:client was added by the jhssh command",
            "The key SHA256:approval was remembered in the browser",
        ]
    fingerprint = door.key.get_fingerprint()
    assert keys.asked == [("announce", "alice", fingerprint), ("used", "alice", fingerprint)], "by when it was used before"


@pytest.mark.usefixtures("hasty")
async def test_a_key_of_an_earlier_spawn_is_read_anew_before_it_counts(door: Door) -> None:
    """The server was started by this login, or in the browser; or the very user was made anew."""
    door.register(ALICE, door.key)
    async with await door.connect("alice", client_keys=[door.key]):
        pass
    door.keys.clear()
    door.starter.state = replace(door.starter.state, spawn="2")
    with pytest.raises(asyncssh.DisconnectError, match="KEY_UNKNOWN"):
        await door.connect("alice", client_keys=[door.key])
    await _refusal(door, "alice", client_keys=[door.key])


async def test_a_client_that_leaves_while_its_server_starts_leaves_nothing(door: Door) -> None:
    door.register(ALICE, door.key)
    door.starter.gate.clear()
    task = asyncio.create_task(door.connect("alice", client_keys=[door.key]))
    await asyncio.wait_for(door.starter.waiting.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for connection in list(door.services.connections):
        await asyncio.wait_for(connection.wait_closed(), 30)
    assert door.services.limits.unauthenticated == 0
    assert door.services.limits.enter_user("alice")
    assert door.record.logins == []


async def test_a_hub_that_is_down_is_told_apart_from_a_refusal_after_the_proof_only(door: Door) -> None:
    door.register(ALICE, door.key)
    async with await door.connect("alice", client_keys=[door.key]):
        pass
    door.hub.down = True
    with pytest.raises(asyncssh.DisconnectError, match="HUB_UNAVAILABLE"):
        await door.connect("alice", client_keys=[door.key])


@pytest.mark.usefixtures("hasty")
async def test_a_known_key_that_cannot_be_confirmed_is_told_why_and_a_strange_one_is_not(door: Door) -> None:
    door.register(ALICE, door.key)
    async with await door.connect("alice", client_keys=[door.key]):
        pass
    door.hub.down = True
    await door.services.authentication._keys.expire(ALICE)
    with pytest.raises(asyncssh.DisconnectError, match="HUB_UNAVAILABLE"):
        await door.connect("alice", client_keys=[door.key])
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(asyncssh.PermissionDenied):
        await door.connect("alice", client_keys=[stranger])
    assert len(door.record.logins) == 1


async def test_connections_without_a_proof_are_bounded_per_address(door: Door) -> None:
    sockets = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(7)]
    greeted = 0
    for reader, _ in sockets:
        try:
            greeted += (await asyncio.wait_for(reader.readline(), 30)).startswith(b"SSH-2.0-")
        except ConnectionError:
            pass
    assert greeted == 6
    for _, writer in sockets:
        writer.close()


async def test_connections_of_a_user_are_bounded(door: Door) -> None:
    door.register(ALICE, door.key)
    open_ones = [await door.connect("alice", client_keys=[door.key]) for _ in range(3)]
    with pytest.raises(asyncssh.DisconnectError, match="TOO_MANY_SESSIONS"):
        await door.connect("alice", client_keys=[door.key])
    for connection in open_ones:
        connection.close()
        await connection.wait_closed()


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_an_address_that_fails_too_often_is_refused_without_asking(door: Door) -> None:
    while door.services.failures.spend("127.0.0.1"):
        pass
    with pytest.raises(asyncssh.DisconnectError, match="TOO_MANY_ATTEMPTS"):
        await door.connect("alice", password=TOKEN)
    await _refusal(door, "bob", client_keys=[door.key])
    assert door.hub.asked == []
    assert door.fetches == []


async def test_a_host_key_other_than_the_hubs_ends_the_login(door: Door) -> None:
    door.register(ALICE, door.key)
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    door.starter.state = replace(door.starter.state, host_key=other)
    with pytest.raises(asyncssh.DisconnectError, match="HOST_KEY_MISMATCH"):
        await door.connect("alice", client_keys=[door.key])


async def test_shutting_down_tells_the_clients_why(door: Door) -> None:
    door.register(ALICE, door.key)
    reasons: asyncio.Queue[Exception | None] = asyncio.Queue()

    class Client(asyncssh.SSHClient):
        def connection_lost(self, exc: Exception | None) -> None:
            reasons.put_nowait(exc)

    await door.connect("alice", client_keys=[door.key], client_factory=Client)
    for connection in list(door.services.connections):
        connection.shut_down()
    assert "SHUTTING_DOWN" in str(await asyncio.wait_for(reasons.get(), 30))


@pytest.mark.parametrize("name", ["ali\xadce", "\uff41lice"])
@pytest.mark.usefixtures("hasty")
async def test_a_name_is_taken_as_it_was_sent(door: Door, name: str) -> None:
    """saslprep (RFC 4013) makes alice of both, which is another user."""
    door.hub.tokens[TOKEN] = alices_token("access:servers")
    connection, answers = await _raw(door, "anyone")
    connection.send_packet(50, _request(name, b"password", Boolean(False), String(TOKEN)))
    assert await asyncio.wait_for(answers.get(), 30) == 51
    assert "user alice" not in door.hub.asked
    connection.abort()


@pytest.mark.usefixtures("hasty")
async def test_a_key_accepted_for_one_meaning_of_a_name_does_not_open_the_other(door: Door) -> None:
    gpu, whole = UserServer("carol", "gpu"), UserServer("carol+gpu")
    cache = door.services.entry._keys
    door.register(gpu, door.key)
    await cache.refresh(gpu)
    door.register(whole, door.key)
    await cache.refresh(whole)
    del door.keys[gpu], door.hub.users["carol+gpu"]
    await cache.expire(gpu)
    await _refusal(door, "carol+gpu", client_keys=[door.key])
    assert door.starter.asked == []


async def test_key_exchanges_before_a_proof_are_not_repeated(door: Door) -> None:
    connection, answers = await _raw(door, "alice")
    connection._send_kexinit()
    assert await asyncio.wait_for(answers.get(), 30) == -1


async def test_sha1_signatures_are_not_announced(door: Door) -> None:
    connection, _ = await _raw(door, "alice")
    assert b"rsa-sha2-256" in connection._server_sig_algs
    assert b"ssh-rsa" not in connection._server_sig_algs
    connection.abort()


async def test_a_connection_is_listed_while_it_is_open_and_is_ended_on_demand(door: Door) -> None:
    door.register(ALICE, door.key)
    sessions = door.services.sessions
    async with await door.connect("alice", client_keys=[door.key]) as connection:
        await connection.run("hello", input="abc")
        (found,) = await sessions.list("alice")
        assert (found.fingerprint, found.address) == (door.key.get_fingerprint(), "127.0.0.1")
        assert found.from_client > 0 < found.from_server
        assert await sessions.end(found.id)
        await connection.wait_closed()
    await door.record.end.wait()
    assert await sessions.list() == []


async def test_a_key_that_is_removed_between_proof_and_entry_opens_nothing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.register(ALICE, door.key)
    opened = door.services.sessions.opened

    async def and_just_before(*arguments: Any) -> str:
        door.keys.clear()
        await door.services.entry._keys.refresh(ALICE)
        return await opened(*arguments)

    monkeypatch.setattr(door.services.sessions, "opened", and_just_before)
    with pytest.raises(asyncssh.DisconnectError, match="CONNECTION_ENDED"):
        await door.connect("alice", client_keys=[door.key])
    assert door.record.logins == []
    assert await door.services.sessions.list() == []


async def test_a_key_whose_type_holds_another_key_is_none() -> None:
    """What is judged must be what is verified: the blob as it came, not a key that is written in its type."""
    alices = asyncssh.generate_private_key("ssh-ed25519").public_data
    assert signatures.public_key(alices).blob == alices
    name = b"ssh-ed25519 " + base64.b64encode(alices) + b" x"
    with pytest.raises(ValueError, match="no key"):
        signatures.public_key(String(name) + alices)
