"""Public keys and signatures as clients send them (RFC 4252, section 7): parsed strictly, SHA-1 refused."""

from __future__ import annotations

import base64

import asyncssh
from asyncssh.packet import PacketDecodeError, SSHPacket
from asyncssh.public_key import decode_ssh_public_key

from ...public_keys import PublicKey, parse_line

SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""told to clients (RFC 8308, section 3.1) and heeded: without ssh-rsa, which is SHA-1 (RFC 8332, section 3)"""


def supported() -> list[str]:
    """SIGNATURES less those for which this machine lacks a library (sk-, where fido2 is not installed)."""
    known = asyncssh.public_key.get_public_key_algs()
    return [name for name in SIGNATURES if name.encode("ascii") in known]


def public_key(blob: bytes) -> PublicKey:
    """Raises KeyRefused or ValueError."""
    kind = SSHPacket(blob)
    try:
        name = kind.get_string().decode("ascii")
    except PacketDecodeError as error:
        raise ValueError("no key") from error
    key = parse_line(f"{name} {base64.b64encode(blob).decode('ascii')}")
    if key.blob != blob:  # the name held more than a name: what is judged must be what is verified
        raise ValueError("no key")
    return key


def verify(blob: bytes, signed: bytes, signature: bytes) -> bool:
    try:
        algorithm = SSHPacket(signature).get_string()
        key = decode_ssh_public_key(blob)
        key.set_touch_required(True)
        return algorithm.decode("ascii") in SIGNATURES and key.verify(signed, signature)
    except (PacketDecodeError, asyncssh.KeyImportError, ValueError):
        return False
