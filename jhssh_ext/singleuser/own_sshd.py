"""The sshd of the user's own, which needs neither Hub nor gateway: the keys that ``/publickey`` lists get in, each by a tunnel.

No address and no path leads to it: connections are handed to it over a socket that only the Jupyter server has. It starts with
the first of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import socket
from pathlib import Path
from typing import Any

from ..errors import StoreUnusable
from ..payloads import ServerEnvironment
from . import openssh
from .environment import public_host_key
from .key_store import KeyStore
from .own_host_key import HostKeyUnusable, own_host_key
from .runtime_dir import AUTHORIZED_KEYS, RuntimeDir
from .sshd import SSHD, Failed, SessionSetup, why_unusable

START_TIMEOUT = 20.0


class OwnSSHD(SSHD):
    """As :class:`SSHD`, with other files and another way in."""

    own_keys = True

    def __init__(self, store: KeyStore, host_key: Path, setup: SessionSetup, **kwargs: Any) -> None:
        super().__init__(ServerEnvironment(True), setup, **kwargs)
        self._store, self._host_key_path = store, host_key
        self._control: socket.socket | None = None
        self._runtime: RuntimeDir | None = None
        self._writing = asyncio.Lock()
        self._usable = False

    async def tunnel_status(self) -> dict[str, Any]:
        """The "tunnel" of GET /jhssh/status. The host key is made for it, so that clients know it before they come."""
        try:
            key = await asyncio.to_thread(own_host_key, self._host_key_path)
        except HostKeyUnusable as error:
            return {"enabled": False, "reason": str(error), "user": "", "host_keys": []}
        reason = self._reason if self._state == "failed" else ""
        if not self._usable:
            unusable = await asyncio.to_thread(why_unusable, self._wanted)
            self._usable, reason = not unusable, unusable or reason
        found = {"enabled": not reason, "user": account(), "host_keys": [public_host_key(key).line]}
        return {**found, "reason": reason} if reason else found

    async def connect(self) -> socket.socket:
        """Our end of a new connection. Raises Failed, StoreUnusable."""
        await self.keys_changed()
        self.start()
        try:
            async with self.changed:
                await asyncio.wait_for(self.changed.wait_for(lambda: self._state in ("running", "failed")), START_TIMEOUT)
        except asyncio.TimeoutError:
            raise Failed("sshd does not start. The server's log may say why.") from None
        if self._state == "failed" or self._control is None:
            raise Failed(self._reason)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except OSError as error:  # it is stuck, and has many waiting
                ours.close()
                raise Failed(f"sshd takes no more connections: {error.strerror}.") from None
        return ours

    async def keys_changed(self) -> None:
        """Lets sshd know the keys as they are now. Raises StoreUnusable."""
        runtime = self._runtime
        if runtime is not None:
            async with self._writing:
                await asyncio.to_thread(self._write_keys, runtime)

    async def stop(self) -> None:
        await super().stop()
        if self._control is not None:
            self._control.close()
            self._control = None

    def _listen(self) -> socket.socket:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        return theirs

    async def _admit(self, runtime: RuntimeDir) -> None:
        try:
            key = await asyncio.to_thread(own_host_key, self._host_key_path)
            runtime.write("host_key", key.strip() + "\n")
            await asyncio.to_thread(self._write_keys, runtime)
        except HostKeyUnusable as error:
            raise Failed(str(error)) from None
        except StoreUnusable as error:
            raise Failed(error.sentence) from None
        self._runtime = runtime

    def _leave(self, runtime: RuntimeDir) -> None:
        self._runtime = None
        super()._leave(runtime)

    def _write_keys(self, runtime: RuntimeDir) -> None:
        """Without options and comments: what was parsed, and nothing else."""
        keys, _ignored = self._store.read()
        try:
            runtime.replace(AUTHORIZED_KEYS, "".join(" ".join(each.key.line.split()[:2]) + "\n" for each in keys))
        except FileNotFoundError:  # sshd has ended meanwhile
            return
        except OSError as error:
            raise StoreUnusable(f"The keys can't be given to sshd: {error.strerror}.") from None


def account() -> str:
    """The user name that sshd lets in; one in Python lets all in."""
    try:
        return openssh.account_name()
    except openssh.Unusable:
        with contextlib.suppress(OSError, KeyError):
            return getpass.getuser()
        return "jovyan"
