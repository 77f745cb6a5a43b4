"""A JupyterLab terminal of a user server, through the Hub's proxy: what an SSH session is compared with."""

from __future__ import annotations

import json
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from ..harness.hub import Hub


class JupyterTerminal:
    """``async with JupyterTerminal(hub, "alice") as terminal: await terminal.type("ls\\n")``"""

    def __init__(self, hub: Hub, user: str) -> None:
        self._hub, self._user = hub, user
        self._socket: WebSocketClientConnection | None = None

    async def __aenter__(self) -> JupyterTerminal:
        token = self._hub.token(self._user)
        made = self._hub.server_api("POST", self._user, "api/terminals", {}, token=token)
        assert made.status == 200, made
        url = self._hub.server_url(self._user).replace("http:", "ws:") + f"terminals/websocket/{made.json['name']}"
        request = HTTPRequest(url, headers={"Authorization": f"token {token}"}, request_timeout=30)
        self._socket = await websocket_connect(request)
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._socket is not None
        self._socket.close()
        while await self._socket.read_message() is not None:
            pass

    async def type(self, text: str) -> None:
        assert self._socket is not None
        await self._socket.write_message(json.dumps(["stdin", text]))
