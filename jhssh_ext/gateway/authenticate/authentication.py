"""Who is it, and which user server may they enter: by registered key, or by Hub token given as password."""

from __future__ import annotations

import re

from ...errors import KeyUnknown, TokenInvalid
from ...login_names import UserServer, candidates
from ...public_keys import PublicKey
from ..connect.hub_client import HubClient
from ..connect.hub_models import may, may_start
from .key_cache import KeyCache
from .login import Login

PLAUSIBLE_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,512}")
"""what may be a token at all (RFC 6750, section 2.1); anything else is a password that the Hub must not see"""


class Authentication:
    """Answers for the SSH server. Knows neither SSH nor the floor that hides how long an answer took."""

    def __init__(self, hub: HubClient, keys: KeyCache, *, separator: str, allow_shared_servers: bool) -> None:
        self._hub, self._keys = hub, keys
        self._separator, self._allow_shared_servers = separator, allow_shared_servers

    def knows_key(self, login_name: str, key: PublicKey) -> bool:
        """Is the key in the cache for a user server that the name may mean? No input or output."""
        return any(self._keys.knows(target, key) for target in candidates(login_name, self._separator))

    async def accepts_key(self, login_name: str, key: PublicKey, *, may_fetch: bool) -> bool:
        """Is this key registered for a user server that the name may mean?

        Nothing is proved yet: it starts nothing, and asks a user server only if ``may_fetch``, as often as the cache's ages say.
        """
        for target in candidates(login_name, self._separator):
            if await self._keys.holds(target, key, may_fetch=may_fetch):
                return True
        return False

    def key_opens(self, target: UserServer, key: PublicKey) -> bool:
        """Is the key in the cache for exactly this user server?"""
        return self._keys.knows(target, key)

    async def key_login(self, login_name: str, key: PublicKey, address: str) -> Login:
        """After the signature was verified. Raises KeyUnknown, HubUnavailable or ServerUnreachable."""
        target = await self._resolve(login_name)
        # The name may have been accepted for another server that it may mean.
        if target is None or not await self._keys.holds(target, key, may_fetch=True):
            raise KeyUnknown
        return Login(target, "publickey", key.fingerprint, address, may_start=True)

    async def token_login(self, login_name: str, token: str, address: str) -> Login:
        """Raises TokenInvalid or HubUnavailable."""
        if not PLAUSIBLE_TOKEN.fullmatch(token) or not candidates(login_name, self._separator):
            raise TokenInvalid
        owner = await self._hub.identify(token)
        target = await self._resolve(login_name) if owner is not None and owner.kind == "user" else None
        if owner is None or target is None or not may(owner, "access:servers", target):
            raise TokenInvalid
        own = owner.name == target.user
        if not own and not self._allow_shared_servers:
            raise TokenInvalid
        return Login(target, "password", "", address, may_start=own and may_start(owner, target))

    async def _resolve(self, login_name: str) -> UserServer | None:
        """The one existing user server that a login name means; None if there is none, or two."""
        found = []
        for target in candidates(login_name, self._separator):
            user = await self._hub.user(target.user)
            if user is not None and target.server in user.servers:
                found.append(target)
        return found[0] if len(found) == 1 else None
