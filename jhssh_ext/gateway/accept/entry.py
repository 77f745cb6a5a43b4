"""From a verified proof to an open connection: the user server is started if it is stopped, and its sshd is reached."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import KeyUnknown
from ..authenticate.key_cache import KeyCache
from ..authenticate.login import Login
from ..connect.server_starter import ServerStarter
from ..connect.upstream import Upstream, UpstreamConnection


class Entry:
    """Takes a Login to its user server. Raises the errors of its parts, each with a sentence for the user."""

    def __init__(self, starter: ServerStarter, upstream: Upstream, keys: KeyCache) -> None:
        self._starter, self._upstream, self._keys = starter, upstream, keys

    async def open(
        self, login: Login, key_still_counts: Callable[[], bool], on_progress: Callable[[str], None]
    ) -> UpstreamConnection:
        """The authenticated connection to the user server.

        ``key_still_counts`` is asked after the live key store was read anew, which happens where the copy is of another spawn:
        this login started the server, or the server or even its user was made anew.
        """
        state, _started = await self._starter.running(login.target, may_start=login.may_start, on_progress=on_progress)
        if login.method == "publickey" and not self._keys.is_of(login.target, state.spawn):
            await self._keys.refresh(login.target)
            if not key_still_counts():
                raise KeyUnknown("This key was removed from this server. Add it again with ssh-copy-id.")
        return await self._upstream.connect(login.target, state)
