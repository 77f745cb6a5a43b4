"""``/jhssh/tunnel``: SSH in a WebSocket, for the gateway by a signed request, for the owner of the server by a token.

Nothing else opens it: no cookie, no token in the URL, no browser. Whoever passes still has SSH's own authentication before them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from datetime import datetime, timezone

from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from tornado import web

from .. import tunnel
from .handlers import JHSSHHandler

REFUSAL = "Only the owner of this server gets in by this way."
NO_TOKEN = "Send a token of this server in the header Authorization: a cookie, or a token in the address, does not count."  # noqa: S105


class TunnelHandler(tunnel.TunnelHandler, JHSSHHandler):
    """GET /jhssh/tunnel, a WebSocket."""

    _signed = False
    _inner: socket.socket

    def check_origin(self, origin: str | None = None) -> bool:
        return not self.browser_asks()

    async def prepare(self) -> None:  # type: ignore[override]  # as jupyter_server's own APIHandler
        # Before anybody looks: what a browser sends by itself proves nothing here.
        self.request.headers.pop("Cookie", None)
        if self.browser_asks() or not self.check_host():
            raise web.HTTPError(403, "This is not for browsers.")
        self.current_user = self._jupyter_current_user = None
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme == "JHSSH":
            self.verified(token)
            self._signed = True
        elif scheme.lower() in ("token", "bearer") and "token" not in self.request.arguments:
            await super().prepare()
        if not self._signed and (self.current_user is None or not self.token_authenticated):
            raise web.HTTPError(403, NO_TOKEN)

    @allow_unauthenticated
    async def get(self) -> None:
        self._track_activity = False  # the gateway knows what is activity, and for the owner note_activity() does
        if self._signed:
            await self._serve(await self.services.tunnel_ends.for_gateway())
        else:
            await self.get_as_owner()

    @authorized("write")
    async def get_as_owner(self) -> None:
        self.check_owner(REFUSAL)
        await self._serve(await self.services.tunnel_ends.for_owner())

    async def _serve(self, inner: socket.socket) -> None:
        """The handshake, and then until the WebSocket is closed."""
        self._inner = inner
        try:
            await super().get()
        finally:
            if self._running is None:
                inner.close()

    def open(self) -> None:
        self.join(self._inner, ping_interval=self.services.tunnel_ends.ping_interval)

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        if not self._signed:
            self.settings["last_activity_times"]["jhssh"] = datetime.now(timezone.utc)
        return super().on_message(message)
