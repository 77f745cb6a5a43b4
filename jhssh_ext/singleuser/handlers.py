"""The HTTP side of the extension: ``/publickey`` and ``/jhssh/status`` (docs/architecture.md, "Contracts")."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from ..errors import (
    BadRequest,
    JHSSHError,
    KeyDuplicate,
    KeyElsewhere,
    KeyRefused,
    KeyUnknown,
    PolicyDenied,
    SSHNotEnabled,
    TooLarge,
    Unavailable,
)
from ..public_keys import MAX_TEXT
from .key_import import KeyImporter
from .key_store import KeyStore, StoredKey
from .tunnel_ends import TunnelEnds

AUTH_RESOURCE = "jhssh"
MAX_BODY = MAX_TEXT + 4096
MAX_JTIS = 10_000


@dataclass
class Services:
    """What the handlers need; app.py makes it and puts it into the settings."""

    store: KeyStore
    status: Callable[[], Awaitable[dict[str, Any]]]
    keys_changed: Callable[[], Awaitable[None]]
    """tells the gateway, and waits until it knows, within bounds"""
    importer: KeyImporter
    tunnel_ends: TunnelEnds
    audience: str = ""
    secret: str = ""
    owner: str = ""
    """the Hub user whose server this is; empty without a Hub"""
    used_jtis: dict[str, float] = field(default_factory=dict)
    """ids of signed requests that were answered → when (monotonic) they may be forgotten"""


_STATUSES: tuple[tuple[type[JHSSHError], int], ...] = (
    (BadRequest, 400),
    (TooLarge, 413),
    (KeyDuplicate, 409),
    (KeyElsewhere, 409),
    (KeyUnknown, 404),
    (KeyRefused, 422),
    (PolicyDenied, 403),
    (SSHNotEnabled, 403),
    (Unavailable, 503),
)


class JHSSHHandler(APIHandler):
    """Errors are ``{"message", "code"}``, and ``line`` where one line of what was sent is at fault."""

    auth_resource = AUTH_RESOURCE

    @property
    def services(self) -> Services:
        services: Services = self.settings["jhssh_services"]
        return services

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, JHSSHError):
            self.set_status(next(status for kind, status in _STATUSES if isinstance(error, kind)))
            answer: dict[str, Any] = {"message": error.sentence, "code": error.code}
            if isinstance(error, KeyRefused) and error.line:
                answer["line"] = error.line
        else:
            code = {403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(status_code, "ERROR")
            message = error.log_message if isinstance(error, web.HTTPError) and status_code < 500 else None
            answer = {"message": message or self._reason, "code": code}
        self.finish(json.dumps(answer))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """What the user did wrong is not the admin's log's business; and no traceback may show a pasted private key."""
        if not isinstance(value, JHSSHError):
            super().log_exception(typ, value, tb)

    def check_owner(self, refusal: str = "Only the owner of this server can change its keys.") -> None:
        """Who may look at a server (an admin, a guest of a share) may not therefore put a key on it. Raises PolicyDenied."""
        if not self.services.owner:
            return
        model = getattr(self.current_user, "hub_user", None)
        if not isinstance(model, dict) or model.get("kind", "user") != "user" or model.get("name") != self.services.owner:
            raise PolicyDenied(refusal)

    def verified(self, token: str) -> str:
        """The id of a request that the gateway signed with ``token``. Raises HTTPError."""
        # Here, since it brings PyJWT and cryptography, which a server without SSH does without (tests/singleuser/test_app.py).
        from ..signed_http import LIFETIME, BadSignature, verify_request

        services = self.services
        try:
            jti = verify_request(services.secret, services.audience, str(self.request.method), self.request.path, token)
        except BadSignature as error:
            self.log.warning("jhssh: a request that claims to be the gateway's was refused: %s", error)
            raise web.HTTPError(403, "This request was not signed by the gateway for this server.") from None
        now = time.monotonic()
        if len(services.used_jtis) >= MAX_JTIS:
            for old in [each for each, until in services.used_jtis.items() if until < now]:
                del services.used_jtis[old]
        if jti in services.used_jtis or len(services.used_jtis) >= MAX_JTIS:
            raise web.HTTPError(403, "This request was answered before.")
        # verify_request takes nothing that is good for longer than LIFETIME + 30 s
        services.used_jtis[jti] = now + LIFETIME + 60
        return jti

    def sent(self) -> dict[str, Any]:
        """The JSON object of the body. Raises TooLarge, BadRequest."""
        if len(self.request.body) > MAX_BODY:
            raise TooLarge(f"This is too long: at most {MAX_BODY} bytes are taken.")
        try:
            sent = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise BadRequest from None
        if not isinstance(sent, dict):
            raise BadRequest
        return sent

    async def add(self, text: str, origin: str = "") -> None:
        """Adds the keys of ``text`` and answers 201 with those that were new. Raises KeyRefused, StoreUnusable."""
        added = await asyncio.to_thread(self.services.store.add, text, origin)
        await self.services.keys_changed()
        self.set_status(201)
        self.finish(json.dumps({"keys": [key_model(each) for each in added]}))


class PublicKeysHandler(JHSSHHandler):
    """GET and POST /publickey."""

    signed_for: str | None = None
    """id of the gateway's signed request, once verified"""

    async def prepare(self) -> None:  # type: ignore[override]  # as jupyter_server's own APIHandler
        """A request that the gateway signed is its own proof; any other goes the way of every Jupyter request."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if self.request.method != "GET" or scheme != "JHSSH":
            await super().prepare()
            return
        if not self.check_host():
            raise web.HTTPError(403)
        self.current_user = self._jupyter_current_user = None
        self.signed_for = self.verified(token)

    @allow_unauthenticated
    async def get(self) -> None:
        # The gateway's looking and a page's polling are not the user's work: they must not keep a server alive.
        self._track_activity = False
        if self.signed_for is None:
            shown = self.get_as_user()
            if shown is not None:
                await shown
            return
        from ..signed_http import ANSWER_TYPE, sign_answer  # here, as above

        answer = sign_answer(self.services.secret, self.services.audience, self.signed_for, await self._model())
        self.set_header("Cache-Control", "no-store")
        self.finish(answer, set_content_type=ANSWER_TYPE)

    @web.authenticated
    @authorized
    async def get_as_user(self) -> None:
        self.set_header("Vary", "Accept, Cookie, Authorization")
        self.set_header("Cache-Control", "private, no-cache")
        model = await self._model()
        if _wants_text(self.request.headers.get("Accept", "")):
            text = "".join(each["public_key"] + "\n" for each in model["keys"])
            self.finish(text, set_content_type="text/plain; charset=utf-8")
        else:
            self.finish(json.dumps(model))

    @web.authenticated
    @authorized
    async def post(self) -> None:
        self.check_owner()
        text = self.sent().get("public_key")
        if not isinstance(text, str):
            raise BadRequest
        await self.add(text)

    async def _model(self) -> dict[str, Any]:
        keys, ignored = await asyncio.to_thread(self.services.store.read)
        return {
            "keys": [key_model(each) for each in keys],
            "ignored": [
                {"source": each.source, "line": each.line, "reason": each.reason, "fingerprint": each.fingerprint}
                for each in ignored
            ],
        }


class PublicKeyHandler(JHSSHHandler):
    """DELETE /publickey/{fingerprint}; the slashes of a fingerprint may be escaped or not."""

    @web.authenticated
    @authorized
    async def delete(self, fingerprint: str) -> None:
        self.check_owner()
        await asyncio.to_thread(self.services.store.remove, fingerprint)
        await self.services.keys_changed()
        self.set_status(204)
        self.finish()


class KeyImportHandler(JHSSHHandler):
    """POST /jhssh/import {"provider": "github" or "gitlab", "user": "alice"}; the answer is that of POST /publickey."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        self.check_owner()
        sent = self.sent()
        provider, user = sent.get("provider"), sent.get("user")
        if not isinstance(provider, str) or not isinstance(user, str):
            raise BadRequest('Send JSON of the form {"provider": "github", "user": "alice"}.')
        found = await self.services.importer.fetch(provider, user)
        await self.add(found.text, found.origin)


class StatusHandler(JHSSHHandler):
    """GET /jhssh/status."""

    _track_activity = False

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.set_header("Cache-Control", "private, no-cache")
        self.finish(json.dumps(await self.services.status()))


def key_model(stored: StoredKey) -> dict[str, Any]:
    return {
        "fingerprint": stored.key.fingerprint,
        "type": stored.key.type,
        "comment": stored.key.comment,
        "public_key": stored.key.line,
        "added": stored.added,
        "source": stored.source,
        "origin": stored.origin,
    }


def _wants_text(accept: str) -> bool:
    """RFC 9110, section 12.5.1, as far as two types need it: the first of the two that is named."""
    for each in accept.split(","):
        kind = each.partition(";")[0].strip().lower()
        if kind in ("text/plain", "application/json", "*/*"):
            return kind == "text/plain"
    return False


HANDLERS: list[tuple[str, type[JHSSHHandler]]] = [
    (r"/publickey", PublicKeysHandler),
    (r"/publickey/(.{1,256})", PublicKeyHandler),
    (r"/jhssh/status", StatusHandler),
    (r"/jhssh/import", KeyImportHandler),
]
