"""The sshd of a server whose pod has a sidecar: nothing is run here, it is only looked at."""

from __future__ import annotations

import socket
from typing import Any

from ..payloads import SIDECAR, ServerEnvironment

LOOK_TIMEOUT = 1.0


class SidecarSSHD:
    """What the wiring knows of an sshd, of one in another container. The containers of a pod share their network."""

    def __init__(self, environment: ServerEnvironment) -> None:
        self._environment = environment

    def start(self) -> None:
        """The Hub has had it started."""

    async def stop(self) -> None:
        """It ends with the pod."""

    def status(self) -> dict[str, Any]:
        """The "sshd" of GET /jhssh/status."""
        found: dict[str, Any] = {
            "implementation": SIDECAR,
            "state": "running",
            "host_keys": [self._environment.public_host_key],
        }
        port = self._environment.listen_port
        try:
            socket.create_connection(("localhost", port), LOOK_TIMEOUT).close()
        except OSError as error:
            found["state"] = "failed"
            found["reason"] = f"The sidecar's sshd does not answer on port {port}: {error.strerror or error}."
        return found
