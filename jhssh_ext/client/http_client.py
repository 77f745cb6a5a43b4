"""HTTP to a hub: bounded in size and time, certificates verified, and no redirect followed, since requests carry a token."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit

from .. import __version__
from ..identifiers import printable
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        return None


class Client:
    """Requests below one base URL, with one token."""

    def __init__(self, base: str, *, ca_file: str = "", plain_http: bool = False, authorization: str = "") -> None:
        self.base = base
        self._headers = {"User-Agent": f"jhssh/{__version__}", "Accept": "application/json"}
        if authorization:
            self._headers["Authorization"] = authorization
        parts = urlsplit(base)
        host = parts.hostname or ""
        if parts.scheme != "https" and not (parts.scheme == "http" and (plain_http or is_loopback(host))):
            raise WrongUsage(f"{base} is not https://. Where nobody can listen in between, --plain-http allows it.")
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if is_loopback(host):
            handlers.append(urllib.request.ProxyHandler({}))
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=tls_context(ca_file)))
        self._opener = urllib.request.build_opener(*handlers)

    def request(self, method: str, path: str, body: Any = None, *, timeout: float = TIMEOUT) -> Answer:
        """Any answer of the server's, errors and redirects included. Raises Unreachable."""
        url = urljoin(self.base, path)
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({"Content-Type": "application/json"} if data is not None else {})}
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310  checked above
        host = urlsplit(url).netloc
        try:
            try:
                response = self._opener.open(request, timeout=timeout)
            except HTTPError as error:
                response = error
            with response:
                return Answer(response.status, _read(response, timeout), response.headers)
        except URLError as error:
            raise _unreachable(host, error.reason) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(host, error) from None

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
        return LoginNeeded(said or "The token is not valid. Log in: jhssh login", code=named)
    if 300 <= answer.status < 400:
        where = printable(answer.headers.get("Location", "elsewhere"))
        return Failure(f"{url} sends one on to {where}. If that is the hub, log in there: jhssh login URL")
    if answer.status in (502, 503, 504) or named == "HUB_UNAVAILABLE":
        return Unreachable(said or f"The hub says that it is not ready ({answer.status}). Try again in a minute.", code=named)
    return Failure(said or f"{url} answered with an error ({answer.status}).", code=named)


def _read(response: Any, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    parts: list[bytes] = []
    while chunk := response.read1(65536):
        parts.append(chunk)
        if sum(map(len, parts)) > MAX_ANSWER or time.monotonic() > deadline:
            raise OSError("its answer is too long")
    return b"".join(parts)


def _unreachable(host: str, cause: object) -> Unreachable:
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = printable(cause.verify_message or str(cause))
        advice = "If your organisation has a CA of its own, name its certificate: --ca-file FILE (with jhssh login)"
        return Unreachable(f"The certificate of {host} can't be verified: {why}. {advice}", code="CERTIFICATE_INVALID")
    if isinstance(cause, ssl.SSLError):
        return Unreachable(f"{host} does not speak TLS as it should: {printable(str(cause.reason or cause))}.")
    if isinstance(cause, TimeoutError):
        return Unreachable(f"{host} does not answer.")
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else cause
    return Unreachable(f"{host} can't be reached: {printable(str(said))}.")
