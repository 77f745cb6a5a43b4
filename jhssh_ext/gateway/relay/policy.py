"""What may pass between a client and its user server, message by message: an allow-list and the bookkeeping that it needs. Pure.

The user server may be hostile to the client, the client to the gateway. What is not listed is refused here. A refusal made here
and the replies that pass leave in the order of their requests (RFC 4254, sections 4 and 5.4), a reply to nothing ends it all.
"""

from __future__ import annotations

import posixpath
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from asyncssh.packet import SSHPacket

from . import packets as p

CLIENT, SERVER = 0, 1
OTHER = (SERVER, CLIENT)

CHANNELS_TO_SERVER = frozenset({b"session", b"direct-tcpip", b"direct-streamlocal@openssh.com"})
FORWARDS = frozenset({b"tcpip-forward", b"streamlocal-forward@openssh.com"})
CANCELS = {
    b"cancel-tcpip-forward": b"tcpip-forward",
    b"cancel-streamlocal-forward@openssh.com": b"streamlocal-forward@openssh.com",
}
KEEPALIVE = b"keepalive@openssh.com"
GLOBAL_REQUESTS = (FORWARDS | set(CANCELS) | {b"no-more-sessions@openssh.com", KEEPALIVE}, frozenset({KEEPALIVE}))
"""by sender"""
FORWARDED = {b"forwarded-tcpip": b"tcpip-forward", b"forwarded-streamlocal@openssh.com": b"streamlocal-forward@openssh.com"}
ON_REQUEST = {b"x11": b"x11-req", b"auth-agent@openssh.com": b"auth-agent-req@openssh.com"}
"""channels that the user server may open after the client's own channel request"""
CHANNEL_REQUESTS = (
    frozenset(
        b"pty-req x11-req env shell exec subsystem window-change xon-xoff signal break auth-agent-req@openssh.com "
        b"eow@openssh.com keepalive@openssh.com".split()
    ),
    frozenset(b"exit-status exit-signal xon-xoff eow@openssh.com keepalive@openssh.com".split()),
)
"""by sender"""

MAX_CHANNELS = 1024
MAX_PENDING = 4096
"""requests without a reply yet, of both sides and all channels"""
MAX_FORWARDS = 256
MAX_ADDRESS = 1024
"""bytes of an address or path to forward; a name in the DNS has 255, a path of a socket 107"""
MAX_REMEMBERED = 1024
"""channels that are closed, and for which a message may still be on its way"""


class ProtocolViolation(Exception):
    """One side sent what no honest one sends. ``side`` is CLIENT or SERVER."""

    def __init__(self, side: int, what: str) -> None:
        super().__init__(f"{'client' if side == CLIENT else 'user server'}: {what}")
        self.side = side


@dataclass
class _Request:
    """A request that waits for its reply; ``relayed`` is False where the reply is a refusal made here."""

    relayed: bool
    settle: Callable[[bool, bytes], None] | None = None
    """called with the outcome and the reply; where no reply is wanted, with a success and nothing"""


@dataclass
class _Channel:
    opener: int
    numbers: list[int | None]
    """by side: each side's own number for it"""
    pending: tuple[deque[_Request], deque[_Request]] = field(default_factory=lambda: (deque(), deque()))
    """by the side that asked"""
    closed: set[int] = field(default_factory=set)


class Policy:
    """The state of one relayed connection: ``take`` is given each message, and calls ``send(side, message)`` for what leaves."""

    def __init__(self, send: Callable[[int, bytes], None], socket_folders: tuple[str, ...] = ()) -> None:
        """``socket_folders``: the only ones whose Unix sockets may be forwarded; empty: any, as the user server says itself."""
        self._send = send
        self._socket_folders = socket_folders
        self._channels: tuple[dict[int, _Channel], dict[int, _Channel]] = ({}, {})  # by side, by its own number
        self._pending: tuple[deque[_Request], deque[_Request]] = (deque(), deque())  # global requests, by the side that asked
        self._gone: tuple[OrderedDict[int, None], OrderedDict[int, None]] = (OrderedDict(), OrderedDict())  # as _channels
        self._waiting = 0  # requests in all queues
        self._forwards: set[tuple[bytes, bytes, int]] = set()  # (request, address or path, port)
        self._forwards_asked = 0
        self._on_request: set[bytes] = set()  # channel requests of the client that succeeded

    def take(self, side: int, message: bytes) -> None:
        """One message that ``side`` sent. Raises ProtocolViolation."""
        kind = message[0]
        try:
            if p.CHANNEL_WINDOW_ADJUST <= kind <= p.CHANNEL_EOF:
                channel = self._channel(side, message)
                if channel is not None and side not in channel.closed:
                    self._send(OTHER[side], message)
            elif kind == p.CHANNEL_REQUEST:
                self._channel_request(side, message)
            elif kind in (p.CHANNEL_SUCCESS, p.CHANNEL_FAILURE):
                self._channel_reply(side, message)
            elif kind == p.CHANNEL_CLOSE:
                self._channel_close(side, message)
            elif kind == p.CHANNEL_OPEN:
                self._channel_open(side, message)
            elif kind in (p.CHANNEL_OPEN_CONFIRMATION, p.CHANNEL_OPEN_FAILURE):
                self._channel_open_reply(side, message)
            elif kind == p.GLOBAL_REQUEST:
                self._global_request(side, message)
            elif kind in (p.REQUEST_SUCCESS, p.REQUEST_FAILURE):
                self._global_reply(side, message)
            else:
                raise ProtocolViolation(side, f"message {kind}, which nobody defined")
        except p.Malformed as error:
            raise ProtocolViolation(side, f"malformed message {kind}: {error}") from None

    # global requests (RFC 4254, section 4)

    def _global_request(self, side: int, message: bytes) -> None:
        packet = p.reader(message)
        request = p.name(packet)
        want_reply = packet.get_boolean()
        settle = None
        allowed = request in GLOBAL_REQUESTS[side]
        if allowed and (request in FORWARDS or request in CANCELS):
            address = packet.get_string()
            port = packet.get_uint32() if request.endswith(b"tcpip-forward") else 0
            if len(address) > MAX_ADDRESS:
                raise p.Malformed("an address too long for any")
            if request in CANCELS:
                settle = self._cancelled((CANCELS[request], address, port))
            else:
                allowed = want_reply and len(self._forwards) + self._forwards_asked < MAX_FORWARDS
                allowed = allowed and (request == b"tcpip-forward" or self._is_shared(address))
                settle = self._forwarded(request, address, port) if allowed else None
        self._ask(side, self._pending[side], _Request(allowed, settle), want_reply, message, p.REQUEST_FAILED)

    def _forwarded(self, request: bytes, address: bytes, port: int) -> Callable[[bool, bytes], None]:
        self._forwards_asked += 1

        def settle(success: bool, reply: bytes) -> None:
            self._forwards_asked -= 1
            if success:
                self._forwards.add((request, address, _bound_port(port, reply)))

        return settle

    def _cancelled(self, forward: tuple[bytes, bytes, int]) -> Callable[[bool, bytes], None]:
        def settle(success: bool, _reply: bytes) -> None:
            if success:
                self._forwards.discard(forward)

        return settle

    def _global_reply(self, side: int, message: bytes) -> None:
        success = message[0] == p.REQUEST_SUCCESS
        self._answer(side, self._pending[OTHER[side]], success, message, p.REQUEST_FAILED)

    # channels (RFC 4254, section 5)

    def _channel(self, side: int, message: bytes) -> _Channel | None:
        """The channel that a message sent by ``side`` is for; None if both sides closed it meanwhile: then nobody needs it.

        sshd and ssh send requests (keepalive, window-change) on channels that they have closed and the other side has not.
        """
        number = p.recipient(message)
        channel = self._channels[OTHER[side]].get(number)
        if channel is not None and channel.numbers[side] is not None:
            return channel
        if channel is None and number in self._gone[OTHER[side]]:
            return None
        raise ProtocolViolation(side, f"message {message[0]} for a channel that is not open")

    def _channel_open(self, side: int, message: bytes) -> None:
        packet = p.reader(message)
        kind = p.name(packet)
        number = packet.get_uint32()
        if number in self._channels[side]:
            raise ProtocolViolation(side, "opened a channel under a number in use")
        packet.get_uint32(), packet.get_uint32()  # window, packet size: theirs, end to end
        if len(self._channels[side]) >= MAX_CHANNELS:
            return self._send(side, p.open_failure(number, p.OPEN_RESOURCE_SHORTAGE, "too many channels for the gateway"))
        if not (kind in CHANNELS_TO_SERVER if side == CLIENT else self._asked_for(kind, packet)):
            return self._send(side, p.open_failure(number, p.OPEN_ADMINISTRATIVELY_PROHIBITED, "refused by the gateway"))
        if kind == b"direct-streamlocal@openssh.com" and self._socket_folders and not self._is_shared(packet.get_string()):
            sentence = f"on this server Unix sockets can be reached under {' and '.join(self._socket_folders)} only"
            return self._send(side, p.open_failure(number, p.OPEN_ADMINISTRATIVELY_PROHIBITED, sentence))
        numbers: list[int | None] = [None, None]
        numbers[side] = number
        self._channels[side][number] = _Channel(side, numbers)
        self._gone[side].pop(number, None)
        return self._send(OTHER[side], message)

    def _is_shared(self, path: bytes) -> bool:
        """Is a Unix socket where the user server's sshd can open it?"""
        place = posixpath.normpath(path.decode("utf-8", "surrogateescape"))
        folders = [posixpath.normpath(folder) for folder in self._socket_folders]
        return not folders or any(place == folder or place.startswith(folder.rstrip("/") + "/") for folder in folders)

    def _asked_for(self, kind: bytes, packet: SSHPacket) -> bool:
        """May the user server open this channel: did the client ask for it?"""
        if kind in ON_REQUEST:
            return ON_REQUEST[kind] in self._on_request
        if kind in FORWARDED:
            address = packet.get_string()
            port = packet.get_uint32() if kind == b"forwarded-tcpip" else 0
            return (FORWARDED[kind], address, port) in self._forwards
        return False

    def _channel_open_reply(self, side: int, message: bytes) -> None:
        opener = OTHER[side]
        number = p.recipient(message)
        channel = self._channels[opener].get(number)
        if channel is None or channel.opener != opener or channel.numbers[side] is not None:
            raise ProtocolViolation(side, "answered a channel that nobody is opening")
        if message[0] == p.CHANNEL_OPEN_CONFIRMATION:
            packet = p.reader(message)
            packet.get_uint32()
            own_number = packet.get_uint32()
            if own_number in self._channels[side]:
                raise ProtocolViolation(side, "confirmed a channel under a number in use")
            channel.numbers[side] = own_number
            self._channels[side][own_number] = channel
            self._gone[side].pop(own_number, None)
        else:
            del self._channels[opener][number]
        self._send(opener, message)

    def _channel_close(self, side: int, message: bytes) -> None:
        channel = self._channel(side, message)
        if channel is None or side in channel.closed:
            raise ProtocolViolation(side, "closed a channel twice")
        channel.closed.add(side)
        if len(channel.closed) == 2:
            self._remove(channel)
        self._send(OTHER[side], message)

    def _remove(self, channel: _Channel) -> None:
        self._waiting -= sum(map(len, channel.pending))
        for side in (CLIENT, SERVER):
            number = channel.numbers[side]
            assert number is not None, "only open channels are closed"
            del self._channels[side][number]
            self._gone[side][number] = None
            if len(self._gone[side]) > MAX_REMEMBERED:
                self._gone[side].popitem(last=False)

    # channel requests (RFC 4254, section 5.4)

    def _channel_request(self, side: int, message: bytes) -> None:
        channel = self._channel(side, message)
        if channel is None:
            return
        packet = p.reader(message)
        packet.get_uint32()
        request = p.name(packet)
        want_reply = packet.get_boolean()
        allowed = request in CHANNEL_REQUESTS[side]
        settle = self._allowed_from_now(request) if request in ON_REQUEST.values() else None
        self._ask(side, channel.pending[side], _Request(allowed, settle), want_reply, message, self._failure(channel, side))

    def _allowed_from_now(self, request: bytes) -> Callable[[bool, bytes], None]:
        def settle(success: bool, _reply: bytes) -> None:
            if success:
                self._on_request.add(request)

        return settle

    def _channel_reply(self, side: int, message: bytes) -> None:
        channel = self._channel(side, message)
        if channel is None:
            return
        asker = OTHER[side]
        success = message[0] == p.CHANNEL_SUCCESS
        self._answer(side, channel.pending[asker], success, message, self._failure(channel, asker))

    @staticmethod
    def _failure(channel: _Channel, asker: int) -> bytes:
        number = channel.numbers[asker]
        assert number is not None, "requests are for open channels"
        return p.channel_failure(number)

    # requests and replies, in order

    def _ask(
        self, side: int, pending: deque[_Request], request: _Request, want_reply: bool, message: bytes, refusal: bytes
    ) -> None:
        if want_reply:
            if self._waiting >= MAX_PENDING:
                raise ProtocolViolation(side, "too many requests without a reply")
            self._waiting += 1
            pending.append(request)
        elif request.relayed and request.settle:
            request.settle(True, b"")  # no reply will come (OpenSSH asks for agent forwarding like this)
        if request.relayed:
            self._send(OTHER[side], message)
        self._refuse_due(side, pending, refusal)

    def _answer(self, side: int, pending: deque[_Request], success: bool, message: bytes, refusal: bytes) -> None:
        if not pending:
            raise ProtocolViolation(side, "answered what was not asked")
        self._waiting -= 1
        request = pending.popleft()
        if request.settle:
            request.settle(success, message)
        self._send(OTHER[side], message)
        self._refuse_due(OTHER[side], pending, refusal)

    def _refuse_due(self, side: int, pending: deque[_Request], refusal: bytes) -> None:
        """Sends the refusals that no earlier reply is waited for any more."""
        while pending and not pending[0].relayed:
            self._waiting -= 1
            pending.popleft()
            self._send(side, refusal)


def _bound_port(asked: int, reply: bytes) -> int:
    """The port of a granted tcpip-forward: where 0 was asked for, the reply tells it (RFC 4254, section 7.1)."""
    if asked:
        return asked
    packet = p.reader(reply)
    return packet.get_uint32() if packet else 0
