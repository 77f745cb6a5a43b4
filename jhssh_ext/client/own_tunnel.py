"""The tunnel to a user's own server, with their own token: the server is started where it does not run."""

from __future__ import annotations

from . import hubs, tokens, websocket_handshake
from .failures import Failure, LoginNeeded
from .tls import tls_context
from .websocket_frames import Frames

START_TIMEOUT = 300.0


def connected(hub: hubs.Hub, host: str) -> Frames:
    """Raises Failure."""
    token = tokens.load(hub.token_key)
    server = hub.server_of_host(host)
    if not token:
        from .hub_api import login_again

        raise LoginNeeded(f"There is no token for {hub.name} here. {login_again(hub)}")
    if server is not None and server.tunnel:
        try:
            return _connect(hub, server, token)
        except Failure as failure:
            running = _running(hub, host, failure)
    else:
        running = _running(hub, host, None)
    return _connect(hub, running, token)


def _connect(hub: hubs.Hub, server: hubs.KnownServer, token: str) -> Frames:
    tls = tls_context(hub.ca_file) if server.tunnel.startswith("wss:") else None
    return websocket_handshake.connect(server.tunnel, {"Authorization": f"token {token}"}, tls)


def _running(hub: hubs.Hub, host: str, failure: Failure | None) -> hubs.KnownServer:
    """Started, where it does not run. ``failure``: of a first try, raised again where the server runs. Raises Failure."""
    from . import servers  # here, since it is the rarer way
    from .hub_api import account, remembered
    from .output import Progress

    asked = account(hub)
    me = asked.me()
    server = servers.found(me, host, hub)
    if not server.ready or server.pending:
        progress = Progress()
        progress.show(f"Starting your server for {host} …")
        try:
            if server.pending != "spawn":
                asked.start(server.name, {})
            servers.wait_until_ready(asked, server, START_TIMEOUT, progress)
        finally:
            progress.clear()
        me = asked.me()
    elif failure is not None:
        raise failure
    found = remembered(hub, me).server_of_host(host)
    if found is None or not found.tunnel:
        now = me.server(server.name)
        raise Failure(f"The server runs, and takes no SSH by its tunnel. {now.message if now else ''}".rstrip())
    return found
