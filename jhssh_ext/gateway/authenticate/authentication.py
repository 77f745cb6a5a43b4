"""Who is it, and which user server may they enter: by registered key, or by Hub token given as password."""

from __future__ import annotations

import re

from ...errors import HubUnavailable, KeyUnknown, TokenInvalid
from ...login_names import UserServer, candidates
from ...public_keys import PublicKey
from ..connect.hub_client import HubClient
from ..connect.hub_models import UserModel, may, may_start
from .login import Login
from .registered_keys import RegisteredKeys

PLAUSIBLE_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,512}")
"""what may be a token at all (RFC 6750, section 2.1); anything else is a password that the Hub must not see"""


class Authentication:
    """Answers for the SSH server. Knows neither SSH nor the floor that hides how long an answer took."""

    def __init__(self, hub: HubClient, keys: RegisteredKeys, *, separator: str, allow_shared_servers: bool) -> None:
        self._hub, self._keys = hub, keys
        self._separator, self._allow_shared_servers = separator, allow_shared_servers

    async def knows_key(self, login_name: str, key: PublicKey) -> bool:
        """Was the key seen for a user server that the name may mean? Reads the database alone; raises DatabaseUnavailable."""
        for target in candidates(login_name, self._separator):
            if await self._keys.knows(target, key):
                return True
        return False

    async def accepts_key(self, login_name: str, key: PublicKey, *, may_fetch: bool) -> bool:
        """Is this key registered for a user server that the name may mean?

        Nothing is proved yet: it starts nothing, and asks a user server only if ``may_fetch``, as often as the cache's ages say.
        """
        targets = candidates(login_name, self._separator)
        # Where it was seen first: a question for a key that is in no copy may wait behind strangers'.
        known = [target for target in targets if await self._keys.knows(target, key)]
        for target in (*known, *(each for each in targets if each not in known)):
            if await self._keys.holds(target, key, may_fetch=may_fetch):
                return True
        return False

    async def key_opens(self, target: UserServer, key: PublicKey) -> bool:
        """Is the key, which opened exactly this user server, still there? Raises DatabaseUnavailable."""
        return await self._keys.knows(target, key)

    async def key_login(self, login_name: str, key: PublicKey, address: str) -> Login:
        """After the signature was verified. Raises KeyUnknown or an Unavailable."""
        found = await self._look_up(login_name, forget=True)
        if len(found) != 1:
            raise KeyUnknown
        ((target, user),) = found.items()
        if not user.created:  # of which keys the page has, some may be an earlier user's of that name
            raise HubUnavailable(explanation="the Hub does not say when users were made: give the gateway the scope read:users")
        await self._keys.forget_user(target.user, user.created)
        # The name may have been accepted for another server that it may mean, or for an earlier user of that name.
        if not await self._keys.holds(target, key, may_fetch=True, created=user.created):
            raise KeyUnknown
        return Login(target, "publickey", key.fingerprint, address, may_start=True)

    async def token_login(self, login_name: str, token: str, address: str) -> Login:
        """Raises TokenInvalid or HubUnavailable."""
        if not PLAUSIBLE_TOKEN.fullmatch(token) or not candidates(login_name, self._separator):
            raise TokenInvalid
        owner = await self._hub.identify(token)
        target = await self.resolve(login_name) if owner is not None and owner.kind == "user" else None
        if owner is None or target is None or not may(owner, "access:servers", target):
            raise TokenInvalid
        own = owner.name == target.user
        if not own and not self._allow_shared_servers:
            raise TokenInvalid
        return Login(target, "password", "", address, may_start=own and may_start(owner, target), own=own)

    async def resolve(self, login_name: str) -> UserServer | None:
        """The one existing user server that a login name means; None if there is none, or two. Raises HubUnavailable."""
        found = await self._look_up(login_name)
        return next(iter(found)) if len(found) == 1 else None

    async def _look_up(self, login_name: str, *, forget: bool = False) -> dict[UserServer, UserModel]:
        """The user servers that a login name may mean and that there are; ``forget``: the keys of users who are gone."""
        found = {}
        for target in candidates(login_name, self._separator):
            user = await self._hub.user(target.user)
            if user is None and forget:
                await self._keys.forget_user(target.user)
            if user is not None and target.server in user.servers:
                found[target] = user
        return found
