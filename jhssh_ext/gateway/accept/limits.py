"""Bounds on those who have not proved anything yet: connections per address and in all, failures per address. Pure."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from ..addresses import network_of

MAX_ADDRESSES = 65536
"""addresses whose failures are remembered; the oldest go first"""


class ConnectionLimits:
    """Counts unauthenticated connections (as sshd's MaxStartups and PerSourceMaxStartups do) and the open ones of each user."""

    def __init__(self, *, unauthenticated: int, unauthenticated_per_address: int, per_user: int) -> None:
        self._max, self._max_per_address, self._max_per_user = unauthenticated, unauthenticated_per_address, per_user
        self._addresses: Counter[str] = Counter()
        self._users: Counter[str] = Counter()

    @property
    def unauthenticated(self) -> int:
        return self._addresses.total()

    def enter(self, address: str) -> bool:
        """May one more unauthenticated connection come from here? If so it counts until :meth:`leave`."""
        key = network_of(address)
        if self.unauthenticated >= self._max or self._addresses[key] >= self._max_per_address:
            return False
        self._addresses[key] += 1
        return True

    def leave(self, address: str) -> None:
        _down(self._addresses, network_of(address))

    def enter_user(self, user: str) -> bool:
        """May this user have one more connection? If so it counts until :meth:`leave_user`."""
        if self._users[user] >= self._max_per_user:
            return False
        self._users[user] += 1
        return True

    def leave_user(self, user: str) -> None:
        _down(self._users, user)


def _down(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


class FailureBudget:
    """How many failed attempts an address has left: a token bucket (RFC 2697's idea) of ``burst``, refilled at ``per_minute``."""

    def __init__(self, *, burst: int, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate, self._clock = float(burst), per_minute / 60.0, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # network → (tokens, when)

    def spend(self, address: str) -> bool:
        """Takes one; False if none is left."""
        key, now = network_of(address), self._clock()
        tokens = self._tokens(key, now)
        allowed = tokens >= 1
        self._left[key] = (tokens - 1 if allowed else tokens, now)
        self._left.move_to_end(key)
        while len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return allowed

    def give_back(self, address: str) -> None:
        """The attempt was no failure after all."""
        key, now = network_of(address), self._clock()
        if key in self._left:
            self._left[key] = (min(self._burst, self._tokens(key, now) + 1), now)

    def _tokens(self, key: str, now: float) -> float:
        tokens, when = self._left.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - when) * self._rate)
