"""The messages of the connection protocol that the relay looks into (RFC 4254, OpenSSH's PROTOCOL): form, no policy."""

from __future__ import annotations

from asyncssh.packet import Byte, PacketDecodeError, SSHPacket, String, UInt32

GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE = 90, 91, 92
CHANNEL_WINDOW_ADJUST, CHANNEL_DATA, CHANNEL_EXTENDED_DATA, CHANNEL_EOF, CHANNEL_CLOSE = 93, 94, 95, 96, 97
CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 98, 99, 100

OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_RESOURCE_SHORTAGE = 1, 4
DISCONNECT_PROTOCOL_ERROR, DISCONNECT_BY_APPLICATION = 2, 11

MAX_NAME = 256
"""bytes of a request's or channel's type: RFC 4250, section 4.6.1 allows 64"""

Malformed = PacketDecodeError


def reader(message: bytes) -> SSHPacket:
    """At the first field after the type byte. Reading past the end raises Malformed."""
    packet = SSHPacket(message)
    packet.get_byte()
    return packet


def recipient(message: bytes) -> int:
    """The channel number of messages 91 to 100: the receiver's own."""
    if len(message) < 5:
        raise Malformed("no channel number")
    return int.from_bytes(message[1:5], "big")


def name(packet: SSHPacket) -> bytes:
    """The type of a request or channel."""
    value = packet.get_string()
    if not value or len(value) > MAX_NAME:
        raise Malformed("a type without a name")
    return value


def open_failure(channel: int, code: int, reason: str) -> bytes:
    """CHANNEL_OPEN_FAILURE (RFC 4254, section 5.1)."""
    return Byte(CHANNEL_OPEN_FAILURE) + UInt32(channel) + UInt32(code) + String(reason) + String("")


def channel_failure(channel: int) -> bytes:
    """CHANNEL_FAILURE (RFC 4254, section 5.4)."""
    return Byte(CHANNEL_FAILURE) + UInt32(channel)


REQUEST_FAILED = Byte(REQUEST_FAILURE)
"""REQUEST_FAILURE (RFC 4254, section 4)"""
