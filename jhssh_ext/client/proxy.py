"""``jhssh proxy HOST``: the way to a host through the hub's own HTTPS, for ssh's ProxyCommand.

On the path of every connection: it asks nobody, and imports what it needs as late as it can.
"""

from __future__ import annotations

from ..identifiers import printable
from . import hubs, websocket_stdio
from .addresses import address
from .failures import Failure, WrongUsage
from .tls import is_loopback, tls_context


def proxy(host: str, *, ca_file: str = "") -> None:
    """Standard input and output become the connection. ``host``: as ``alice.hub``, or a tunnel's own address. Raises Failure."""
    if "://" in host:
        websocket_stdio.run(_address(host), tls=tls_context(ca_file) if host.startswith(("wss:", "https:")) else None)
        return
    hub = hubs.of_host(host)
    if hub.kind == hubs.TOKEN:
        _to_own_server(hub, host)
    elif not hub.tunnel:
        raise Failure(f"{hub.name} has no tunnel. Its SSH port is the way: jhssh config --write --direct")
    else:
        websocket_stdio.run(hub.tunnel, tls=tls_context(hub.ca_file) if hub.tunnel.startswith("wss:") else None)


def _address(url: str) -> str:
    """A ``wss://`` URL of what was given, which may be ``https://``. Raises WrongUsage."""
    to, rest = address(url), url.partition("://")[2]
    if to is not None and (to.secure or is_loopback(to.host)):
        return f"{'wss' if to.secure else 'ws'}://{rest}"
    raise WrongUsage(f"{printable(url)} is no address of a tunnel: wss://hub.example.org/services/ssh/tunnel")


def _to_own_server(hub: hubs.Hub, host: str) -> None:
    """With the user's own token. A server that does not run is started, as a gateway would."""
    from . import own_tunnel  # here: it needs HTTP, which a gateway's tunnel does without

    frames = own_tunnel.connected(hub, host)
    websocket_stdio.Tunnel(frames, websocket_stdio.PING_INTERVAL).run()
