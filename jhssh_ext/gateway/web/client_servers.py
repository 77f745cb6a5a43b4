"""Starts and stops user servers for the ``jhssh`` command, in the background, and keeps what became of each start for a while."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ...errors import JHSSHError, SpawnFailed, SSHNotEnabled, TooManyAttempts
from ...identifiers import printable
from ...login_names import UserServer
from ..connect.hub_client import HubClient
from ..connect.server_starter import ServerStarter

MAX_STARTS, MAX_STARTS_PER_USER = 200, 5
"""that are being waited for"""
MAX_MESSAGES = 1000
"""user servers whose last message is kept"""

log = logging.getLogger("jhssh.client_api")


class ClientServers:
    """Of one gateway: another one tells how its own starts went, and the Hub everybody that a server runs."""

    def __init__(self, hub: HubClient, starter: ServerStarter) -> None:
        self._hub, self._starter = hub, starter
        self._starts: dict[UserServer, asyncio.Task[None]] = {}
        self._messages: OrderedDict[UserServer, str] = OrderedDict()

    def message(self, target: UserServer) -> str:
        """Where the last start is, or why it failed; empty if there is nothing to say. Fit to show."""
        return self._messages.get(target, "")

    def starting(self, target: UserServer) -> bool:
        """Is a start under way here? The Hub shows it later than that, and its end before the cause is known."""
        return target in self._starts or self._starter.starting(target)

    def start(self, target: UserServer, options: Mapping[str, Any]) -> None:
        """With ``options`` over those saved. The caller has seen that the server is its user's. Raises TooManyAttempts."""
        if target in self._starts:
            return
        of_user = sum(target.user == other.user for other in self._starts)
        if of_user >= MAX_STARTS_PER_USER or len(self._starts) >= MAX_STARTS:
            raise TooManyAttempts("Too many servers are being started. Wait until they are there.")
        self._tell(target, "")
        self._starts[target] = task = asyncio.create_task(self._run(target, options))
        task.add_done_callback(lambda _: self._starts.pop(target, None))

    async def stop(self, target: UserServer) -> str:
        """What the Hub says where it does not stop it; else empty. Raises HubUnavailable or KeyUnknown."""
        # First our own start, which may still wait for its turn at the Hub.
        if (start := self._starts.get(target)) is not None:
            start.cancel()
            await asyncio.wait({start})
        await self._starter.give_up(target)
        self._messages.pop(target, None)
        return await self._hub.stop(target)

    async def close(self) -> None:
        """Ends the waiting; spawns that were asked for go on at the Hub."""
        tasks = list(self._starts.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, target: UserServer, options: Mapping[str, Any]) -> None:
        try:
            await self._starter.running(
                target, may_start=True, on_progress=lambda said: self._tell(target, said), options=options
            )
        except JHSSHError as error:
            if isinstance(error, SSHNotEnabled) and options.get("enable_ssh") is False:
                self._messages.pop(target, None)  # as it was wanted
                return
            log.info("A start for the jhssh command: %s", error)
            self._tell(target, error.sentence)
            kept = sorted(name for name, value in options.items() if value is not None)
            if isinstance(error, SpawnFailed) and kept:
                take_back = f"jhssh servers start -o {shlex.quote(kept[0])}:=null"
                self._tell(target, f"{error.sentence[:300]} Later starts have these options too; to take one back: {take_back}")
        else:
            self._messages.pop(target, None)

    def _tell(self, target: UserServer, said: str) -> None:
        self._messages[target] = printable(said, 500)
        self._messages.move_to_end(target)
        while len(self._messages) > MAX_MESSAGES:
            self._messages.popitem(last=False)
