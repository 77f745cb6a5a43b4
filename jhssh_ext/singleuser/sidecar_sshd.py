"""The sshd of a server whose pod has a sidecar: nothing is run here, it is only looked at."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from ..payloads import SIDECAR, ServerEnvironment
from .environment import sshd_address

LOOK_TIMEOUT = 1.0
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"
"""proc(5)"""


class SidecarSSHD:
    """What the wiring knows of an sshd, of one in another container. The containers of a pod share their network."""

    def __init__(self, environment: ServerEnvironment) -> None:
        self._environment = environment

    def start(self) -> None:
        """The Hub has had it started."""

    async def stop(self) -> None:
        """It ends with the pod."""

    async def status(self) -> dict[str, Any]:
        """The "sshd" of GET /jhssh/status. It looks where sshd was told to listen; the event loop goes on meanwhile."""
        host, port = sshd_address(self._environment)
        found: dict[str, Any] = {
            "implementation": SIDECAR,
            "state": "running",
            "host_keys": [self._environment.public_host_key],
            "sessions": await asyncio.to_thread(_connections, port),  # before the look, which would count
        }
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), LOOK_TIMEOUT)
            writer.close()
        except (OSError, asyncio.TimeoutError) as error:
            reason = (getattr(error, "strerror", None) or str(error) or "no answer").rstrip(".")
            found["state"] = "failed"
            found["reason"] = f"The sidecar's sshd does not answer on port {port}: {reason}."
        return found


def _connections(port: int) -> int | None:
    """How many clients are connected to a port of this pod: the gateway comes that far only for one who has logged in."""
    found = None
    for table in TABLES:
        with contextlib.suppress(OSError):  # no IPv6, no Linux
            rows = [row.split()[1:4] for row in table.read_text(encoding="ascii").splitlines()]
            found = (found or 0) + sum(local.endswith(f":{port:04X}") and state == ESTABLISHED for local, _, state in rows)
    return found
