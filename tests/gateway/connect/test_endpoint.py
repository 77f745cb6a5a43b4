"""asyncssh's internals that the relay relies on, and the bounds that we add: a new asyncssh that moves them fails here."""

from __future__ import annotations

import inspect
import zlib

import asyncssh
import pytest
from asyncssh.compression import get_decompressor
from asyncssh.connection import SSHConnection

from jhssh_ext.gateway.connect.endpoint import MAX_INFLATED, _AnyChannel, _BoundedDecompressor


@pytest.mark.parametrize(
    "name",
    [
        "_cleanup",
        "_force_close",
        "_send_deferred_packets",
        "_send_disconnect",
        "pause_writing",
        "process_packet",
        "resume_writing",
    ],
)
def test_the_methods_that_we_override_or_call_exist(name: str) -> None:
    assert callable(getattr(SSHConnection, name))


@pytest.mark.parametrize("name", ["_channels", "_kex_complete", "_transport", "_decompressor", "_auth_complete", "_session_id"])
def test_the_attributes_that_we_touch_are_set_by_asyncssh(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(SSHConnection.__init__)


def test_asyncssh_asks_its_table_of_channels_for_a_handler() -> None:
    source = inspect.getsource(SSHConnection._recv_packet)
    assert "handler = self._channels[recv_chan]" in source
    assert "handler.process_packet(pkttype, seq, packet)" in source
    assert "self._decompressor.decompress(orig_payload)" in source


def test_deferred_messages_are_sent_by_the_method_that_we_override() -> None:
    assert "self._deferred_packets.append" in inspect.getsource(SSHConnection.send_packet)
    assert "self._send_deferred_packets()" in inspect.getsource(SSHConnection)


def test_success_is_sent_by_the_method_that_we_override() -> None:
    assert inspect.iscoroutinefunction(SSHConnection.send_userauth_success)
    assert inspect.iscoroutinefunction(asyncssh.SSHServerConnection.validate_public_key)
    assert inspect.iscoroutinefunction(asyncssh.SSHServerConnection.validate_password)
    assert inspect.iscoroutinefunction(asyncssh.SSHServerConnection.change_password)


def test_the_table_of_channels_knows_every_number_and_lists_none() -> None:
    table = _AnyChannel(lambda _packet: True)
    assert table[0] is table[2**32 - 1]
    assert list(table.values()) == []


def test_an_honest_compressed_packet_is_inflated() -> None:
    bounded = _BoundedDecompressor(get_decompressor(b"zlib@openssh.com"))
    deflate = zlib.compressobj()
    for data in (b"x" * 32768, b"y" * 100):
        assert bounded.decompress(deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)) == data


def test_a_packet_that_inflates_without_measure_is_refused() -> None:
    bounded = _BoundedDecompressor(get_decompressor(b"zlib@openssh.com"))
    deflate = zlib.compressobj()
    bomb = deflate.compress(bytes(MAX_INFLATED * 64)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 256 * 1024
    assert bounded.decompress(bomb) is None
