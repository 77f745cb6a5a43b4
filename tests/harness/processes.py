"""Free ports, waiting with a deadline, and finding every process that a test caused, orphans included.

Processes are found by a mark in their environment, which children inherit even when they become daemons.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

MARK = "JHTEST_MARK"
"""environment variable; must not begin with JHSSH_, which sessions never get"""
RUN = os.environ.setdefault("JHTEST_RUN", secrets.token_hex(8))
"""what all marks of a run begin with, those of its workers (pytest-xdist) too"""

# Below those that Linux gives away by itself (ip(7), ip_local_port_range); a range for each of two workers (pytest-xdist).
_FIRST_PORT = 10_000 + 10_000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2)
_ports = itertools.cycle(range(_FIRST_PORT, _FIRST_PORT + 10_000))
next(itertools.islice(_ports, secrets.randbelow(10_000), None))  # two runs on a machine

T = TypeVar("T")


def new_mark() -> str:
    return f"{RUN}-{secrets.token_hex(8)}"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago, and that nobody gets who leaves the choice to the kernel."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def listening(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def wait_until(predicate: Callable[[], T], timeout: float = 30.0, *, what: str = "", interval: float = 0.05) -> T:
    """The first true value of ``predicate``; raises AssertionError, naming ``what``, when ``timeout`` seconds pass first."""
    deadline = time.monotonic() + timeout
    while True:
        found = predicate()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what or getattr(predicate, '__name__', 'it')}; last: {found!r}")
        time.sleep(interval)


def marked(mark: str) -> list[psutil.Process]:
    """All living processes (no zombies) whose mark begins so, whoever their parent is; ``RUN``: those of the whole run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(mark) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def arguments(process: psutil.Process) -> list[str]:
    """Its command line; empty if it has ended, which it may do between any two looks."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def sleeping(mark: str) -> set[str]:
    """What sleep(1) was asked to sleep, in each process with ``mark``."""
    return {given[1] for given in map(arguments, marked(mark)) if given[:1] == ["sleep"] and len(given) > 1}


def descendants(pid: int) -> list[psutil.Process]:
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def describe(processes: Iterable[psutil.Process]) -> str:
    lines = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            lines.append(f"{process.pid} (parent {process.ppid()}): {' '.join(process.cmdline())[:200]}")
    return "\n".join(lines)


def end(processes: Iterable[psutil.Process], grace: float = 5.0) -> None:
    """SIGTERM, then SIGKILL after ``grace`` seconds: each by its pid, and only if it is still the same process."""
    alive = list(processes)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(alive, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=grace)


def end_marked(mark: str, grace: float = 5.0) -> None:
    """Ends all that carry ``mark``, and what they started meanwhile."""
    for _ in range(5):
        found = marked(mark)
        if not found:
            return
        end(found, grace)


def stop_child(child: subprocess.Popen[bytes], sig: signal.Signals = signal.SIGTERM, timeout: float = 20.0) -> int:
    """Signals our own child, waits, kills it if it must be; gives its exit status."""
    if child.poll() is None:
        child.send_signal(sig)
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(timeout)
    return int(child.returncode)


def memory(pid: int) -> int:
    """Resident bytes of one process."""
    return int(psutil.Process(pid).memory_info().rss)


def tail(path: Path, lines: int = 60) -> str:
    if not path.exists():
        return f"({path.name}: none)"
    return f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def nothing_left(mark: str, timeout: float = 30.0) -> Iterator[None]:
    """Asserts that the processes with ``mark`` are, ``timeout`` seconds after the block at the latest, those from before it."""
    before = {p.pid for p in marked(mark)}
    yield

    def new() -> list[psutil.Process]:
        return [p for p in marked(mark) if p.pid not in before]

    try:
        wait_until(lambda: not new(), timeout)
    except AssertionError:
        raise AssertionError("left over:\n" + describe(new())) from None
