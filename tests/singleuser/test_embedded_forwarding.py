from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from jhssh_ext.singleuser import embedded_forwarding as forwarding

NOT_OURS = (socket.AF_INET, ("192.0.2.1", 0))
"""an address that no machine has (RFC 5737)"""
LOOPBACK = (socket.AF_INET, ("127.0.0.1", 0))


def close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def test_addresses_that_this_machine_lacks_are_passed_over() -> None:
    for order in ([NOT_OURS, LOOPBACK], [LOOPBACK, NOT_OURS]):
        for all_or_none in (False, True):
            bound = forwarding._bind(order, 0, all_or_none=all_or_none)
            assert [each.getsockname()[0] for each in bound] == ["127.0.0.1"]
            close(bound)


def test_none_of_the_addresses_can_be_had() -> None:
    with pytest.raises(OSError, match="assign requested address") as caught:
        forwarding._bind([NOT_OURS], 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_taken_port_spoils_all_where_all_are_wanted() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        addresses = [LOOPBACK, (socket.AF_INET, ("127.0.0.2", 0))]
        with pytest.raises(OSError, match="in use"):
            forwarding._bind(addresses, port, all_or_none=True)
        bound = forwarding._bind(addresses, port)
        assert len(bound) == 1
        close(bound)


def test_port_out_of_range_is_an_oserror() -> None:
    with pytest.raises(OSError, match="0-65535"):
        forwarding._bind([LOOPBACK], 70000)


@pytest.mark.asyncio
async def test_names_mean_what_rfc_4254_says() -> None:
    everywhere = {address[0] for _, address in await forwarding._addresses("", 0)}
    assert "0.0.0.0" in everywhere
    assert everywhere == {address[0] for _, address in await forwarding._addresses("*", 0)}
    assert {address[0] for _, address in await forwarding._addresses("localhost", 0)} <= {"127.0.0.1", "::1"}


def test_unix_socket_is_for_its_owner_alone_and_replaces_a_socket_only(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for _ in range(2):
        bound = forwarding._bind_unix(str(path))
        assert path.stat().st_mode & 0o777 == 0o600
        bound.close()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="in use"):
        forwarding._bind_unix(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(OSError, match="too long"):
        forwarding._bind_unix(str(tmp_path / ("x" * 200)))
