"""A hub without a gateway: the user's own token, the Hub's REST API, and the extension on each user server.

The token goes to the Hub and to the user's own servers, where the Hub says that they are, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from ..identifiers import printable
from . import hubs, ssh_config
from .addresses import address
from .failures import Failure, LoginNeeded
from .http_client import Answer, Client, refusal
from .hub_api import MAX_SERVERS, Connect, Key, Me, Server, field, good_tunnel, host_keys, login_again, read_keys

STATUS_TIMEOUT = 10.0


class OwnServers:
    """``server``: whose key store is meant by "keys"."""

    def __init__(self, hub: hubs.Hub, token: str, server: str = "") -> None:
        self._hub = hub
        self._token = token
        self._server = server
        self._api = self._client(urljoin(hub.url, "hub/api/"))

    def _client(self, base: str) -> Client:
        hub = self._hub
        return Client(base, ca_file=hub.ca_file, plain_http=hub.plain_http, authorization=f"token {self._token}")

    def _call(self, client: Client, method: str, path: str, body: Any = None) -> Answer:
        answer = client.request(method, path, body)
        if 200 <= answer.status < 300:
            return answer
        if answer.status in (401, 403) and client is self._api:
            raise LoginNeeded(f"The Hub does not take this token for that. {login_again(self._hub)}", code="TOKEN_INVALID")
        raise refusal(answer, urljoin(client.base, path))

    def me(self) -> Me:
        """Each server that runs is asked about its SSH."""
        user = field(self._call(self._api, "GET", "user").object, "name", str)
        return Me(user, 0.0, Connect(), tuple(self._ask(each) for each in self._listed(user)))

    def _listed(self, user: str) -> list[Server]:
        model = self._call(self._api, "GET", f"users/{quote(user, safe='')}?include_stopped_servers").object
        found: dict[str, Server] = {"": Server("", user, False)}
        for name, each in field(model, "servers", dict).items():
            found[name] = Server(
                name=name,
                login_name=user,
                ready=field(each, "ready", bool),
                pending=each.get("pending") if each.get("pending") in ("spawn", "stop") else "",
                url=self._url_of(each, user, name),
            )
        return [found[name] for name in sorted(found)[:MAX_SERVERS]]

    def _url_of(self, model: dict[str, Any], user: str, name: str) -> str:
        """Of that server: as the Hub tells it where it has a host of its own, else below the Hub's."""
        full = model.get("full_url")
        if isinstance(full, str) and (to := address(full)) is not None and to.scheme == urlsplit(self._hub.url).scheme:
            return full
        path = "/".join(quote(part, safe="") for part in ("user", user, name) if part)
        return urljoin(self._hub.url, f"{path}/")

    def _ask(self, server: Server) -> Server:
        """With what its extension tells. Whatever it answers, the other servers are not touched by it."""
        if not server.ready or server.pending:
            return server
        try:
            answer = self._client(server.url).request("GET", "jhssh/status", timeout=STATUS_TIMEOUT)
            told = answer.object.get("tunnel") if answer.status == 200 else None
            if not isinstance(told, dict):
                advice = "pip install jhssh-ext there, and restart it"
                return replace(server, ssh=False, message=f"This server has no jhssh-ext with a tunnel: {advice}.")
            if told.get("enabled") is not True:
                reason = told.get("reason")
                return replace(server, ssh=False, message=printable(reason, 500) if isinstance(reason, str) else "")
            # its own sshd has that one account
            account, keys = field(told, "user", str) or server.login_name, host_keys(field(told, "host_keys", list))
        except Failure as error:
            return replace(server, message=error.sentence)
        if not ssh_config.takes(account):
            return replace(server, ssh=False, message=f"ssh can't be given the name of its account: {printable(account)}.")
        parts = urlsplit(urljoin(server.url, "jhssh/tunnel"))
        tunnel = urlunsplit(parts._replace(scheme="wss" if parts.scheme == "https" else "ws"))
        if not good_tunnel(tunnel, self._hub):
            return replace(server, ssh=False)
        return replace(server, login_name=account, ssh=True, tunnel=tunnel, host_keys=keys)

    def _running(self) -> Client:
        """Of the server whose keys are meant. Raises Failure."""
        user = field(self._call(self._api, "GET", "user").object, "name", str)
        server = next((each for each in self._listed(user) if each.name == self._server), None)
        if server is None or not server.ready:
            named = f"The server {printable(self._server)}" if self._server else "Your server"
            raise Failure(f"{named} does not run, and the keys are on it. Start it: jhssh servers start {self._server}".rstrip())
        return self._client(server.url)

    def registered_keys(self) -> list[Key]:
        return read_keys(self._call(self._running(), "GET", "publickey").object)

    def add_keys(self, text: str) -> list[Key]:
        return read_keys(self._call(self._running(), "POST", "publickey", {"public_key": text}).object)

    def remove_key(self, fingerprint: str) -> None:
        self._call(self._running(), "DELETE", f"publickey/{quote(fingerprint, safe='')}")

    def start(self, server: str, options: Mapping[str, Any]) -> None:
        body: dict[str, Any] | None = None
        if options:
            version = str(self._call(self._api, "GET", "").object.get("version", ""))
            # JupyterHub 5 takes the options themselves as body
            body = dict(options) if version.startswith(("4.", "5.")) else {"user_options": dict(options)}
        self._call(self._api, "POST", self._path_of(server), body)

    def stop(self, server: str) -> None:
        self._call(self._api, "DELETE", self._path_of(server))

    def _path_of(self, server: str) -> str:
        return f"users/{quote(self._hub.user, safe='')}/servers/{quote(server, safe='')}"

    def forget_token(self) -> None:
        """It is the user's: made on the Hub's Token page, and revoked there."""
