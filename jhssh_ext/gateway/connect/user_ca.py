"""The user CA: signs, for each connection, a certificate that opens one user server for minutes (PROTOCOL.certkeys)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import asyncssh

from ...identifiers import PRINCIPAL, opaque_id
from ...login_names import UserServer

LIFETIME = 300
"""seconds; covers a sshd that still starts and clocks that differ"""
CLOCK_SKEW = 300
"""seconds that a user server's clock may be behind"""


@dataclass(frozen=True)
class Credential:
    """A key made for one connection, and its certificate."""

    key: asyncssh.SSHKey
    certificate: asyncssh.SSHCertificate


class UserCA:
    """Holds the private half; its public half is what the spawner mixin's ``ssh_user_ca_file`` gives to user servers."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key

    @classmethod
    def read(cls, path: str) -> UserCA:
        """From a private key file. Raises OSError or asyncssh.KeyImportError."""
        return cls(asyncssh.read_private_key(path))

    def credential(self, hub_id: str, target: UserServer) -> Credential:
        """Opens ``target`` alone: its one principal is that server's opaque id."""
        principal = opaque_id(PRINCIPAL, hub_id, target.user, target.server)
        key = asyncssh.generate_private_key("ssh-ed25519")
        now = int(time.time())
        certificate = self._key.generate_user_certificate(
            key,
            f"jhssh gateway {principal[:16]}",
            principals=[principal],
            valid_after=now - CLOCK_SKEW,
            valid_before=now + LIFETIME + CLOCK_SKEW,
        )
        return Credential(key, certificate)
