"""Fetches the keys of many user servers anew, all of the Hub's if need be, and forgets who is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from ...errors import JHSSHError
from ...login_names import UserServer, candidates, login_name
from ...payloads import ServerState
from ..connect.hub_client import HubClient
from ..connect.hub_models import UserModel
from ..connect.server_client import fetch_keys
from .key_cache import KeyCache
from .key_copies import Entry, Fetched
from .registered_keys import RegisteredKeys
from .user_keys import UserKeys

MAX_FETCHES = 150
"""at once: of ten thousand servers a hundred that hang for ten seconds each must not add up"""

log = logging.getLogger("jhssh.key_rebuild")


@dataclass
class Report:
    """What a rebuild did."""

    users: int = 0
    servers: int = 0
    """that run with SSH"""
    fetched: int = 0
    fresh: int = 0
    """asked so recently that they were not asked again"""
    failed: Counter[str] = field(default_factory=Counter)
    """by code of the error"""
    forgotten: int = 0
    """users that are gone or were made anew, and servers that are gone"""
    seconds: float = 0.0

    def shown(self) -> dict[str, Any]:
        return {**asdict(self), "failed": dict(self.failed), "seconds": round(self.seconds, 1)}


class KeyRebuild:
    """Asks the user servers themselves, never through the Hub's proxy, where it would count as activity of their users.

    ``cache`` is that of the user servers' keys, whose rows all gateways read; until they are written they count as before.
    """

    def __init__(
        self, hub: HubClient, keys: RegisteredKeys, user_keys: UserKeys, cache: KeyCache, *, max_fetches: int = MAX_FETCHES
    ) -> None:
        self._hub, self._keys, self._user_keys, self._cache, self._max_fetches = hub, keys, user_keys, cache, max_fetches
        self._where: dict[UserServer, tuple[ServerState, str]] = {}
        """of those who wait to be asked: address, and when their user was made"""

    async def run(self, users: Collection[str] = (), *, full: bool = False) -> Report:
        """Of these users, or of all; without ``full`` only where the copy is older than fresh_age.

        Raises HubUnavailable and DatabaseUnavailable. That a user server does not answer is counted in the report.
        """
        began, report = time.monotonic(), Report()
        copies = await self._cache.copies.all()
        remembered = await self._remembered(users, copies)
        cache = self._cache.beside(self._fetch, max_fetches=self._max_fetches)
        room, asking = asyncio.Semaphore(2 * self._max_fetches), set[asyncio.Task[None]]()
        try:
            async for user in self._listed(users):
                report.users += 1
                await self._forget_gone(user, remembered.pop(user.name, {}), report)
                for server in user.servers.values():
                    target = UserServer(user.name, server.name)
                    # Of a name that nobody can log in with, which the Hub may have for all that, nothing is kept.
                    if server.state is None or not candidates(login_name(target)):
                        continue
                    report.servers += 1
                    entry = copies.get(target)
                    if entry is not None and not full and self._cache.is_fresh(entry.checked):
                        report.fresh += 1
                        continue
                    self._where[target] = server.state, user.created
                    await room.acquire()
                    task = asyncio.create_task(self._renew(cache, target, entry.changes if entry else 0, report))
                    asking.add(task)
                    task.add_done_callback(lambda _: room.release())
                    task.add_done_callback(asking.discard)
            for name in remembered:
                # One may have been left out of the pages while others went.
                if await self._hub.user(name) is None:
                    await self._keys.forget_user(name)
                    report.forgotten += 1
            await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
            await cache.close()
        report.seconds = time.monotonic() - began
        return report

    async def _listed(self, users: Collection[str]) -> AsyncIterator[UserModel]:
        if not users:
            async for user in self._hub.users():
                yield user
        for name in users:
            found = await self._hub.user(name)
            if found is not None:
                yield found

    async def _remembered(
        self, users: Collection[str], copies: dict[UserServer, Entry]
    ) -> dict[str, dict[UserServer | None, str]]:
        """Of whom there is something: user → user server (None: the page) → ``created`` of the user whose it is."""
        found: dict[str, dict[UserServer | None, str]] = {}
        for user, whens in (await self._user_keys.users()).items():
            found[user] = {None: min(whens)}
        for target, entry in copies.items():
            found.setdefault(target.user, {})[target] = entry.created
        return {user: each for user, each in found.items() if not users or user in users}

    async def _forget_gone(self, user: UserModel, remembered: dict[UserServer | None, str], report: Report) -> None:
        if user.created and not {"", user.created}.issuperset(remembered.values()):
            await self._keys.forget_user(user.name, user.created)
            report.forgotten += 1
        for target in remembered:
            if target is not None and target.server not in user.servers:
                await self._cache.forget(target)
                report.forgotten += 1

    async def _renew(self, cache: KeyCache, target: UserServer, changes: int, report: Report) -> None:
        try:
            await cache.renew(target, changes)
            report.fetched += 1
        except JHSSHError as error:
            report.failed[error.code] += 1
        except Exception:  # of one server, and the others are still to be asked
            log.exception("keys of %s were not fetched", target)
            report.failed[JHSSHError.code] += 1

    async def _fetch(self, target: UserServer) -> Fetched:
        state, created = self._where.pop(target)
        return Fetched(await fetch_keys(state, target), state.spawn, created)
