"""Keys fetched anew on an admin's wish: of a few users here and now, of all in a process of its own, so that logins go on."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Sequence
from typing import Any

from ...errors import HubUnavailable, TooManyAttempts
from ...identifiers import printable
from ..authenticate.key_rebuild import KeyRebuild

MAX_USERS = 100
"""named at once"""
MAX_OUTPUT = 65536

log = logging.getLogger("jhssh.refresh")


class KeyRefresh:
    """``command`` is ``jhssh-gateway refresh --json`` with this gateway's settings."""

    def __init__(self, rebuild: KeyRebuild, command: Sequence[str]) -> None:
        self._rebuild, self._command = rebuild, command
        self._here = asyncio.Semaphore(1)
        self._process: asyncio.Task[None] | None = None
        self.last: dict[str, Any] | None = None
        """the report of the last one of all users (Report.shown), or {"error": …}"""

    @property
    def running(self) -> bool:
        """Is one of all users going on?"""
        return self._process is not None

    async def users(self, names: Collection[str]) -> dict[str, Any]:
        """The report (Report.shown) of these users, MAX_USERS at the most.

        Raises TooManyAttempts, HubUnavailable, DatabaseUnavailable.
        """
        if self._here.locked():
            raise TooManyAttempts("Another refresh is going on. Wait until it is done.")
        async with self._here:
            return (await self._rebuild.run(list(names)[:MAX_USERS], full=True)).shown()

    def everyone(self, *, full: bool) -> None:
        """Begin one of all users. Raises TooManyAttempts where one is going on."""
        if self._process is not None:
            raise TooManyAttempts("A refresh of all keys is going on already.")
        self._process = asyncio.create_task(self._run([*self._command, *(["--full"] if full else [])]))

    async def page(self, names: Collection[str]) -> str:
        """For the admins' page: these users, or all; the sentence about it. Raises as ``users``."""
        if not names:
            self.everyone(full=True)
            return "The keys of all servers are being fetched anew. That takes up to a few minutes."
        report = await self.users(names)
        failed = sum(report["failed"].values())
        return f"Keys of {report['fetched']} servers were fetched anew; {failed} servers did not answer."

    async def close(self) -> None:
        """End what is going on."""
        if self._process is not None:
            self._process.cancel()
            await asyncio.gather(self._process, return_exceptions=True)

    async def _run(self, command: Sequence[str]) -> None:
        try:
            self.last = await self._outcome(command)
            log.info("all keys: %s", json.dumps(self.last))
        except (OSError, HubUnavailable) as error:
            self.last = {"error": "The refresh failed; the gateway's log says why."}
            log.warning("The refresh of all keys failed: %s", error)
        finally:
            self._process = None

    async def _outcome(self, command: Sequence[str]) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, limit=MAX_OUTPUT
        )
        assert process.stdout is not None
        try:
            output = await process.stdout.read(MAX_OUTPUT)
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        try:
            found = json.loads(output)
        except ValueError:
            found = None
        if status != 0 or not isinstance(found, dict):
            raise HubUnavailable(explanation=f"it ended with status {status}: {printable(output.decode('utf-8', 'replace'))}")
        return found
