"""One SSH connection whose channels are relayed instead of being served. The only module that touches asyncssh's internals.

It is mixed into asyncssh's server connection (the client's hop) and client connection (the user server's hop). Messages
80 to 100 (RFC 4250, section 4.1.2: connection protocol) go to a sink, all others stay on their hop with asyncssh.
asyncssh is pinned to a minor version; ``tests/gateway/connect/test_endpoint.py`` fails when one of these internals is gone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from asyncssh.compression import Decompressor
from asyncssh.connection import SSHConnection
from asyncssh.packet import SSHPacket

FIRST_RELAYED, LAST_RELAYED = 80, 100
FIRST_CHANNEL_MESSAGE = 93
MAX_HELD_MESSAGES = 64
"""what the other side may send before the relay is there; sshd sends one or two (hostkeys-00)"""
HIGH_WATER = 1 << 20
"""bytes waiting here to be sent on one hop before reading from the other stops; as many may be with the transport"""
MAX_BACKLOG, MAX_BACKLOG_UNAUTHENTICATED = 32 << 20, 1 << 18
"""bytes waiting to be sent on one hop that end the connection; what honest ends have in flight when both hops exchange keys at
once is the sum of their windows, 2 MiB a channel with OpenSSH"""
MESSAGE_OVERHEAD = 256
"""bytes of memory that a message held back takes, however short"""
MAX_INFLATED = (1 << 18) + 4096
"""bytes that one compressed packet may become: RFC 4253, section 6.1 asks for 32768, OpenSSH's limit is 256 KiB"""
CLOSE_PATIENCE, CLOSE_LOOKS = 5.0, 12
"""seconds in which something of what is left must be taken when a connection ends, and how often that is looked at"""

Sink = Callable[[bytes], None]
log = logging.getLogger("jhssh.endpoint")


class _BoundedDecompressor:
    """zlib (RFC 4253, section 6.2) that refuses a packet which becomes larger than any honest one."""

    def __init__(self, inner: Decompressor) -> None:
        self._inflate = cast(Any, inner)._decomp

    def decompress(self, data: bytes) -> bytes | None:
        inflated = cast(bytes, self._inflate.decompress(data, MAX_INFLATED))
        return None if self._inflate.unconsumed_tail else inflated


class _AnyChannel(Mapping[int, "_AnyChannel"]):
    """Stands for asyncssh's table of channels: knows every number, and hands each message on."""

    def __init__(self, receive: Callable[[SSHPacket], bool]) -> None:
        self._receive = receive

    def __getitem__(self, _number: int) -> _AnyChannel:
        return self

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def process_packet(self, _pkttype: int, _pktid: int, packet: SSHPacket) -> bool:
        return self._receive(packet)

    def log_received_packet(self, *_args: object) -> None:
        """Nothing: what passes through is the user's own."""


class Endpoint(SSHConnection):
    """What the relay needs of a connection: take, give, pause, end. To be mixed in before an asyncssh connection class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sink: Sink | None = None
        self._pause_wanted = False
        self._reading_paused = False
        self._held: list[bytes] = []
        self._deferred_bytes = 0
        self._outgoing = bytearray()
        self._flush_due = False
        self._writable = True
        self._pressure = False
        self._on_pressure: Callable[[bool], None] = lambda _over: None
        self._on_end: list[Callable[[Exception | None], None]] = []
        super().__init__(*args, **kwargs)
        self._channels = cast(Any, _AnyChannel(self._receive))

    # what the relay calls

    def attach(self, sink: Sink, on_pressure: Callable[[bool], None]) -> None:
        """From now on ``sink`` gets each message (type byte and payload), those held so far first.

        ``on_pressure`` is told when more than HIGH_WATER bytes wait to be sent here (True), and when they are gone (False).
        """
        self._sink, self._on_pressure = sink, on_pressure
        held, self._held = self._held, []
        for message in held:
            sink(message)

    def when_ended(self, callback: Callable[[Exception | None], None]) -> None:
        """``callback(reason)`` once when the connection is gone; at once if it is gone already."""
        if self.is_closed():
            callback(None)
        else:
            self._on_end.append(callback)

    def relay_message(self, message: bytes) -> None:
        """Sends one message: type byte and payload, unchanged."""
        if self._transport is not None and not self._transport.is_closing():
            self.send_packet(message[0], message[1:])

    def pause(self, paused: bool) -> None:
        """Stops or resumes reading; what has arrived already waits too.

        Not while keys are exchanged on this hop: that needs reading, and what is held back for it here would wait for ever if the
        other hop was paused for the same reason.
        """
        self._pause_wanted = paused
        self._apply_pause()

    def end(self, code: int, sentence: str) -> None:
        """Sends what is left and a DISCONNECT (RFC 4253, section 11.1), then closes; at once if nothing of it is taken."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._send_disconnect(code, sentence, "")
        self._writable = True
        self._flush()
        transport.close()
        self._close_when_sent(transport, CLOSE_LOOKS, transport.get_write_buffer_size())

    def _close_when_sent(self, transport: asyncio.Transport, looks: int, before: int) -> None:
        def look() -> None:
            left = transport.get_write_buffer_size()
            if left < before and looks > 1:
                self._close_when_sent(transport, looks - 1, left)
            else:
                transport.abort()

        timer = self._loop.call_later(CLOSE_PATIENCE, look)
        self.when_ended(lambda _reason: timer.cancel())

    # what asyncssh calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).set_write_buffer_limits(0)  # it tells when it has sent all that it was given
        detect_dead_peers(transport.get_extra_info("socket"))
        super().connection_made(transport)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        if FIRST_RELAYED <= pkttype < FIRST_CHANNEL_MESSAGE:
            return self._receive(packet)
        return super().process_packet(pkttype, pktid, packet)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._flush()

    def _send(self, data: bytes) -> None:
        # Packets are given to the transport together, one piece at a time: it counts its pieces at each write (asyncio of Python
        # 3.12 and later), so that a million small ones which nobody takes would hold up everybody.
        if self._transport is None:
            return
        self._outgoing += data
        if self._writable and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        self._tell_pressure()

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        if transport is not None and self._outgoing and self._writable:
            outgoing, self._outgoing = self._outgoing, bytearray()
            transport.write(outgoing)
        self._tell_pressure()

    def _force_close(self, exc: Exception | None) -> None:
        self._flush()  # a DISCONNECT, most of all
        super()._force_close(exc)

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        deferred = len(self._deferred_packets)
        super().send_packet(pkttype, *args, handler=handler)
        if len(self._deferred_packets) > deferred:
            # While keys are exchanged anew asyncssh holds messages back without a bound, and a peer can make that last.
            self._deferred_bytes += sum(map(len, args)) + MESSAGE_OVERHEAD
            self._tell_pressure()
        self._bound_backlog()

    def _send_kexinit(self) -> None:
        super()._send_kexinit()
        self._apply_pause()

    def _send_deferred_packets(self) -> None:
        self._deferred_bytes = 0
        super()._send_deferred_packets()
        self._tell_pressure()
        self._apply_pause()

    def _recv_pkthdr(self) -> bool:
        # A read may hold many packets, and a compressed one becomes a hundred times its size: the rest waits as well.
        return not self._reading_paused and super()._recv_pkthdr()

    def _cleanup(self, exc: Exception | None) -> None:
        callbacks, self._on_end = self._on_end, []
        self._sink, self._held = None, []
        super()._cleanup(exc)
        for callback in callbacks:
            try:
                callback(exc)
            except Exception:  # whatever it is, the others must hear that the connection is gone
                log.exception("a connection's end was not taken note of")

    @property
    def _decompressor(self) -> Any:
        return self.__dict__.get("_bounded_decompressor")

    @_decompressor.setter
    def _decompressor(self, decompressor: Decompressor | None) -> None:
        self.__dict__["_bounded_decompressor"] = _BoundedDecompressor(decompressor) if decompressor else None

    def _apply_pause(self) -> None:
        transport, paused = self._transport, self._pause_wanted and self._kex_complete
        if paused == self._reading_paused or transport is None or transport.is_closing():
            return
        self._reading_paused = paused
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()
            self._loop.call_soon(self._recv_arrived)

    def _recv_arrived(self) -> None:
        if self._transport is not None and self._inpbuf and not self._reading_paused:
            self._recv_data()

    def _bound_backlog(self) -> None:
        transport = self._transport
        if transport is None:
            return
        limit = MAX_BACKLOG if self._auth_complete else MAX_BACKLOG_UNAUTHENTICATED
        if transport.get_write_buffer_size() + len(self._outgoing) + self._deferred_bytes > limit:
            self._force_close(ConnectionError("the other end takes nothing of what it asked for"))

    def _tell_pressure(self) -> None:
        pressure = max(len(self._outgoing), self._deferred_bytes) > HIGH_WATER
        if pressure != self._pressure:
            self._pressure = pressure
            self._on_pressure(pressure)

    def _receive(self, packet: SSHPacket) -> bool:
        message = packet.get_full_payload()
        if self._sink is not None:
            self._sink(message)
        elif len(self._held) < MAX_HELD_MESSAGES:
            self._held.append(message)
        else:
            self._force_close(ConnectionError("sent too much before the relay was there"))
        return True


def detect_dead_peers(sock: socket.socket | None) -> None:
    """Has the kernel notice within about three minutes that the other side of an idle connection is gone (tcp(7)).

    Keepalives of SSH itself belong to the two ends: they pass through. Not TCP_USER_TIMEOUT: it would also end a client that
    lives and does not read, such as one stopped with Ctrl-Z.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
