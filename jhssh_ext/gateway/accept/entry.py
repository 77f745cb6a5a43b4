"""From a verified proof to an open connection: the user server is started if it is stopped, and its sshd is reached."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import KeyUnknown
from ...public_keys import PublicKey
from ..authenticate.login import Login
from ..authenticate.registered_keys import RegisteredKeys
from ..connect.server_starter import ServerStarter
from ..connect.upstream import Upstream, UpstreamConnection


class Entry:
    """Takes a Login to its user server. Raises the errors of its parts, each with a sentence for the user."""

    def __init__(self, starter: ServerStarter, upstream: Upstream, keys: RegisteredKeys) -> None:
        self._starter, self._upstream, self._keys = starter, upstream, keys

    async def open(self, login: Login, key: PublicKey | None, on_progress: Callable[[str], None]) -> UpstreamConnection:
        """The authenticated connection to the user server. ``key``: the one that was proven, if it was one."""
        state, _started = await self._starter.running(login.target, may_start=login.may_start, on_progress=on_progress)
        if key is not None and not await self._keys.still_holds(login.target, key, state.spawn):
            raise KeyUnknown("This key was removed from this server. Add it again with ssh-copy-id.")
        return await self._upstream.connect(login.target, state)
