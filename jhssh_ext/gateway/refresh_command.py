"""``jhssh-gateway refresh [--full] [USER…]``: fetches keys of user servers anew, beside gateways that run."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from traitlets import Bool, Unicode

from .. import __version__
from ..errors import JHSSHError
from .app import Gateway
from .authenticate.key_rebuild import KeyRebuild, Report
from .authenticate.sessions import Sessions
from .connect.hub_client import HubClient
from .connect.server_starter import ServerStarter
from .database import Database
from .key_wiring import make_keys

NICE = 10
"""logins go first"""
SWITCH_INTERVAL = 0.0005
"""seconds after which the thread of the database gets its turn beside a busy event loop: it holds the lock that gateways want"""


class RefreshApp(Gateway):
    """Fetch the keys of running user servers anew: of these users, or of all; without --full only those that have aged.

    It needs the gateway's own configuration (-f FILE) and environment, and works on its database. Users who are gone are
    forgotten.
    """

    name = "jhssh-gateway refresh"
    description = Unicode(__doc__)
    version = __version__
    subcommands = {}
    full = Bool(False, help="Fetch all, however new they are.").tag(config=True)
    json = Bool(False, help="Print the report as JSON.").tag(config=True)
    flags = {
        "full": ({"RefreshApp": {"full": True}}, "fetch all, however new they are"),
        "json": ({"RefreshApp": {"json": True}}, "print the report as JSON"),
    }

    def start(self) -> None:
        os.nice(NICE)
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            report = asyncio.run(self.rebuild(self.extra_args))
        except (JHSSHError, ValueError) as error:
            sys.exit(f"{self.name}: {error}")
        if self.json:
            sys.stdout.write(json.dumps(report.shown()) + "\n")
        else:
            failed = ", ".join(f"{count} {code}" for code, count in sorted(report.failed.items())) or "none failed"
            sys.stdout.write(
                f"{report.users} users, {report.servers} servers with SSH: {report.fetched} fetched, {report.fresh} fresh, "
                f"{failed}; {report.forgotten} forgotten; {report.seconds:.1f} s\n"
            )

    async def rebuild(self, users: list[str]) -> Report:
        """Raises ValueError for settings that can't be used, HubUnavailable and DatabaseUnavailable."""
        database, hub = Database(self.database_url), HubClient(self.hub_api_url, self.hub_api_token)
        sessions = Sessions(database)
        starter = ServerStarter(hub, spawn_url=lambda target: "")
        try:
            await database.migrate()
            keys, user_keys = make_keys(self, database, hub, starter, removed=sessions.end_by_key)
            cache = keys.server_cache
            if cache is None:
                raise ValueError('c.Gateway.key_sources does not have "server": there is nothing to fetch')
            try:
                return await KeyRebuild(hub, keys, user_keys, cache).run(users, full=self.full)
            finally:
                await keys.close()
        finally:
            hub.close()
            await database.close()
