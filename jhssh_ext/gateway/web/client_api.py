"""/api for who has a token of the ``jhssh`` command: who they are, how to connect, their keys on the page, their servers."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urljoin

from tornado.web import RequestHandler

from ...errors import BadRequest, KeyDuplicate, PolicyDenied, TooLarge
from ...identifiers import printable
from ...login_names import MAX_LOGIN_NAME, UserServer, candidates, login_name
from ..authenticate.user_keys import keys_of
from ..connect.hub_models import ServerModel
from . import client_login
from .client_handlers import UserHandler
from .client_servers import ClientServers

MAX_KEYS_BODY, MAX_KEYS_TEXT = 60_000, 16_384
"""bytes of the request, characters of the lines in it"""
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
MAX_OPTIONS = 4096
"""bytes of a start's options"""


class MeHandler(UserHandler):
    """``GET``: the user, where SSH is, and the servers."""

    def get(self) -> None:
        site, user = self.site, self.user
        door = site.door
        self.finish(
            {
                "user": user.name,
                "expires": int(self.token.expires),
                "separator": site.separator,
                "connect": {
                    "host": door.host if door else "",
                    "port": door.port if door else 22,
                    "published": door is not None and door.published,
                    "host_keys": [door.host_key.bare_line] if door else [],
                    "tunnel": door.tunnel if door else "",
                },
                "servers": [found for name in sorted(user.servers) if (found := self._server(user.servers[name]))],
            }
        )

    def _server(self, server: ServerModel) -> dict[str, Any] | None:
        """None where SSH refuses the name in any case: it may hold a newline, and this becomes a line of ssh's configuration."""
        target = UserServer(self.user.name, server.name)
        if not candidates(login_name(target, self.site.separator)):
            return None
        starts = self.site.client_servers
        starting = not server.ready and starts is not None and starts.starting(target)
        found: dict[str, Any] = {
            "name": server.name,
            "login_name": login_name(target, self.site.separator) if self.site.separator or not server.name else "",
            "ready": server.ready,
            "pending": server.pending or ("spawn" if starting else None),
            "ssh": _has_ssh(server),
            "url": urljoin(self.site.public_url, server.url or _path(target)),
        }
        if not server.ready and starts is not None and (said := starts.message(target)):
            found["message"] = said
        return found


class KeysHandler(UserHandler):
    """``GET``: all keys that open a server of the user's. ``POST {"public_key": "lines"}``: adds all to the page, or none."""

    async def get(self) -> None:
        user, found = self.user, []
        on_page = await self.site.user_keys.list(user.name, user.created) if self.site.keeps_keys else []
        for key in on_page:
            found.append(_key(key.fingerprint, key.public_key, key.comment, "page", None, key.last_used))
        known = {key.fingerprint for key in on_page}
        for copy in await self.site.key_listing.of(user.name, user.created):
            if copy.fingerprint not in known:
                found.append(_key(copy.fingerprint, copy.public_key, "", copy.source, copy.server, copy.last_used))
        self.finish({"keys": found})

    async def post(self) -> None:
        text = self.body({"public_key": str}, limit=MAX_KEYS_BODY)["public_key"]
        if len(text) > MAX_KEYS_TEXT:
            raise TooLarge
        if not self.site.keeps_keys:
            raise PolicyDenied(
                "Keys that are kept here open nothing on this hub. Register it in JupyterLab, on the server itself."
            )
        added = await self.site.user_keys.add_all(self.user.name, self.user.created, keys_of(text), "client")
        if not added:
            raise KeyDuplicate
        for key in added:
            self.note("key added", fingerprint=key.fingerprint)
        self.set_status(201)
        self.finish({"keys": [_key(key.fingerprint, key.bare_line, key.comment[:255], "page", None, None) for key in added]})


class KeyHandler(UserHandler):
    """``DELETE``: a key of the page, by its fingerprint."""

    async def delete(self, fingerprint: str) -> None:
        user = self.user
        if not FINGERPRINT.fullmatch(fingerprint):
            return self.fail(404, "KEY_UNKNOWN", "There is no such key.")
        if await self.site.user_keys.remove(user.name, fingerprint):
            self.note("key removed", fingerprint=fingerprint)
            self.set_status(204)
            self.finish()
            return None
        for copy in await self.site.key_listing.of(user.name, user.created):
            if copy.fingerprint == fingerprint:
                where = "that server" if copy.server is not None else printable(copy.source)
                return self.fail(409, "KEY_ELSEWHERE", f"This key is registered on {where}: remove it there.")
        return self.fail(404, "KEY_UNKNOWN", "There is no such key.")


class ServerHandler(UserHandler):
    """Only of servers that there are, of the token's user: a name that is mistyped makes none."""

    @property
    def servers(self) -> ClientServers:
        found = self.site.client_servers
        assert found is not None, "they are wired with the tokens"
        return found

    def found(self, name: str) -> ServerModel | None:
        """None where there is none, which has been said."""
        server = self.user.servers.get(name) if len(name) <= MAX_LOGIN_NAME else None
        if server is None:
            self.fail(404, "NOT_FOUND", "You have no server of that name. Make it on the Hub's page first.")
        return server

    def accepted(self) -> None:
        self.set_status(202)
        self.finish({"status": "accepted"})


class StartHandler(ServerHandler):
    """``POST {"server", "options"?}``: ``options`` go over those of the last start, null takes one away.

    What becomes of it tells /api/me.
    """

    async def post(self) -> None:
        sent = self.body({"server": str}, {"options": dict}, limit=2 * MAX_OPTIONS)
        options = sent.get("options", {})
        if len(json.dumps(options)) > MAX_OPTIONS:
            raise BadRequest(f"The options have more than {MAX_OPTIONS} bytes.")
        server = self.found(sent["server"])
        if server is None:
            return None
        if server.pending == "stop":
            return self.fail(409, "CONFLICT", "This server is being stopped. Start it again when that is done.")
        target = UserServer(self.user.name, server.name)
        under_way = server.ready or bool(server.pending) or self.servers.starting(target)
        if options and under_way:
            sentence = "This server runs already, or is being started: stop it first, to start it with other options."
            return self.fail(409, "CONFLICT", sentence)
        if not server.ready:
            self.servers.start(target, options)
        if not under_way:
            self.note("server started", server=server.name, options=" ".join(sorted(options)))
        return self.accepted()


class StopHandler(ServerHandler):
    """``POST {"server"}``."""

    async def post(self) -> None:
        server = self.found(self.body({"server": str})["server"])
        if server is None:
            return None
        said = await self.servers.stop(UserServer(self.user.name, server.name))
        if said:
            return self.fail(409, "CONFLICT", said)
        self.note("server stopped", server=server.name)
        return self.accepted()


def _has_ssh(server: ServerModel) -> bool | None:
    """None: not known before it runs."""
    if server.ready:
        return server.state is not None if server.state_known else None
    return False if server.user_options.get("enable_ssh") is False else None


def _path(target: UserServer) -> str:
    names = (target.user, target.server) if target.server else (target.user,)
    return "user/" + "".join(quote(name, safe="@~") + "/" for name in names)


def _key(fingerprint: str, line: str, comment: str, source: str, server: str | None, last_used: float | None) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "type": line.partition(" ")[0],
        "comment": printable(comment, 255),
        "public_key": line,
        "source": source,
        "server": server,
        "last_used": last_used and int(last_used),
    }


HANDLERS: list[tuple[str, type[RequestHandler]]] = [
    *client_login.HANDLERS,
    (r"/api/me", MeHandler),
    (r"/api/keys", KeysHandler),
    (r"/api/keys/(.{1,300})", KeyHandler),
    (r"/api/servers/start", StartHandler),
    (r"/api/servers/stop", StopHandler),
]
"""by path below the service's prefix"""
