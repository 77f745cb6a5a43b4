"""The allow-list between client and user server: what passes, what is refused here, and in which order replies leave."""

from __future__ import annotations

import pytest
from asyncssh.packet import Boolean, Byte, String, UInt32

from jhssh_ext.gateway.relay import packets as p
from jhssh_ext.gateway.relay.policy import (
    CLIENT,
    MAX_ADDRESS,
    MAX_CHANNELS,
    MAX_FORWARDS,
    MAX_PENDING,
    MAX_REMEMBERED,
    SERVER,
    Policy,
    ProtocolViolation,
)


class Between:
    """A policy, and what it let out to each side."""

    def __init__(self, *socket_folders: str) -> None:
        self.out: list[tuple[int, bytes]] = []
        self.policy = Policy(lambda side, message: self.out.append((side, message)), socket_folders)

    def take(self, side: int, message: bytes) -> list[tuple[int, bytes]]:
        """What leaves because of this message."""
        self.out.clear()
        self.policy.take(side, message)
        return list(self.out)

    def session(self, client_number: int = 0, server_number: int = 0) -> None:
        """An open session channel."""
        self.take(CLIENT, open_channel(b"session", client_number))
        self.take(SERVER, confirm(client_number, server_number))


def open_channel(kind: bytes, sender: int, *fields: bytes) -> bytes:
    return Byte(p.CHANNEL_OPEN) + String(kind) + UInt32(sender) + UInt32(1 << 21) + UInt32(1 << 15) + b"".join(fields)


def confirm(recipient: int, sender: int) -> bytes:
    return Byte(p.CHANNEL_OPEN_CONFIRMATION) + UInt32(recipient) + UInt32(sender) + UInt32(1 << 21) + UInt32(1 << 15)


def refuse_open(recipient: int) -> bytes:
    return p.open_failure(recipient, 1, "no")


def request(recipient: int, kind: bytes, want_reply: bool, *fields: bytes) -> bytes:
    return Byte(p.CHANNEL_REQUEST) + UInt32(recipient) + String(kind) + Boolean(want_reply) + b"".join(fields)


def global_request(kind: bytes, want_reply: bool, *fields: bytes) -> bytes:
    return Byte(p.GLOBAL_REQUEST) + String(kind) + Boolean(want_reply) + b"".join(fields)


def on_channel(kind: int, recipient: int, *fields: bytes) -> bytes:
    return Byte(kind) + UInt32(recipient) + b"".join(fields)


SUCCESS = Byte(p.REQUEST_SUCCESS)


@pytest.fixture
def between() -> Between:
    return Between()


def is_open_refusal(out: list[tuple[int, bytes]], side: int, number: int) -> bool:
    return len(out) == 1 and out[0][0] == side and out[0][1][:5] == Byte(p.CHANNEL_OPEN_FAILURE) + UInt32(number)


@pytest.mark.parametrize("kind", [b"session", b"direct-tcpip", b"direct-streamlocal@openssh.com"])
def test_channels_a_client_may_open_pass_unchanged(between: Between, kind: bytes) -> None:
    message = open_channel(kind, 7)
    assert between.take(CLIENT, message) == [(SERVER, message)]


@pytest.mark.parametrize("kind", [b"tun@openssh.com", b"forwarded-tcpip", b"x11", b"auth-agent@openssh.com", b"\xff\x00"])
def test_other_channels_of_a_client_are_refused_here(between: Between, kind: bytes) -> None:
    assert is_open_refusal(between.take(CLIENT, open_channel(kind, 7)), CLIENT, 7)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (b"session", ()),
        (b"direct-tcpip", ()),
        (b"x11", ()),
        (b"auth-agent@openssh.com", ()),
        (b"forwarded-tcpip", (String("localhost"), UInt32(80), String("127.0.0.1"), UInt32(1))),
        (b"forwarded-streamlocal@openssh.com", (String("/tmp/s"), String(""))),
        (b"tun@openssh.com", ()),
    ],
)
def test_nothing_is_opened_to_a_client_that_did_not_ask(between: Between, kind: bytes, fields: tuple[bytes, ...]) -> None:
    between.session()
    assert is_open_refusal(between.take(SERVER, open_channel(kind, 3, *fields)), SERVER, 3)


def test_agent_channels_pass_after_a_request_without_reply(between: Between) -> None:
    between.session()
    between.take(CLIENT, request(0, b"auth-agent-req@openssh.com", False))
    message = open_channel(b"auth-agent@openssh.com", 3)
    assert between.take(SERVER, message) == [(CLIENT, message)]


def test_agent_channels_stay_refused_when_the_request_failed(between: Between) -> None:
    between.session()
    between.take(CLIENT, request(0, b"auth-agent-req@openssh.com", True))
    between.take(SERVER, on_channel(p.CHANNEL_FAILURE, 0))
    assert is_open_refusal(between.take(SERVER, open_channel(b"auth-agent@openssh.com", 3)), SERVER, 3)


def test_x11_channels_pass_only_after_the_request_succeeded(between: Between) -> None:
    between.session()
    between.take(CLIENT, request(0, b"x11-req", True, Boolean(False), String("c"), String("00"), UInt32(0)))
    message = open_channel(b"x11", 3, String("127.0.0.1"), UInt32(1))
    assert is_open_refusal(between.take(SERVER, message), SERVER, 3)
    between.take(SERVER, on_channel(p.CHANNEL_SUCCESS, 0))
    assert between.take(SERVER, message) == [(CLIENT, message)]


def forwarded(port: int, address: str = "localhost") -> bytes:
    return open_channel(b"forwarded-tcpip", 3, String(address), UInt32(port), String("127.0.0.1"), UInt32(40000))


def test_forwarded_connections_pass_for_the_very_forward_that_was_granted(between: Between) -> None:
    between.take(CLIENT, global_request(b"tcpip-forward", True, String("localhost"), UInt32(8080)))
    assert is_open_refusal(between.take(SERVER, forwarded(8080)), SERVER, 3)  # not granted yet
    between.take(SERVER, SUCCESS)
    assert is_open_refusal(between.take(SERVER, forwarded(8081)), SERVER, 3)
    assert is_open_refusal(between.take(SERVER, forwarded(8080, "0.0.0.0")), SERVER, 3)
    assert between.take(SERVER, forwarded(8080)) == [(CLIENT, forwarded(8080))]


def test_a_forward_of_port_0_is_known_by_the_port_that_was_given(between: Between) -> None:
    between.take(CLIENT, global_request(b"tcpip-forward", True, String(""), UInt32(0)))
    between.take(SERVER, SUCCESS + UInt32(45678))
    assert between.take(SERVER, forwarded(45678, "")) == [(CLIENT, forwarded(45678, ""))]


def test_a_cancelled_forward_is_over(between: Between) -> None:
    between.take(CLIENT, global_request(b"tcpip-forward", True, String("localhost"), UInt32(8080)))
    between.take(SERVER, SUCCESS)
    between.take(CLIENT, global_request(b"cancel-tcpip-forward", True, String("localhost"), UInt32(8080)))
    between.take(SERVER, SUCCESS)
    assert is_open_refusal(between.take(SERVER, forwarded(8080)), SERVER, 3)


def test_forwarded_sockets_pass_for_the_path_that_was_granted(between: Between) -> None:
    between.take(CLIENT, global_request(b"streamlocal-forward@openssh.com", True, String("/tmp/s")))
    between.take(SERVER, SUCCESS)
    message = open_channel(b"forwarded-streamlocal@openssh.com", 3, String("/tmp/s"), String(""))
    assert between.take(SERVER, message) == [(CLIENT, message)]
    other = open_channel(b"forwarded-streamlocal@openssh.com", 4, String("/tmp/t"), String(""))
    assert is_open_refusal(between.take(SERVER, other), SERVER, 4)


@pytest.mark.parametrize("kind", [b"hostkeys-00@openssh.com", b"tcpip-forward", b"unheard-of@example.org"])
def test_global_requests_of_a_user_server_stay_on_its_hop(between: Between, kind: bytes) -> None:
    assert between.take(SERVER, global_request(kind, False, String("key"))) == []
    assert between.take(SERVER, global_request(kind, True, String("key"))) == [(SERVER, p.REQUEST_FAILED)]


def test_unknown_global_requests_of_a_client_are_refused_here(between: Between) -> None:
    assert between.take(CLIENT, global_request(b"hostkeys-prove-00@openssh.com", True)) == [(CLIENT, p.REQUEST_FAILED)]


def test_a_refusal_made_here_waits_for_the_replies_before_it(between: Between) -> None:
    keepalive = global_request(b"keepalive@openssh.com", True)
    assert between.take(CLIENT, keepalive) == [(SERVER, keepalive)]
    assert between.take(CLIENT, global_request(b"unheard-of@example.org", True)) == []
    assert between.take(CLIENT, keepalive) == [(SERVER, keepalive)]
    assert between.take(SERVER, p.REQUEST_FAILED) == [(CLIENT, p.REQUEST_FAILED), (CLIENT, p.REQUEST_FAILED)]
    assert between.take(SERVER, SUCCESS) == [(CLIENT, SUCCESS)]


def test_a_refused_channel_request_waits_for_the_replies_before_it(between: Between) -> None:
    between.session(client_number=5, server_number=9)
    shell = request(9, b"shell", True)
    assert between.take(CLIENT, shell) == [(SERVER, shell)]
    assert between.take(CLIENT, request(9, b"unheard-of@example.org", True)) == []
    success = on_channel(p.CHANNEL_SUCCESS, 5)
    assert between.take(SERVER, success) == [(CLIENT, success), (CLIENT, on_channel(p.CHANNEL_FAILURE, 5))]


def test_keepalives_pass_both_ways(between: Between) -> None:
    between.session(5, 9)
    for side, other in ((CLIENT, SERVER), (SERVER, CLIENT)):
        message = global_request(b"keepalive@openssh.com", True)
        assert between.take(side, message) == [(other, message)]
        assert between.take(other, p.REQUEST_FAILED) == [(side, p.REQUEST_FAILED)]
    on_session = request(5, b"keepalive@openssh.com", True)
    assert between.take(SERVER, on_session) == [(CLIENT, on_session)]


@pytest.mark.parametrize("side", [CLIENT, SERVER])
@pytest.mark.parametrize(
    "message",
    [
        SUCCESS,
        p.REQUEST_FAILED,
        on_channel(p.CHANNEL_SUCCESS, 0),
        on_channel(p.CHANNEL_FAILURE, 0),
        confirm(0, 1),
        refuse_open(0),
        confirm(77, 1),
        on_channel(p.CHANNEL_DATA, 77, String("x")),
        on_channel(p.CHANNEL_CLOSE, 77),
        request(77, b"shell", True),
    ],
)
def test_an_answer_or_message_to_nothing_ends_the_connection(between: Between, side: int, message: bytes) -> None:
    between.session()
    with pytest.raises(ProtocolViolation) as ended:
        between.take(side, message)
    assert ended.value.side == side


@pytest.mark.parametrize(
    "message",
    [b"\x5a", b"\x50\x00\x00\x00\x05ab", b"\x5e\x00\x00", on_channel(p.CHANNEL_REQUEST, 0), Byte(83), open_channel(b"", 1)],
)
def test_a_malformed_or_unheard_of_message_ends_the_connection(between: Between, message: bytes) -> None:
    between.session()
    with pytest.raises(ProtocolViolation):
        between.take(CLIENT, message)


def test_data_passes_on_open_channels_only(between: Between) -> None:
    between.session(5, 9)
    to_server, to_client = on_channel(p.CHANNEL_DATA, 9, String("in")), on_channel(p.CHANNEL_DATA, 5, String("out"))
    assert between.take(CLIENT, to_server) == [(SERVER, to_server)]
    assert between.take(SERVER, to_client) == [(CLIENT, to_client)]
    between.take(CLIENT, on_channel(p.CHANNEL_CLOSE, 9))
    assert between.take(SERVER, to_client) == [(CLIENT, to_client)]  # the server has not closed its half
    assert between.take(CLIENT, to_server) == []
    with pytest.raises(ProtocolViolation):
        between.take(CLIENT, on_channel(p.CHANNEL_CLOSE, 9))


def test_sshds_keepalive_passes_on_a_channel_that_it_has_closed_and_the_client_not_yet(between: Between) -> None:
    between.session(5, 9)
    between.take(SERVER, on_channel(p.CHANNEL_CLOSE, 5))
    keepalive = request(5, b"keepalive@openssh.com", True)
    assert between.take(SERVER, keepalive) == [(CLIENT, keepalive)]
    reply = on_channel(p.CHANNEL_FAILURE, 9)
    assert between.take(CLIENT, reply) == [(SERVER, reply)]


def test_what_crosses_the_last_close_is_dropped(between: Between) -> None:
    between.session(5, 9)
    between.take(SERVER, on_channel(p.CHANNEL_CLOSE, 5))
    between.take(CLIENT, on_channel(p.CHANNEL_CLOSE, 9))
    for message in (request(5, b"keepalive@openssh.com", True), on_channel(p.CHANNEL_WINDOW_ADJUST, 5, UInt32(1))):
        assert between.take(SERVER, message) == []
    assert between.take(CLIENT, on_channel(p.CHANNEL_SUCCESS, 9)) == []


def test_numbers_of_closed_channels_are_not_remembered_without_bound(between: Between) -> None:
    for number in range(3 * MAX_REMEMBERED):
        between.session(number, number)
        between.take(CLIENT, on_channel(p.CHANNEL_CLOSE, number))
        between.take(SERVER, on_channel(p.CHANNEL_CLOSE, number))
    assert [len(gone) for gone in between.policy._gone] == [MAX_REMEMBERED, MAX_REMEMBERED]


def test_pending_requests_of_all_channels_are_bounded_together_and_end_with_their_channel(between: Between) -> None:
    for number in range(8):
        between.session(number, number)
        for _ in range(MAX_PENDING // 8):
            between.take(CLIENT, request(number, b"env", True, String("A"), String("b")))
    with pytest.raises(ProtocolViolation):
        between.take(CLIENT, global_request(b"keepalive@openssh.com", True))
    between.take(CLIENT, on_channel(p.CHANNEL_CLOSE, 0))
    between.take(SERVER, on_channel(p.CHANNEL_CLOSE, 0))
    assert between.take(CLIENT, global_request(b"keepalive@openssh.com", True))


def test_forwards_are_bounded_and_so_are_their_addresses(between: Between) -> None:
    for port in range(1, MAX_FORWARDS + 1):
        assert between.take(CLIENT, global_request(b"tcpip-forward", True, String("localhost"), UInt32(port)))[0][0] == SERVER
    assert between.take(CLIENT, global_request(b"tcpip-forward", True, String("localhost"), UInt32(9999))) == []
    out = [each for _ in range(MAX_FORWARDS) for each in between.take(SERVER, SUCCESS)]
    assert out[-1] == (CLIENT, p.REQUEST_FAILED)
    for kind in (b"tcpip-forward", b"cancel-tcpip-forward", b"streamlocal-forward@openssh.com"):
        with pytest.raises(ProtocolViolation):
            between.take(CLIENT, global_request(kind, True, String("a" * (MAX_ADDRESS + 1)), UInt32(1)))


def test_a_number_is_free_again_after_both_closed(between: Between) -> None:
    between.session(5, 9)
    with pytest.raises(ProtocolViolation):
        between.take(CLIENT, open_channel(b"session", 5))
    between.take(CLIENT, on_channel(p.CHANNEL_CLOSE, 9))
    between.take(SERVER, on_channel(p.CHANNEL_CLOSE, 5))
    message = open_channel(b"session", 5)
    assert between.take(CLIENT, message) == [(SERVER, message)]


def test_a_refused_open_frees_its_number(between: Between) -> None:
    between.take(CLIENT, open_channel(b"session", 5))
    assert between.take(SERVER, refuse_open(5)) == [(CLIENT, refuse_open(5))]
    message = open_channel(b"session", 5)
    assert between.take(CLIENT, message) == [(SERVER, message)]


def test_a_server_cannot_confirm_two_channels_under_one_number(between: Between) -> None:
    between.session(5, 9)
    between.take(CLIENT, open_channel(b"session", 6))
    with pytest.raises(ProtocolViolation):
        between.take(SERVER, confirm(6, 9))


def test_channels_and_requests_are_bounded(between: Between) -> None:
    for number in range(MAX_CHANNELS):
        between.take(CLIENT, open_channel(b"session", number))
    assert is_open_refusal(between.take(CLIENT, open_channel(b"session", MAX_CHANNELS)), CLIENT, MAX_CHANNELS)
    for _ in range(MAX_PENDING):
        between.take(CLIENT, global_request(b"keepalive@openssh.com", True))
    with pytest.raises(ProtocolViolation):
        between.take(CLIENT, global_request(b"keepalive@openssh.com", True))


SOCKET_PATHS = [
    ("/home/a/s", True),
    ("/home/a/b/../s", True),
    ("/run/user/s", True),
    ("/home/ab/s", False),
    ("/home/a/../s", False),
    ("/tmp/s", False),
    ("s", False),
    ("../home/a/s", False),
    ("", False),
]


@pytest.mark.parametrize(("path", "shared"), SOCKET_PATHS)
def test_where_sshd_sees_only_some_folders_other_sockets_are_refused_with_the_sentence(path: str, shared: bool) -> None:
    between = Between("/home/a", "/run/user/")
    message = open_channel(b"direct-streamlocal@openssh.com", 3, String(path), String(""), UInt32(0))
    out = between.take(CLIENT, message)
    if shared:
        assert out == [(SERVER, message)]
    else:
        assert is_open_refusal(out, CLIENT, 3)
        assert b"under /home/a and /run/user/ only" in out[0][1]
    forward = global_request(b"streamlocal-forward@openssh.com", True, String(path))
    assert between.take(CLIENT, forward) == ([(SERVER, forward)] if shared else [(CLIENT, p.REQUEST_FAILED)])


def test_tcp_forwards_have_nothing_to_do_with_folders() -> None:
    message = global_request(b"tcpip-forward", True, String("localhost"), UInt32(80))
    assert Between("/home/a").take(CLIENT, message) == [(SERVER, message)]
