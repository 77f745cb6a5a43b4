"""What the Hub derives instead of storing it: the Hub-side secret, the Hub's id, and the host key of each user server's sshd.

Pure. The same inputs give the same key after every restart (docs/security.md, "What is proved").
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

MIN_SECRET = 32
"""bytes that a Hub-side secret has at least"""


@dataclass(frozen=True)
class HostKey:
    """A key pair of type ssh-ed25519."""

    private: str
    """OpenSSH format (PROTOCOL.key), unencrypted"""
    public: str
    """one OpenSSH line without a comment"""

    def __repr__(self) -> str:
        return f"HostKey({self.public!r})"


def derive_secret(cookie_secret: bytes) -> bytes:
    """The Hub-side secret, 32 bytes: HKDF (RFC 5869) of the Hub's cookie secret, which is itself never used as a key here."""
    if len(cookie_secret) < MIN_SECRET:
        raise ValueError(f"the Hub's cookie secret has {len(cookie_secret)} bytes, and at least {MIN_SECRET} are needed")
    return HKDF(SHA256(), length=32, salt=None, info=b"jhssh ssh_secret").derive(cookie_secret)


def derive_hub_id(secret: bytes) -> str:
    """The id of a Hub whose admin gave it none: 32 hexadecimal digits that say nothing about the secret."""
    return hmac.digest(secret, b"hub id", "sha256").hex()[:32]


def created_text(created: datetime | None) -> str:
    """When the Hub made the user, ISO 8601 in UTC: a user who is deleted and made anew gets new host keys."""
    if created is None:
        return ""
    if created.tzinfo is not None:
        created = created.astimezone(timezone.utc).replace(tzinfo=None)
    return created.isoformat()


def host_key_seed(secret: bytes, server_id: str, created: str, epoch: str) -> bytes:
    """The 32 bytes that an Ed25519 key is made of (RFC 8032). ``server_id`` is the opaque id of purpose HOST_KEY."""
    canonical = json.dumps([server_id, created, epoch], ensure_ascii=True, separators=(",", ":"))
    return hmac.digest(secret, canonical.encode("ascii"), "sha256")


def host_key(seed: bytes) -> HostKey:
    """The key pair of a seed."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return HostKey(
        private=private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii"),
        public=private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii"),
    )
