"""Waiting for what the test can only see from outside: polled, with a deadline, and a sentence for when it passes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..harness.processes import wait_until

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout: float = 60.0) -> T:
    """The first true value of ``condition``; AssertionError naming ``what`` after ``timeout`` seconds."""
    return wait_until(condition, timeout, what=what, interval=0.02)


def processes(*argv: str) -> set[int]:
    """Ids of the running processes with exactly these arguments (proc(5), cmdline)."""
    wanted = "\0".join(argv).encode() + b"\0"
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes() == wanted:
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def end(*argv: str) -> None:
    """End the processes with exactly these arguments, wherever they were started."""
    for pid in processes(*argv):
        os.kill(pid, signal.SIGKILL)
