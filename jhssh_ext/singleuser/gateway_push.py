"""Tells the gateway that the keys of this server changed. It carries no keys: it only makes the gateway fetch them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

REQUEST_TIMEOUT = 10.0
PATIENCE = 3.0
"""seconds that a change waits for the gateway to have fetched it"""
MAX_ANSWER = 65536


class GatewayPush:
    """Watches what ``state`` returns; a change, and the start, is told until the gateway has taken it."""

    def __init__(
        self,
        *,
        gateway_url: str,
        api_token: str,
        user: str,
        server: str,
        state: Callable[[], object],
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        interval: float = 1.0,
        first_delay: float = 1.0,
        longest_delay: float = 60.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = gateway_url + "api/keys-changed"
        self._token, self._body = api_token, json.dumps({"user": user, "server": server})
        self._state, self._log, self._interval = state, log, interval
        self._delays, self._sleep = (first_delay, longest_delay), sleep
        self._changed = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._failing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._changed.set()
            self._tasks = [
                loop.create_task(self._watch(), name="jhssh key files"),
                loop.create_task(self._push(), name="jhssh push"),
            ]

    async def keys_changed(self) -> None:
        """Without waiting for the files to be looked at again. Returns once the gateway knows, so that a key that was just added
        opens the door; soon if it does not answer: it is told in the background then.
        """
        self._changed.set()
        if self._failing or not self._tasks:
            return
        told = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        await asyncio.wait([told], timeout=PATIENCE)

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        seen = self._state()
        while True:
            await self._sleep(self._interval)
            found = await asyncio.to_thread(self._state)  # a home on a network can be slow
            if found != seen:
                seen = found
                self._changed.set()

    async def _push(self) -> None:
        while True:
            await self._changed.wait()
            delay = self._delays[0]
            while not await self._tell():
                await self._sleep(delay)
                delay = min(delay * 2, self._delays[1])

    async def _tell(self) -> bool:
        """Of all that has changed until now; who waits for it waits no longer, whatever comes of it."""
        self._changed.clear()
        waiting, self._waiting = self._waiting, []
        self._failing = not await self._told(quiet=self._failing)
        for each in waiting:
            if not each.done():
                each.set_result(None)
        return not self._failing

    async def _told(self, *, quiet: bool) -> bool:
        """True if there is nothing more to do about it."""
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER)
        request = HTTPRequest(
            self._url,
            method="POST",
            body=self._body,
            headers={"Authorization": f"token {self._token}", "Content-Type": "application/json"},
            follow_redirects=False,
            connect_timeout=REQUEST_TIMEOUT,
            request_timeout=REQUEST_TIMEOUT,
        )
        try:
            await client.fetch(request)
        except HTTPClientError as error:
            level = logging.DEBUG if quiet else logging.WARNING
            self._log.log(level, "jhssh: the gateway did not take the news of changed keys: HTTP %s", error.code)
        except (OSError, ValueError) as error:
            level = logging.DEBUG if quiet else logging.INFO
            self._log.log(level, "jhssh: the gateway can't be told of changed keys: %s", type(error).__name__)
        else:
            return True
        finally:
            client.close()
        return False
