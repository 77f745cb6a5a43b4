"""What a URL says about where to connect. Pure; whatever others sent or typed, it raises nothing."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
MAX_HOST, MAX_LABEL = 253, 63
"""characters of a name, and between its dots (RFC 1035, section 2.3.4)"""


@dataclass(frozen=True)
class Address:
    scheme: str
    host: str
    port: int
    target: str
    """path and query"""
    credentials: str = ""
    """``user:password``"""

    @property
    def secure(self) -> bool:
        return self.scheme in ("https", "wss")

    @property
    def authority(self) -> str:
        """As HTTP's Host has it: with the port where it is not the usual one."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


def address(url: str) -> Address | None:
    """None: it is no URL of HTTP or a WebSocket that leads anywhere."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", PORTS.get(parts.scheme) if parts.port is None else parts.port
        name = host if host.isascii() else host.encode("idna").decode()
    except ValueError:
        return None
    labels = name.removesuffix(".").split(".")
    if parts.scheme not in PORTS or not port or len(name) > MAX_HOST or not all(0 < len(label) <= MAX_LABEL for label in labels):
        return None
    credentials = ":".join(unquote(part or "") for part in (parts.username, parts.password)) if parts.username else ""
    return Address(parts.scheme, name, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), credentials)
