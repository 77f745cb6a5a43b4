"""HTTP requests whose size and time are bounded and whose every failure is one type. Knows neither the Hub nor user servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from ...identifiers import printable

MAX_HEADER = 16384
"""bytes of an answer's status line and headers"""


class NoAnswer(Exception):
    """No complete HTTP answer within the bounds; the text says why, for a log, without anything that was sent."""


class BoundedClient:
    """Answers have at most ``max_body`` bytes and come within ``request_timeout`` seconds. No redirects, no compression.

    A cancelled wait frees the caller at once; the request itself then ends by its own timeout.
    """

    def __init__(self, *, max_body: int, max_clients: int, connect_timeout: float, request_timeout: float) -> None:
        self.connect_timeout = connect_timeout
        self.request_timeout = request_timeout
        # An own instance: the shared one may be another class, with other bounds. The buffer holds a header or a part of a body.
        self._client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=max_clients,
            max_header_size=MAX_HEADER,
            max_body_size=max_body,
            max_buffer_size=max(max_body, 4 * MAX_HEADER),
        )

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        request_timeout: float | None = None,
        streaming_callback: Callable[[bytes], None] | None = None,
    ) -> HTTPResponse:
        """The answer, whatever its status. Raises NoAnswer.

        ``streaming_callback`` ends the request by raising tornado's HTTPInputError.
        """
        timeout = request_timeout or self.request_timeout
        try:
            request = HTTPRequest(
                url,
                method=method,
                headers=dict(headers or {}),
                body=body,
                connect_timeout=self.connect_timeout,
                request_timeout=timeout,
                follow_redirects=False,
                decompress_response=False,
                streaming_callback=streaming_callback,
                user_agent="jhssh-gateway",
            )
            answer = asyncio.ensure_future(self._client.fetch(request, raise_error=False))
            # Not cancelled with the caller: Tornado would log the failure that follows as an error.
            answer.add_done_callback(lambda ended: ended.exception())
            # Tornado's own timeout ends the connection; this one is for what it might forget.
            await asyncio.wait({answer}, timeout=timeout + 5)
            return answer.result()
        except Exception as error:
            # Tornado raises HTTPClientError, OSError, ssl and stream errors, ValueError for a URL and more: here they become
            # one type. (Cancellation is no Exception.)
            raise NoAnswer(printable(f"{type(error).__name__}: {error}", 300)) from error

    def close(self) -> None:
        self._client.close()
