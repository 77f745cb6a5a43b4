"""A real local spawner with moods: what happens at a start or stop stands before the first ``-`` of the user's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from jhssh_ext.hub.local_spawners import SSHSimpleLocalProcessSpawner

SLOW = 6.0
"""seconds that a ``slow-`` server takes more to start; half of what ``slower-`` takes, and ``lingers-`` to stop"""
PATIENCE = 4
"""start_timeout of a ``hangs-`` server, which never starts"""


class MoodySpawner(SSHSimpleLocalProcessSpawner):
    """raises-x, hangs-x, slow-x, slower-x, lingers-x, never-x (SSH policy), clash-PORT (sshd's), embedded-x (asyncssh's sshd).

    A heard-x server starts once somebody has been sent its progress. All others just start. Each start leaves a line
    ``SPAWN user/server`` in the Hub's log.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._heard = asyncio.Event()

    @property
    def mood(self) -> str:
        return str(self.user.name.partition("-")[0])

    async def run_pre_spawn_hook(self) -> None:
        if self.mood == "hangs":
            self.start_timeout = PATIENCE
        elif self.mood == "never":
            self.ssh_policy = "never"
        elif self.mood == "clash":
            self.ssh_port = int(self.user.name.partition("-")[2])
        super().run_pre_spawn_hook()
        if self.mood == "embedded":
            self.args = [*self.args, "--JHSSHExtension.implementation=asyncssh"]

    async def start(self) -> Any:
        self.log.info("SPAWN %s/%s", self.user.name, self.name)
        if self.mood == "raises":
            raise RuntimeError("node 7 has no disk left")
        if self.mood == "hangs":
            await asyncio.Event().wait()
        if self.mood.startswith("slow"):
            await asyncio.sleep(SLOW if self.mood == "slow" else 2 * SLOW)
        if self.mood == "heard":
            await self._heard.wait()
        return await super().start()

    async def stop(self, now: bool = False) -> None:
        self._heard.clear()
        await super().stop(now=now)
        if self.mood == "lingers":
            await asyncio.sleep(2 * SLOW)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        yield {"progress": 30, "message": f"Pulling the image of {self.user.name}"}
        self._heard.set()  # whoever asks for the next has this one
