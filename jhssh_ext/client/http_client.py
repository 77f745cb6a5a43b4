"""HTTP to a hub: bounded in size and time, certificates verified, and no redirect followed, since requests carry a token."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urljoin

from .. import __version__
from ..identifiers import printable
from .addresses import address
from .connection import head, opened, unreachable
from .failures import Failure, LoginNeeded, Unreachable, WrongUsage
from .tls import is_loopback, tls_context

MAX_ANSWER = 4 << 20
TIMEOUT = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Message

    @property
    def json(self) -> Any:
        """None where the body is no JSON."""
        try:
            return json.loads(self.body) if self.body else None
        except (ValueError, RecursionError):
            return None

    @property
    def object(self) -> dict[str, Any]:
        """The JSON object of the body. Raises Failure."""
        found = self.json
        if not isinstance(found, dict):
            raise Failure("The hub answered with something that this version of jhssh does not understand. Update it.")
        return found


class Client:
    """Requests below one base URL, with one token."""

    def __init__(self, base: str, *, ca_file: str = "", plain_http: bool = False, authorization: str = "") -> None:
        self.base = base
        self._headers = {"User-Agent": f"jhssh/{__version__}", "Accept": "application/json", "Connection": "close"}
        if authorization:
            self._headers["Authorization"] = authorization
        to = address(base)
        if to is None:
            raise WrongUsage(f"{printable(base)} is no address of a hub.")
        if to.scheme != "https" and not (to.scheme == "http" and (plain_http or is_loopback(to.host))):
            raise WrongUsage(f"{printable(base)} is not https://. Where nobody can listen in between, --plain-http allows it.")
        self._tls = tls_context(ca_file) if to.secure else None

    def request(self, method: str, path: str, body: Any = None, *, timeout: float = TIMEOUT) -> Answer:
        """Any answer of the server's, errors and redirects included. Raises Unreachable."""
        to = address(urljoin(self.base, path))
        if to is None:
            raise WrongUsage(f"{printable(path)} is no address.")
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} if body is not None else {}
        with contextlib.closing(opened(to, self._tls, timeout)) as connection:
            try:
                connection.send(head(method, to, {**self._headers, **headers}) + data)
                response = http.client.HTTPResponse(connection, method=method)  # type: ignore[arg-type]
                response.begin()
                return Answer(response.status, _read(response), response.headers)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise unreachable(to.authority, error) from None

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = TIMEOUT) -> Answer:
        """A good answer (2xx). Raises Failure with what the server said, LoginNeeded, Unreachable."""
        answer = self.request(method, path, body, timeout=timeout)
        if 200 <= answer.status < 300:
            return answer
        raise refusal(answer, urljoin(self.base, path))


def refusal(answer: Answer, url: str) -> Failure:
    """What an answer that is not 2xx means."""
    found = answer.json
    message = found.get("message") if isinstance(found, dict) else None
    code = found.get("code") if isinstance(found, dict) else None
    said = printable(message, 500) if isinstance(message, str) and message else ""
    named = printable(code, 60) if isinstance(code, str) else ""
    if answer.status == 401:
        return LoginNeeded(said or "The token is not valid. Run: jhssh login", code=named)
    if 300 <= answer.status < 400:
        where = printable(answer.headers.get("Location", "elsewhere"))
        return Failure(f"{url} sends one on to {where}. If that is the hub, log in there: jhssh login URL")
    if answer.status in (502, 503, 504) or named == "HUB_UNAVAILABLE":
        return Unreachable(said or f"The hub says that it is not ready ({answer.status}). Try again in a minute.", code=named)
    return Failure(said or f"{url} answered with an error ({answer.status}).", code=named)


def _read(response: http.client.HTTPResponse) -> bytes:
    found = bytearray()
    while chunk := response.read1(65536):
        found += chunk
        if len(found) > MAX_ANSWER:
            raise OSError("its answer is too long")
    return bytes(found)
