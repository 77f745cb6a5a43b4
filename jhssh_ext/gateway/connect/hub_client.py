"""All calls to the Hub's REST API, for JupyterHub 5.3 and later, and 6. Every failure of the Hub becomes HubUnavailable here.

"No such user" (None) and "the Hub does not answer" (HubUnavailable) are different answers. Names go into URLs escaped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Callable
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import quote

from tornado.httpclient import HTTPResponse
from tornado.httputil import HTTPInputError

from ...errors import HubUnavailable, KeyUnknown
from ...identifiers import printable
from ...login_names import MAX_LOGIN_NAME, UserServer
from .bounded_http import BoundedClient, NoAnswer
from .hub_models import (
    PAGINATED,
    EventLines,
    Progress,
    StartAnswer,
    TokenModel,
    UserModel,
    WrongShape,
    parse_object,
    start_answer,
    token_model,
    user_model,
    users_page,
)

MAX_ANSWER = 1 << 20
MAX_TOKEN = 512
USERS_PER_PAGE = 100
"""whose answer stays well below MAX_ANSWER"""
ROLE = (
    "Give the gateway's service a role with the scopes servers, read:servers, admin:server_state, read:users, list:users "
    "and users:activity "
    "(c.JupyterHub.load_roles)."
)

NO_SCOPE = re.compile(r"Action is not authorized with current scopes|Missing or invalid credentials")
"""scopes.py of JupyterHub: the token's fault. Other 403 come from the spawn itself."""

log = logging.getLogger("jhssh.hub_client")
T = TypeVar("T")


class HubClient:
    """``api_url`` ends with /hub/api; ``api_token`` is the gateway's own service token. Timeouts are seconds.

    ``start_timeout`` bounds the answer to a start, which the Hub holds back for its slow_spawn_timeout (10 s).
    """

    def __init__(
        self,
        api_url: str,
        api_token: str,
        *,
        connect_timeout: float = 5.0,
        request_timeout: float = 20.0,
        start_timeout: float = 60.0,
        progress_timeout: float = 300.0,
        max_clients: int = 200,
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self.start_timeout = start_timeout
        self.progress_timeout = progress_timeout
        self._api_token = api_token

        def client() -> BoundedClient:
            return BoundedClient(
                max_body=MAX_ANSWER, max_clients=max_clients, connect_timeout=connect_timeout, request_timeout=request_timeout
            )

        self._http = client()
        # Spawns last for minutes: many of them at once must not hold up the other calls.
        self._spawns = client()

    def close(self) -> None:
        self._http.close()
        self._spawns.close()

    async def user(self, name: str) -> UserModel | None:
        """The user and all their servers, stopped ones too; None if there is none of exactly this name. Raises HubUnavailable."""
        try:
            path = _path("users", name)
        except KeyUnknown:
            return None
        response = await self._call("GET", path + "?include_stopped_servers=1")
        if response.code == 404:
            return None
        model = self._parsed(response, user_model)
        # Some databases compare names without regard to case: "Alice" is not "alice".
        return model if model.name == name else None

    async def users(self) -> AsyncGenerator[UserModel, None]:
        """All users with all their servers, a page at a time. One may be left out while others go. Raises HubUnavailable."""
        offset: int | None = 0
        while offset is not None:
            path = f"/users?include_stopped_servers=1&limit={USERS_PER_PAGE}&offset={offset}"
            page, following = self._parsed(await self._call("GET", path, accept=PAGINATED), users_page)
            for user in page:
                yield user
            if following is not None and following <= offset:
                raise HubUnavailable(explanation=f"{self.api_url} lists the same users again and again")
            offset = following

    async def identify(self, token: str) -> TokenModel | None:
        """Whose token this is; None if it is nobody's. Not cached: a revoked token is one at once. Raises HubUnavailable."""
        if len(token) > MAX_TOKEN or not re.fullmatch(r"[!-~]+", token):
            return None
        response = await self._call("GET", "/user", token=token, plain=True)
        if response.code in (401, 403) and self._message(response) is not None:
            return None
        return self._parsed(response, token_model)

    async def start(self, target: UserServer, user_options: dict[str, Any]) -> StartAnswer:
        """Ask for a start with exactly these options. The caller has seen that the server exists: the Hub would create one.

        Raises HubUnavailable, and KeyUnknown for a user that is gone.
        """
        path = _server_path(target)
        # Asked each time, not remembered: a Hub that was upgraded in between would take the one body for the other's options.
        body = {"user_options": user_options} if await self.major_version() >= 6 else user_options
        response = await self._call("POST", path, body, client=self._spawns, timeout=self.start_timeout, plain=True)
        message = self._message(response) or ""
        if response.code == 401 or (response.code == 403 and NO_SCOPE.match(message)):
            raise HubUnavailable(explanation=f"the Hub does not let the gateway start servers: {message} {ROLE}")
        if response.code == 404:
            raise KeyUnknown(explanation=f"the Hub has no user server {target} to start")
        if response.code in (502, 503, 504) or response.code < 201 or 202 < response.code < 400:
            raise HubUnavailable(explanation=f"a start was answered with HTTP {response.code}")
        return start_answer(response.code, message, response.headers.get("Retry-After"))

    async def stop(self, target: UserServer) -> str:
        """Stop the user server, if it runs; what the Hub says if it does not. Raises HubUnavailable, KeyUnknown."""
        path = _server_path(target)
        response = await self._call("DELETE", path, client=self._spawns, timeout=self.start_timeout, plain=True)
        if response.code in (202, 204):
            return ""
        message = self._message(response)
        if response.code == 404 and message is not None:
            raise KeyUnknown(explanation=f"the Hub has no user server {target} to stop")
        if response.code != 400 or message is None:
            raise HubUnavailable(explanation=f"a stop was answered with HTTP {response.code} {message}. {ROLE}")
        return message or "This server can't be stopped right now."

    async def progress(self, target: UserServer) -> AsyncGenerator[Progress, None]:
        """The events of the spawn that is going on; none if none is. Ends after a ready or failed one. Raises HubUnavailable."""
        events: asyncio.Queue[Progress | None] = asyncio.Queue()
        lines = EventLines()
        stopped = False

        def received(chunk: bytes) -> None:
            if stopped:
                raise HTTPInputError("no longer wanted")
            try:
                for event in lines.feed(chunk):
                    events.put_nowait(event)
            except WrongShape as error:
                raise HTTPInputError(str(error)) from None

        async def stream() -> HTTPResponse:
            try:
                return await self._spawns.fetch(
                    self.api_url + _server_path(target) + "/progress",
                    headers=self._headers(self._api_token) | {"Accept": "text/event-stream"},
                    request_timeout=self.progress_timeout,
                    streaming_callback=received,
                )
            finally:
                events.put_nowait(None)

        task = asyncio.create_task(stream())
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            while (event := await events.get()) is not None:
                yield event
                if event.ready or event.failed:
                    return
            response = task.result()
        except NoAnswer as error:
            raise HubUnavailable(explanation=f"the progress of a spawn broke off: {error}") from error
        finally:
            stopped = True
            task.cancel()
        # 400: is not starting; 404: the Hub has not touched this server since it was started itself.
        if response.code not in (200, 400, 404):
            raise HubUnavailable(explanation=f"progress was answered with HTTP {response.code}. {ROLE}")

    async def report_activity(self, target: UserServer, when: datetime) -> None:
        """Tell the Hub that this user server was in use at ``when``; nothing if it is gone. Raises HubUnavailable."""
        stamp = when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {"servers": {target.server: {"last_activity": stamp}}}
        response = await self._call("POST", _path("users", target.user) + "/activity", body)
        if response.code >= 400:
            log.debug("the Hub takes no activity for %s: HTTP %s", target, response.code)

    async def major_version(self) -> int:
        """5 or 6. Raises HubUnavailable."""
        return self._parsed(await self._call("GET", "/"), _major_version)

    def _headers(self, token: str) -> dict[str, str]:
        return {"Authorization": f"token {token}", "Accept": "application/json"}

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        client: BoundedClient | None = None,
        token: str | None = None,
        timeout: float | None = None,
        plain: bool = False,
        accept: str = "application/json",
    ) -> HTTPResponse:
        """The answer: ``plain`` with any status, else 2xx, or a 400 or 404 of the Hub itself. Raises HubUnavailable."""
        headers = self._headers(token or self._api_token) | {"Accept": accept}
        data = None
        if body is not None:
            data = json.dumps(body).encode("ascii")
            headers["Content-Type"] = "application/json"
        try:
            response = await (client or self._http).fetch(
                self.api_url + path, method=method, headers=headers, body=data, request_timeout=timeout
            )
        except NoAnswer as error:
            raise HubUnavailable(explanation=f"{self.api_url} does not answer ({error}). Check hub_api_url.") from error
        if not plain:
            self._check(response)
        return response

    def _check(self, response: HTTPResponse) -> None:
        """A proxy's or a wrong URL's answer is not the Hub's."""
        if 200 <= response.code < 300:
            return
        message = self._message(response)
        if response.code in (401, 403):
            raise HubUnavailable(explanation=f"the Hub refuses the gateway's own token: HTTP {response.code} {message}. {ROLE}")
        if response.code not in (400, 404) or message is None:
            raise HubUnavailable(explanation=f"{self.api_url} answers HTTP {response.code} {message}. Check hub_api_url.")

    @staticmethod
    def _message(response: HTTPResponse) -> str | None:
        """The message of an error of the Hub's API, fit to show, often empty; None where it is none of the Hub's."""
        try:
            found = parse_object(response.body)
        except WrongShape:
            return None
        if found.get("status") != response.code:
            return None
        message = found.get("message")
        return printable(message) if isinstance(message, str) else ""

    def _parsed(self, response: HTTPResponse, parse: Callable[[dict[str, Any]], T]) -> T:
        try:
            if response.code != 200:
                raise WrongShape(f"HTTP {response.code}")
            return parse(parse_object(response.body))
        except WrongShape as error:
            raise HubUnavailable(
                explanation=f"{self.api_url} answers not as a Hub: {error}. Check hub_api_url. {ROLE}"
            ) from error


def _path(*names: str) -> str:
    """Each name as one escaped segment. Raises KeyUnknown for what can't be one: no user or server has such a name."""
    segments = []
    for name in names:
        if not name or name in (".", "..") or "/" in name or len(name) > MAX_LOGIN_NAME:
            raise KeyUnknown(explanation="a name that can't stand in a URL")
        try:
            segments.append(quote(name, safe=""))
        except UnicodeEncodeError:
            raise KeyUnknown(explanation="a name that can't stand in a URL") from None
    return "/" + "/".join(segments)


def _server_path(target: UserServer) -> str:
    return _path("users", target.user, "servers", target.server) if target.server else _path("users", target.user, "server")


def _major_version(found: dict[str, Any]) -> int:
    match = re.match(r"([0-9]{1,3})\.", str(found.get("version")))
    if match is None:
        raise WrongShape("no version is shown")
    return int(match[1])
