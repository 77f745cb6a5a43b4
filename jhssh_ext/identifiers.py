"""Opaque ids that stand for one user server, and text that others chose made fit to show.

User names may hold spaces, newlines, ``*`` or ``#``: they never go into an sshd file, a shell, a log line or
a header as they are.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata

PRINCIPAL = "user-ca principal"
AUDIENCE = "http audience"
HOST_KEY = "host key"


def opaque_id(purpose: str, hub_id: str, user: str, server: str) -> str:
    """64 hexadecimal digits: SHA-256 of the canonical JSON ``[purpose, hub_id, user, server]``.

    ``purpose`` is one of the constants above, so that an id made for one use is worth nothing for another.
    """
    canonical = json.dumps([purpose, hub_id, user, server], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def printable(text: str, limit: int = 200) -> str:
    """``text`` without control, format, surrogate and unassigned characters (Unicode category C*), cut to ``limit`` characters.

    For a terminal, a log line or a page: the rest of the escaping is done at that edge.
    """
    kept = "".join(c if not unicodedata.category(c).startswith("C") else " " for c in text[: limit + 1])
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"
