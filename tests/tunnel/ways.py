"""Ways through the Hub's own proxy: its two kinds, HTTPS with a private CA, a base URL, subdomains."""

from __future__ import annotations

import shlex
import sys
from urllib.parse import urlsplit, urlunsplit

from ..harness.hub import Hub


def tunnel_url(hub: Hub) -> str:
    """The gateway's tunnel, through the proxy."""
    assert hub.gateway is not None
    at = urlsplit(hub.url)
    return urlunsplit((at.scheme.replace("http", "ws"), at.netloc, hub.gateway.prefix + "tunnel", "", ""))


def tunnel_command(hub: Hub, *arguments: str, url: str = "") -> str:
    """For ProxyCommand."""
    return shlex.join([sys.executable, "-m", "jhssh_ext.client.websocket_stdio", url or tunnel_url(hub), *arguments])
