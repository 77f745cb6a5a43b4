"""A pseudo-terminal for a session, with the modes and the size that the client asked for (RFC 4254, section 8)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Mapping

TTY_OP_ISPEED = 128
TTY_OP_OSPEED = 129
_VDISABLE_SENT = 255
"""what a client sends for a control character that is off"""

_CONTROL_CHARACTERS = {
    1: "VINTR", 2: "VQUIT", 3: "VERASE", 4: "VKILL", 5: "VEOF", 6: "VEOL", 7: "VEOL2", 8: "VSTART", 9: "VSTOP", 10: "VSUSP",
    11: "VDSUSP", 12: "VREPRINT", 13: "VWERASE", 14: "VLNEXT", 16: "VSWTCH", 17: "VSTATUS", 18: "VDISCARD",
}  # fmt: skip
_FLAGS: dict[int, tuple[int, str]] = {
    **{30 + n: (0, name) for n, name in enumerate(
        ("IGNPAR", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IUCLC", "IXON", "IXANY", "IXOFF", "IMAXBEL", "IUTF8")
    )},
    **{50 + n: (3, name) for n, name in enumerate(
        ("ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "IEXTEN", "ECHOCTL", "ECHOKE",
         "PENDIN")
    )},
    **{70 + n: (1, name) for n, name in enumerate(("OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET"))},
    **{90 + n: (2, name) for n, name in enumerate(("CS7", "CS8", "PARENB", "PARODD"))},
}  # fmt: skip
"""opcode → (index into tcgetattr's list, name of the flag)"""
_NOT_IN_PYTHON = {"IUTF8": 0o40000}
"""termios(3) on Linux"""


def set_size(descriptor: int, columns: int, rows: int, width: int, height: int) -> None:
    """Characters, then pixels; the kernel tells those in the foreground (SIGWINCH)."""
    size = struct.pack("HHHH", *(min(value, 0xFFFF) for value in (rows, columns, width, height)))
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)


def set_modes(descriptor: int, modes: Mapping[int, int]) -> None:
    """Those that this system knows; ttymodes.c of OpenSSH leaves the others out likewise."""
    settings = termios.tcgetattr(descriptor)
    for opcode, value in modes.items():
        if name := _CONTROL_CHARACTERS.get(opcode):
            index = getattr(termios, name, None)
            if index is not None:
                settings[6][index] = bytes([0 if value >= _VDISABLE_SENT else value])
        elif opcode in _FLAGS:
            field, name = _FLAGS[opcode]
            bits = getattr(termios, name, _NOT_IN_PYTHON.get(name, 0))
            settings[field] = settings[field] | bits if value else settings[field] & ~bits
        elif opcode in (TTY_OP_ISPEED, TTY_OP_OSPEED):
            settings[4 if opcode == TTY_OP_ISPEED else 5] = getattr(termios, f"B{value}", termios.B38400)
    with contextlib.suppress(termios.error):
        termios.tcsetattr(descriptor, termios.TCSANOW, settings)


def take_as_controlling_terminal() -> None:
    """In the child, after setsid(2): its standard input becomes its controlling terminal (tty_ioctl(4), TIOCSCTTY)."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def open_terminal(size: tuple[int, int, int, int], modes: Mapping[int, int]) -> tuple[int, int, str]:
    """Master, slave, and the slave's path. Raises OSError."""
    master, slave = os.openpty()
    set_modes(slave, modes)
    set_size(slave, *size)
    return master, slave, os.ttyname(slave)
