"""A user server that lies, stalls, floods or redirects when the gateway asks for its keys, and pushes in another's name."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import asyncssh
import pytest

from jhssh_ext.identifiers import AUDIENCE, PRINCIPAL, opaque_id
from jhssh_ext.signed_http import SCHEME, sign_request

from ..harness.hub import Hub, request
from ..harness.processes import memory, wait_until
from ..harness.ssh import KeyPair, SSHClient, make_key
from . import raw_ssh
from .conftest import works
from .hostile import HostileServer, found_in, private_key_secrets, secrets_of_hub

pytestmark = pytest.mark.slow
BOB = "faults-bob"

MODES = (
    "other jti", "another's audience", "unsigned", "unsigned jwt", "garbage", "no http", "redirect", "deep", "terminal", "1 GB",
    "1 GB in chunks", "headers without end", "continue without end", "slow", "never",
)  # fmt: skip


def port_of(hub: Hub) -> int:
    assert hub.gateway is not None
    return hub.gateway.ssh_port


def probed(hub: Hub, user: str, key: KeyPair, address: str) -> tuple[int, float]:
    """A probe of a key, as anybody can make who knows its public half."""

    async def probe() -> tuple[int, float]:
        connection = await raw_ssh.connect(port_of(hub), address)
        try:
            return await connection.probe(user, asyncssh.read_private_key(key.private))
        finally:
            connection.abort()

    return asyncio.run(probe())


def test_no_lie_about_keys_counts_and_nothing_of_anyone_is_sent(
    any_hub: Hub,
    hostile: Callable[..., HostileServer],
    client: Callable[..., SSHClient],
    bob: SSHClient,
    bobs_key: KeyPair,
    a_key: KeyPair,
) -> None:
    """Each lie is told about a key that the gateway would take from an honest answer, as the last one shows."""
    assert any_hub.gateway is not None
    user = "faults-liar"
    alice = hostile(any_hub, user)
    alice.lists(a_key, bobs_key)
    alice.start()
    hub_id = any_hub.server_state(user)["jhssh"]["hub_id"]
    listener = socket.create_server(("127.0.0.1", 0))
    caught: list[bytes] = []

    def catch() -> None:
        while True:
            try:
                caught.append(listener.accept()[0].recv(65536))
            except OSError:
                return

    catcher = threading.Thread(target=catch, daemon=True)
    catcher.start()
    settings = {
        "location": f"http://127.0.0.1:{listener.getsockname()[1]}/",
        "audience": opaque_id(AUDIENCE, hub_id, BOB, ""),
    }
    before = memory(any_hub.gateway.pid)
    taken: list[float] = []
    try:
        for number, mode in enumerate(MODES, 10):
            alice.http(mode, **settings)
            alice.push_and_wait()
            kind, seconds = probed(any_hub, user, a_key, f"127.0.1.{number}")
            assert kind == raw_ssh.FAILURE, mode
            taken.append(seconds)
            assert seconds < 8, (mode, seconds)  # on a busy machine it takes some floors more; its server would hold it for ten
        assert sorted(taken)[len(taken) // 2] < 2.5, taken
        assert works(bob, BOB)
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # close() alone does not wake who waits in accept()
        listener.close()
        catcher.join(10)
    assert caught == []
    assert memory(any_hub.gateway.pid) - before < 32 << 20

    alice.http("keys")
    alice.push_until_fetched()
    assert probed(any_hub, user, a_key, "127.0.1.9")[0] == raw_ssh.KEY_OK
    # That a hostile server lists bob's key lets bob into that server, which is its owner's own affair, and into no other.
    done = client(any_hub, user, key=bobs_key).run("x")
    assert done.stdout == b"the hostile server greets\n"
    assert client(any_hub, BOB, key=a_key).run("true").returncode == 255

    token = any_hub.token(user)
    assert client(any_hub, user, password=token).run("x").returncode == 0
    bobs_token = any_hub.token(BOB)
    assert client(any_hub, user, password=bobs_token).run("x").returncode == 255
    secrets = {
        **secrets_of_hub(any_hub),
        "alice's token": [token.encode()],
        "bob's token": [bobs_token.encode()],
        "bob's spawn secret": [any_hub.server_state(BOB)["jhssh"]["secret"].encode()],
        "bob's key": private_key_secrets(bobs_key.private),
        "alice's key": private_key_secrets(a_key.private),
    }
    assert alice.recorded
    assert found_in(alice.recorded, secrets) == []
    assert not alice.events("password")
    certificates = alice.certificates()
    assert certificates
    for certificate in certificates:
        assert certificate.principals == [opaque_id(PRINCIPAL, hub_id, user, "")]


def test_what_it_was_sent_opens_no_other_key_store(any_hub: Hub, hostile: Callable[..., HostileServer], bob: SSHClient) -> None:
    user = "faults-replay"
    alice = hostile(any_hub, user)
    alice.start()
    alice.push_and_wait()
    bobs = any_hub.server_state(BOB)["jhssh"]
    heads = [head for head in alice.recorded.decode("latin-1").split("\r\n") if head.lower().startswith("authorization: jhssh")]
    assert heads
    forged = sign_request(
        alice.environ["JHSSH_SECRET"], opaque_id(AUDIENCE, bobs["hub_id"], BOB, ""), "GET", f"/user/{BOB}/publickey"
    )
    for value in (heads[-1].split(": ")[1], f"{SCHEME} {forged[0]}"):
        answer = request("GET", bobs["url"] + "publickey", headers={"Authorization": value})
        assert answer.status == 403, answer
        assert b"ssh-ed25519" not in answer.body
    own = request("GET", bobs["url"] + "publickey", headers={"Authorization": f"token {alice.environ['JUPYTERHUB_API_TOKEN']}"})
    assert own.status in (302, 403), own
    assert works(bob, BOB)


def test_it_can_push_for_itself_alone(any_hub: Hub, hostile: Callable[..., HostileServer], bob: SSHClient) -> None:
    user = "faults-pusher"
    alice = hostile(any_hub, user)
    alice.start()
    assert alice.push().status == 202
    for target in (
        (BOB, ""),
        (user, "gpu"),
        ("", ""),
        (user + "\n", ""),
        (f"{user}/", ""),
        (f"../{BOB}", ""),
        (user.upper(), ""),
    ):
        assert alice.push(*target).status in (400, 403), target
    assert alice.push(token="x" * 32).status == 403
    assert alice.push(token=any_hub.admin_token).status == 403
    assert works(bob, BOB)


def test_a_server_that_hangs_is_not_told_from_a_user_that_is_none(
    any_hub: Hub, hostile: Callable[..., HostileServer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """How long a refusal takes says nothing of how long the user server took."""
    user = "faults-hanging"
    alice = hostile(any_hub, user)
    alice.http("never")
    alice.start()
    stranger = make_key(tmp_path_factory.mktemp("stranger") / "id")

    def quickest(user: str, net: int) -> float:
        """Of some: a busy machine makes a few late, what tells them apart would all."""
        found = [probed(any_hub, user, stranger, f"127.0.{net}.{number}") for number in range(1, 7)]
        assert {kind for kind, _ in found} == {raw_ssh.FAILURE}
        return min(seconds for _, seconds in found)

    hanging, nobody = quickest(user, 2), quickest("faults-nobody", 3)
    wait_until(lambda: alice.events("http"), what="the gateway to ask for the keys")
    assert abs(hanging - nobody) < 0.3, (hanging, nobody)
