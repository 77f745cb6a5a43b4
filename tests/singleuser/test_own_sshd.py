"""The sshd of the user's own, of both kinds, with the stock client. What sessions can do is the conformance suite's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jhssh_ext.errors import StoreUnusable
from jhssh_ext.singleuser import openssh, own_sshd, sshd
from jhssh_ext.singleuser.key_store import KeyStore
from jhssh_ext.singleuser.own_sshd import OwnSSHD, account
from jhssh_ext.singleuser.runtime_dir import RuntimeDir
from jhssh_ext.singleuser.sshd import ASYNCSSH, OPENSSH, Failed, SessionSetup

from ..harness.processes import MARK, end_marked, new_mark, sleeping, wait_until
from .servers import Credentials, keygen, ssh, ssh_command
from .test_sshd import kind, listeners, off_loop, unusable

__all__ = ["kind"]


@dataclass
class Running:
    own: OwnSSHD
    store: KeyStore
    home: Path
    client: Credentials
    """the stock client's files; the key ``id`` is registered"""
    port: int
    """what connects there is handed to sshd: only the test's, since ssh(1) wants an address"""
    mark: str

    async def ssh(self, command: str, key: str = "id", **kwargs: object) -> tuple[int, bytes, bytes]:
        if not (self.client.folder / "known_hosts").exists():
            (line,) = (await self.own.tunnel_status())["host_keys"]
            (self.client.folder / "known_hosts").write_text(f"server {line}\n")
        answer = await off_loop(ssh, self.client, self.port, f"-l{account()}", command, key=key, **kwargs)
        return answer.returncode, answer.stdout, answer.stderr


@asynccontextmanager
async def running(folder: Path, implementation: str, **kwargs: object) -> AsyncIterator[Running]:
    home, mark = folder / "home", new_mark()
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (folder / "runtime").mkdir()
    client = Credentials(folder / "client")
    client.folder.mkdir()
    keygen(client.folder / "id")
    store = KeyStore(home / ".ssh" / "store", home / ".ssh" / "authorized_keys", max_keys=100)
    store.add((client.folder / "id.pub").read_text())
    own = OwnSSHD(
        store,
        home / ".ssh" / "host_key",
        SessionSetup(env={"PATH": os.environ["PATH"], "HOME": str(home), MARK: mark}, cwd=str(home), shell=["/bin/bash", "-l"]),
        implementation=implementation,
        log=logging.getLogger("test_own_sshd"),
        environ={"XDG_RUNTIME_DIR": str(folder / "runtime")},
        first_delay=0.05,
        **kwargs,
    )

    async def hand(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection(sock=await own.connect())
        await asyncio.gather(pump(reader, to), pump(there, writer))

    server = await asyncio.start_server(hand, "127.0.0.1", 0)
    try:
        yield Running(own, store, home, client, server.sockets[0].getsockname()[1], mark)
    finally:
        server.close()
        await own.stop()
        assert list((folder / "runtime").iterdir()) == []
        await off_loop(end_marked, mark)


async def started(own: OwnSSHD) -> None:
    async with own.changed:
        await asyncio.wait_for(own.changed.wait_for(lambda: own._state == "running"), 60)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.asyncio
@pytest.mark.slow
async def test_the_keys_that_are_listed_get_in_and_no_others(kind: str, tmp_path: Path) -> None:
    async with running(tmp_path, kind) as there:
        keys = there.client.folder
        for name in ("by-hand", "restricted", "unknown", "certified", "late"):
            keygen(keys / name)
        options = 'command="echo forced",no-pty '
        (there.home / ".ssh" / "authorized_keys").write_text(
            (keys / "by-hand.pub").read_text() + options + (keys / "restricted.pub").read_text()
        )
        there.client.certify("certified", "id", "-n", account())
        for name, comes_in in {"id": 1, "by-hand": 1, "restricted": 0, "unknown": 0, "certified": 0, "late": 0}.items():
            status, output, errors = await there.ssh("echo in", key=name)
            assert (status, output) == ((0, b"in\n") if comes_in else (255, b"")), (name, errors)
            assert comes_in or b"Permission denied" in errors, (name, errors)
        there.store.add((keys / "late.pub").read_text())
        assert (await there.ssh("echo in", key="late"))[0] == 0
        (known,) = [each.key.fingerprint for each in there.store.read()[0] if each.key.comment == "id"]
        there.store.remove(known)
        assert (await there.ssh("echo in", key="id"))[0] == 255
        assert len(listeners()) == 1  # it was the same all the while


@pytest.mark.asyncio
async def test_a_removed_key_does_not_get_in_by_a_connection_that_waits(kind: str, tmp_path: Path) -> None:
    async with running(tmp_path, kind) as there:
        assert (await there.ssh("echo in"))[0] == 0
        waiting = await there.own.connect()
        (only,) = there.store.read()[0]
        there.store.remove(only.key.fingerprint)
        await there.own.keys_changed()
        reader, writer = await asyncio.open_connection(sock=waiting)
        assert (await reader.readline()).startswith(b"SSH-2.0-")
        keys = list((tmp_path / "runtime").glob("*/authorized_keys"))
        assert [each.read_text() for each in keys] == [""]
        writer.close()


@pytest.mark.asyncio
async def test_it_starts_with_the_first_connection_and_listens_nowhere(kind: str, tmp_path: Path) -> None:
    async with running(tmp_path, kind) as there:
        assert (await there.own.tunnel_status())["enabled"] is True
        assert listeners() == []
        connections = await asyncio.gather(*[there.own.connect() for _ in range(5)])
        (listener,) = listeners()
        assert listener.net_connections("inet") == []
        for each in connections:
            each.settimeout(20)
            assert (await off_loop(each.recv, 4)) == b"SSH-"
        assert not [each for each in listener.net_connections("unix") if each.laddr]
        for each in connections:
            each.close()


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_session_is_the_jupyter_servers(kind: str, tmp_path: Path) -> None:
    async with running(tmp_path, kind) as there:
        status, output, _ = await there.ssh("cat; pwd; echo $HOME; exit 3", input=b"sent ")
        assert (status, output.decode()) == (3, f"sent {there.home}\n{there.home}\n")
        await there.own.stop()
        assert listeners() == []
        assert (await there.ssh("exit 4"))[0] == 4


@pytest.mark.asyncio
@pytest.mark.slow
async def test_it_is_started_anew_when_it_dies_and_with_it_go_its_sessions(kind: str, tmp_path: Path) -> None:
    async with running(tmp_path, kind) as there:
        await there.ssh("true")
        command = ssh_command(there.client, there.port, f"-l{account()}", "sleep 921")
        client = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        await off_loop(wait_until, lambda: sleeping(there.mark) == {"921"})
        (listener,) = listeners()
        listener.kill()
        assert await client.wait() == 255
        await off_loop(wait_until, lambda: not sleeping(there.mark))
        await started(there.own)
        assert (await there.ssh("exit 5"))[0] == 5


@pytest.mark.asyncio
async def test_one_that_takes_nothing_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    async with running(tmp_path, kind) as there:
        (await there.own.connect()).close()
        (listener,) = listeners()
        listener.send_signal(signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            stack.callback(listener.send_signal, signal.SIGCONT)
            with pytest.raises(Failed, match="takes no more connections"):
                await fill(there.own, stack)


async def fill(own: OwnSSHD, stack: contextlib.ExitStack) -> None:
    for _ in range(2000):
        stack.enter_context(await own.connect())


@pytest.mark.asyncio
async def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, sshd.AUTO) as there:
        monkeypatch.setattr(openssh, "find", unusable)
        assert "reason" not in await there.own.tunnel_status()  # asyncssh would serve
        there.own._usable = False
        monkeypatch.setattr(sshd.importlib.util, "find_spec", lambda _: None)
        told = await there.own.tunnel_status()
        assert (told["enabled"], len(told["host_keys"])) == (False, 1)
        assert told["reason"] == "OpenSSH's sshd was not found. asyncssh, which could serve in its place, is not installed."
        with pytest.raises(Failed, match="asyncssh"):
            await there.own.connect()
        monkeypatch.undo()
        await started(there.own)
        assert "reason" not in await there.own.tunnel_status()


def test_an_implementation_that_was_asked_for_has_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssh, "find", unusable)
    assert sshd.why_unusable(OPENSSH) == "OpenSSH's sshd was not found."
    assert sshd.why_unusable(ASYNCSSH) == ""


@pytest.mark.asyncio
async def test_a_host_key_that_is_none_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, sshd.AUTO) as there:
        (there.home / ".ssh" / "host_key").write_text("no key")
        told = await there.own.tunnel_status()
        assert (told["enabled"], told["host_keys"]) == (False, [])
        assert "host_key can't be used" in told["reason"]
        with pytest.raises(Failed, match="host_key can't be used"):
            await there.own.connect()


@pytest.mark.asyncio
async def test_a_key_store_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, sshd.AUTO) as there:
        (await there.own.connect()).close()
        (there.home / ".ssh" / "store").unlink()
        (there.home / ".ssh" / "store").mkdir()
        with pytest.raises(StoreUnusable):
            await there.own.connect()
        await there.own.stop()
        with pytest.raises(Failed, match="is not a file"):
            await there.own.connect()


@pytest.mark.asyncio
async def test_keys_that_can_not_be_given_to_sshd_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with running(tmp_path, sshd.AUTO) as there:
        (await there.own.connect()).close()
        monkeypatch.setattr(RuntimeDir, "replace", full)
        with pytest.raises(StoreUnusable, match="No space left"):
            await there.own.connect()
        await there.own.stop()
        await there.own.keys_changed()  # nobody is there to be given any
        with pytest.raises(Failed, match="No space left"):
            await there.own.connect()


@pytest.mark.asyncio
async def test_a_start_that_takes_for_ever_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(own_sshd, "START_TIMEOUT", 0.1)
    async with running(tmp_path, sshd.AUTO) as there:
        monkeypatch.setattr(there.own, "_admit", hang)
        with pytest.raises(Failed, match="does not start"):
            await there.own.connect()


@pytest.mark.asyncio
async def test_the_account_is_told_even_where_it_has_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssh, "account_name", unusable)
    monkeypatch.setenv("LOGNAME", "somebody")
    assert account() == "somebody"
