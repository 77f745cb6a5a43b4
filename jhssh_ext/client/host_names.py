"""The names by which ssh knows user servers, as ``alice-gpu.hub``. Pure.

They go into ssh's configuration, shells and addresses of editors: so ``a-z 0-9 _ . -`` alone, whatever they stand for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

HUB_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
HASH_DIGITS = 8
HASHED = re.compile(rf"-[0-9a-f]{{{HASH_DIGITS},}}\Z")


def label(text: str) -> str:
    """``text`` as part of a host name; the empty string where nothing of it can stand there."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-.")[:60].rstrip("-.")


def host_names(user: str, servers: Iterable[str], hub: str) -> dict[str, str]:
    """For each server (``""`` is the default one) its host name: the same one whichever others there are, no two alike."""
    owner = label(user) or _hash(user)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for server in sorted(set(servers)):
        digits = HASH_DIGITS
        while (host := _host(owner, server, digits)) in taken:
            digits += HASH_DIGITS  # two hashes begin alike
        found[server] = f"{host}.{hub}"
        taken.add(host)
    return found


def _host(owner: str, server: str, digits: int) -> str:
    """A server's name that can't stand there as it is, or that looks as if it had a hash, gets one."""
    if not server:
        return owner
    plain = label(server)
    if plain == server and not HASHED.search(f"-{plain}"):
        return f"{owner}-{plain}"
    return "-".join(part for part in (owner, plain, _hash(server, digits)) if part)


def _hash(text: str, digits: int = HASH_DIGITS) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
