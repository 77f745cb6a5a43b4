"""The names by which ssh knows user servers, as ``alice-gpu.hub``. Pure.

They go into ssh's configuration, shells and addresses of editors: so ``a-z 0-9 _ . -`` alone, whatever they stand for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

HUB_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def label(text: str) -> str:
    """``text`` as part of a host name; the empty string where nothing of it can stand there."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-.")[:60].rstrip("-.")


def host_names(user: str, servers: Iterable[str], hub: str) -> dict[str, str]:
    """For each server (``""`` is the default one) its host name: the same ones each time, no two alike."""
    owner = label(user) or _short_hash(user)
    found: dict[str, str] = {}
    for server in sorted(set(servers)):
        host = f"{owner}.{hub}" if not server else f"{owner}-{label(server) or _short_hash(server)}.{hub}"
        if host in found.values():
            host = f"{host.removesuffix(f'.{hub}')}-{_short_hash(server)}.{hub}"
        found[server] = host
    return found


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
