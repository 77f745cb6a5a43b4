from __future__ import annotations

import os
import struct
import termios
from collections.abc import Iterator
from fcntl import ioctl

import pytest

from jhssh_ext.singleuser.embedded_terminal import open_terminal, set_modes, set_size


@pytest.fixture
def slave() -> Iterator[int]:
    master, opened, path = open_terminal((80, 24, 0, 0), {})
    assert os.ttyname(opened) == path
    yield opened
    os.close(master)
    os.close(opened)


def size(descriptor: int) -> tuple[int, ...]:
    return struct.unpack("HHHH", ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))


def test_size(slave: int) -> None:
    assert size(slave) == (24, 80, 0, 0)
    set_size(slave, 132, 50, 1320, 1000)
    assert size(slave) == (50, 132, 1320, 1000)


def test_absurd_size_is_cut(slave: int) -> None:
    set_size(slave, 2**32 - 1, 2**31, 0, 0)
    assert size(slave) == (0xFFFF, 0xFFFF, 0, 0)


def test_flags_are_set_and_cleared(slave: int) -> None:
    set_modes(slave, {53: 0, 50: 0, 70: 0, 42: 1, 38: 1})  # ECHO, ISIG, OPOST, IUTF8, IXON
    modes = termios.tcgetattr(slave)
    assert not modes[3] & (termios.ECHO | termios.ISIG)
    assert not modes[1] & termios.OPOST
    assert modes[0] & 0o40000
    assert modes[0] & termios.IXON
    set_modes(slave, {53: 1})
    assert termios.tcgetattr(slave)[3] & termios.ECHO


def test_control_characters_and_speed(slave: int) -> None:
    set_modes(slave, {1: 0x07, 3: 0x08, 10: 255, 128: 9600, 129: 9600})  # VINTR, VERASE, VSUSP, speeds
    modes = termios.tcgetattr(slave)
    assert modes[6][termios.VINTR] == b"\x07"
    assert modes[6][termios.VERASE] == b"\x08"
    assert modes[6][termios.VSUSP] == b"\x00"
    assert modes[5] == termios.B9600


def test_unknown_modes_and_values_change_nothing(slave: int) -> None:
    before = termios.tcgetattr(slave)
    set_modes(slave, {11: 5, 99: 1, 159: 2**32 - 1, 128: 12345})
    after = termios.tcgetattr(slave)
    assert after[:4] + after[6:] == before[:4] + before[6:]
