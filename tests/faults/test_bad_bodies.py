"""/publickey of a real user server behind a real Hub, fed nonsense, all at once, and with no room left on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest

from ..conftest import register_key
from ..harness.hub import Answer, Hub, request
from ..harness.ssh import KeyPair, SSHClient
from . import raw_ssh
from .conftest import works

pytestmark = pytest.mark.slow
BOB = "faults-bob"
PRIVATE = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
PUBLIC = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def sent(text: object) -> bytes:
    return json.dumps({"public_key": text}).encode()


BODIES: dict[str, tuple[bytes, set[str]]] = {
    "nothing": (b"", {"BAD_REQUEST"}),
    "half a JSON": (sent(PUBLIC)[:-5], {"BAD_REQUEST"}),
    "binary": (os.urandom(4096), {"BAD_REQUEST"}),
    "a list": (b"[1, 2]", {"BAD_REQUEST"}),
    "a number": (sent(5), {"BAD_REQUEST"}),
    "deep": (b"[" * 60000, {"BAD_REQUEST"}),
    "another field": (json.dumps({"key": PUBLIC}).encode(), {"BAD_REQUEST"}),
    "1 MB": (sent(PUBLIC + " " + "x" * (1 << 20)), {"TOO_LARGE"}),
    "1 MB of keys": (sent((PUBLIC + "\n") * 12000), {"TOO_LARGE"}),
    "truncated key": (sent(PUBLIC[:40]), {"KEY_MALFORMED"}),
    "half a surrogate": (b'{"public_key": "\\ud800"}', {"KEY_MALFORMED"}),
    "a NUL": (sent(PUBLIC[:20] + "\0" + PUBLIC[20:]), {"KEY_MALFORMED"}),
    "a good and a bad one": (sent(PUBLIC + "\nssh-ed25519 AAAA\n"), {"KEY_MALFORMED"}),
    "options": (sent('command="id" ' + PUBLIC), {"KEY_MALFORMED"}),
    "a private key": (sent(PRIVATE), {"KEY_PRIVATE"}),
    "a weak key": (sent("ssh-dss " + PUBLIC.split()[1]), {"KEY_TYPE_UNSUPPORTED"}),
}


def post(hub: Hub, user: str, body: bytes, token: str) -> Answer:
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    return request("POST", hub.server_url(user) + "publickey", data=body, headers=headers)


def test_bad_bodies_are_refused_by_code_and_change_nothing(any_hub: Hub, bob: SSHClient) -> None:
    token = any_hub.token(BOB)
    store = any_hub.user_home(BOB) / ".ssh/jhssh_authorized_keys"
    before, stat = store.read_bytes(), store.stat()
    for name, (body, codes) in BODIES.items():
        answer = post(any_hub, BOB, body, token)
        assert 400 <= answer.status < 500, (name, answer)
        assert answer.json["code"] in codes, (name, answer)
    assert store.read_bytes() == before
    assert (store.stat().st_ino, store.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert works(bob, BOB)
    lines = PRIVATE.splitlines()[1:-1]
    for folder in (any_hub.folder, any_hub.user_home(BOB)):
        for file in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # a journal, and what replaces a file, come and go
                if file.is_file() and file.stat().st_size < 1 << 26:
                    assert lines[1].encode() not in file.read_bytes(), file


def test_twenty_posts_at_once_lose_nothing_and_each_key_counts_at_the_gateway(any_hub: Hub, bob: SSHClient) -> None:
    assert any_hub.gateway is not None
    port, token = any_hub.gateway.ssh_port, any_hub.token(BOB)
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(20)]
    bodies = [sent(key.export_public_key().decode().strip()) for key in keys]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda body: post(any_hub, BOB, body, token), bodies))
    assert [answer.status for answer in answers] == [201] * 20

    async def probe(number: int) -> int:
        connection = await raw_ssh.connect(port, f"127.0.10.{number + 1}")
        kind, _ = await connection.probe(BOB, keys[number])
        connection.abort()
        return kind

    async def probe_all() -> list[int]:
        return await asyncio.gather(*(probe(number) for number in range(20)))

    assert asyncio.run(probe_all()) == [raw_ssh.KEY_OK] * 20
    for answer in answers:
        fingerprint = answer.json["keys"][0]["fingerprint"].replace("/", "%2F")
        assert any_hub.server_api("DELETE", BOB, f"publickey/{fingerprint}", token=token).status == 204
    assert works(bob, BOB)


@pytest.fixture
def small_home(any_hub: Hub) -> Iterator[tuple[str, Path]]:
    """A user whose home is a file system of 4 MB."""
    user = "faults-full"
    home = any_hub.user_home(user)
    home.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(home)], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield user, home
    finally:
        any_hub.stop_server(user)
        subprocess.run(["umount", "-l", str(home)], check=True)


def test_a_full_disk_keeps_the_old_keys_and_they_still_open(
    small_home: tuple[str, Path], any_hub: Hub, client: Callable[..., SSHClient], a_key: KeyPair
) -> None:
    user, home = small_home
    any_hub.start_server(user)
    register_key(any_hub, user, a_key)
    store = home / ".ssh/jhssh_authorized_keys"
    before = store.read_bytes()
    subprocess.run(["dd", "if=/dev/zero", f"of={home / 'filler'}", "bs=4096"], capture_output=True, check=False)
    with pytest.raises(OSError, match="No space left"):
        (home / "more").write_bytes(b"x" * 8192)
    answer = post(any_hub, user, sent(PUBLIC), any_hub.token(user))
    assert (answer.status, answer.json["code"]) == (503, "KEY_STORE_UNUSABLE"), answer
    assert store.read_bytes() == before
    assert [file.name for file in store.parent.iterdir() if file.name.startswith(".jhssh_authorized_keys.")] in (
        [],
        [".jhssh_authorized_keys.lock"],
    )
    assert client(any_hub, user, key=a_key).run("echo in").stdout == b"in\n"
    (home / "filler").unlink()
    assert post(any_hub, user, sent(PUBLIC), any_hub.token(user)).status == 201
