"""A Hub's configuration by which the gateway is told a port that is closed, as behind a firewall; sshd listens on another."""

from __future__ import annotations

CLOSED_PORT = """
import socket
from jhssh_ext.hub.local_spawners import SSHSimpleLocalProcessSpawner

closed = socket.socket()
closed.bind(("127.0.0.1", 0))  # taken, so that nobody listens there, and nobody can


class BehindAFirewall(SSHSimpleLocalProcessSpawner):
    def get_ssh_address(self):
        return closed.getsockname()


c.JupyterHub.spawner_class = BehindAFirewall
"""
