"""Joins a client's connection with that to its user server: messages pass unchanged, both ways, as the policy allows."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..connect.endpoint import Endpoint
from . import packets
from .policy import CLIENT, OTHER, SERVER, Policy, ProtocolViolation

log = logging.getLogger("jhssh.relay")
SERVER_GONE = "Your server closed the connection."
SERVER_BROKE_PROTOCOL = "Your server sent something that no SSH server sends; the connection was ended to protect you."
CLIENT_BROKE_PROTOCOL = "The client sent something that no SSH client sends."


class Relay:
    """One relayed connection; lives as long as both ends do."""

    def __init__(
        self,
        client: Endpoint,
        server: Endpoint,
        *,
        name: str,
        socket_folders: tuple[str, ...],
        on_data: Callable[[int], None],
    ) -> None:
        """``name`` says for the log whose it is.

        ``on_data`` is told the bytes of each CHANNEL_DATA and EXTENDED_DATA message: what counts as activity."""
        self._ends = (client, server)
        self._name = name
        self._on_data = on_data
        self._policy = Policy(self._send, socket_folders)
        self._violated = False
        self.bytes = [0, 0]
        """of channel data, by sender"""

    def start(self) -> None:
        """Takes over both connections, which are authenticated."""
        for side in (CLIENT, SERVER):
            self._ends[side].when_ended(lambda reason, side=side: self._ended(side, reason))  # type: ignore[misc]
        for side in (SERVER, CLIENT):
            self._ends[side].attach(
                lambda message, side=side: self._receive(side, message),  # type: ignore[misc]
                # Messages for one end come from the other: while they wait here, no more are read there.
                self._ends[OTHER[side]].pause,
            )

    def _receive(self, side: int, message: bytes) -> None:
        if self._violated:  # what had arrived before the connection was ended
            return
        if message[0] in (packets.CHANNEL_DATA, packets.CHANNEL_EXTENDED_DATA):
            self.bytes[side] += len(message)
            self._on_data(len(message))
        try:
            self._policy.take(side, message)
        except ProtocolViolation as violation:
            self._violated = True
            log.warning("The relay of %s was ended: %s", self._name, violation)
            sentence = CLIENT_BROKE_PROTOCOL if violation.side == CLIENT else SERVER_BROKE_PROTOCOL
            for end in self._ends:
                end.end(packets.DISCONNECT_PROTOCOL_ERROR, sentence)

    def _send(self, side: int, message: bytes) -> None:
        self._ends[side].relay_message(message)

    def _ended(self, side: int, reason: Exception | None) -> None:
        """One end is gone: what it sent still reaches the other, which then is closed too."""
        other = self._ends[OTHER[side]]
        other.end(packets.DISCONNECT_BY_APPLICATION, SERVER_GONE if side == SERVER else "The client is gone.")
