"""SSH to a user server by WebSocket: /jhssh/tunnel of its extension, opened by a signed request. A user server is hostile.

Nothing is sent but the signed request, as in server_client.py; who answers is proven by SSH inside, whose host key is pinned.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from urllib.parse import urlsplit

from tornado import httputil
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketProtocol13

from ...identifiers import AUDIENCE, opaque_id, printable
from ...login_names import UserServer
from ...payloads import ServerState
from ...signed_http import SCHEME, sign_request
from ...tunnel import MAX_FRAME, BoundedProtocol, join_client

PATH = "jhssh/tunnel"
CONNECT_TIMEOUT = 5.0
HANDSHAKE_TIMEOUT = 8.0
"""seconds in all, the connection among them"""
log = logging.getLogger("jhssh.tunnel")
_tunnels: set[asyncio.Task[None]] = set()


class TunnelRefused(OSError):
    """What answers is no tunnel, or does not let us in; the text is for a log."""


class _WebSocket(WebSocketClientConnection):
    """Ends at the first header of any other answer; tornado would read 100 MB of its body, and log a traceback."""

    async def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        assert isinstance(start_line, httputil.ResponseStartLine)
        if start_line.code == 101 and self._accepts(headers):
            await super().headers_received(start_line, headers)
            return
        self._remove_timeout()
        if not self.connect_future.done():
            self.connect_future.set_exception(TunnelRefused(f"HTTP {start_line.code} in place of a tunnel"))
        self.connection.detach().close()

    def get_websocket_protocol(self) -> BoundedProtocol:
        return BoundedProtocol(self, mask_outgoing=True, params=self.params)

    def _accepts(self, headers: httputil.HTTPHeaders) -> bool:
        """RFC 6455, section 4.1: the client's checks. We ask for no extension and no subprotocol."""
        return (
            headers.get("Upgrade", "").lower() == "websocket"
            and headers.get("Connection", "").lower() == "upgrade"
            and headers.get("Sec-WebSocket-Accept") == WebSocketProtocol13.compute_accept_value(self.key)
            and "Sec-WebSocket-Extensions" not in headers
            and "Sec-WebSocket-Protocol" not in headers
        )


async def open_tunnel(state: ServerState, target: UserServer, *, ping_interval: float) -> socket.socket:
    """A socket whose other end is the server's sshd; closing it ends the tunnel. Raises OSError."""
    url = urlsplit(state.url + PATH)
    audience = opaque_id(AUDIENCE, state.hub_id, target.user, target.server)
    token, _jti = sign_request(state.secret, audience, "GET", url.path)
    request = HTTPRequest(
        url._replace(scheme={"http": "ws", "https": "wss"}[url.scheme]).geturl(),
        headers=httputil.HTTPHeaders({"Authorization": f"{SCHEME} {token}"}),
        connect_timeout=CONNECT_TIMEOUT,
        request_timeout=HANDSHAKE_TIMEOUT,
        validate_cert=True,  # no default applies here
        user_agent="jhssh-gateway",
    )
    websocket = await _connected(_WebSocket(request, max_message_size=MAX_FRAME))
    here, there = socket.socketpair()
    here.setblocking(False)
    task = asyncio.create_task(join_client(websocket, there, ping_interval=ping_interval))
    _tunnels.add(task)
    task.add_done_callback(_over)
    return here


async def _connected(websocket: _WebSocket) -> WebSocketClientConnection:
    try:
        # Not cancelled with the caller: it ends by its own timeouts, or is closed when it is there.
        return await asyncio.shield(websocket.connect_future)
    except asyncio.CancelledError:
        websocket.connect_future.add_done_callback(_close)
        raise
    except OSError:
        raise
    except Exception as error:
        # Tornado has types of its own for HTTP, time-outs and streams: one kind for who tries another way then.
        raise TunnelRefused(printable(f"{type(error).__name__}: {error}", 300)) from error


def _close(connecting: asyncio.Future[WebSocketClientConnection]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


def _over(task: asyncio.Task[None]) -> None:
    _tunnels.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.error("a tunnel to a user server broke", exc_info=task.exception())
