"""Which keys open a user's servers, from whichever source, and when each was last used: for that user's eyes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from ...errors import KeyRefused
from ...public_keys import listed_key
from ..database import Database
from ..tables import KeyCopy, KeyUse
from .key_sources.user_server import UserServerKeys

MAX_LISTED = 200


@dataclass(frozen=True)
class CopiedKey:
    """One key of which the gateway has a copy. Times are seconds since 1970."""

    source: str
    """name of the key source"""
    server: str | None
    """the one server that it opens; None: all of the user's"""
    type: str
    fingerprint: str
    public_key: str
    """line "type base64" """
    last_used: float | None
    last_address: str


class KeyListing:
    """Reads what the key cache wrote; asks nobody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user: str, created: str) -> list[CopiedKey]:
        """At most MAX_LISTED; none of an earlier user of that name. Raises DatabaseUnavailable."""
        copies, uses = await self._database.select(
            select(KeyCopy.source, KeyCopy.server, KeyCopy.keys)
            .where(KeyCopy.user == user, KeyCopy.user_created == created)
            .order_by(KeyCopy.source, KeyCopy.server),
            select(KeyUse.fingerprint, KeyUse.used, KeyUse.address).where(KeyUse.user == user),
        )
        used = {fingerprint: (when, address) for fingerprint, when, address in uses}
        found: list[CopiedKey] = []
        for source, server, lines in copies:
            for line in lines.splitlines()[: MAX_LISTED - len(found)]:
                try:
                    key = listed_key(line)  # as the copy was taken: servers may list what is no key
                except KeyRefused:
                    continue
                when, address = used.get(key.fingerprint, (None, ""))
                opens = server if source == UserServerKeys.name else None
                found.append(CopiedKey(source, opens, key.type, key.fingerprint, key.bare_line, when, address))
        return found
