"""The forced command of the sidecar's sshd: has the session agent start a session in the notebook container, and stands for it.

Run as ``python3 -IS enter.py AGENT_SOCKET TMP X11_FOLDER``: standard library only. TMP is what our /tmp is called over there.
The agent is the user's, so hostile: what it sends is bounded, and nothing that it names is opened or run.
"""
# A message is a kind (one byte) and a number (four); the kinds r and e have a text of that many bytes.
#   to the agent:  r request (JSON)   g go (without a terminal our three streams go with it)   k signal of that number
#   from it:       m ready, here is the terminal (its master goes with it)   b ready, without one
#                  x exit status   s death by that signal   e error sentence
# It runs once per session, and pathlib would cost it a third of its start.

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import os
import re
import resource
import select
import signal
import socket
import stat
import struct
import sys
import termios
import time
import tty
from typing import NoReturn

MESSAGE = struct.Struct(">cI")
OF_THE_SSH_SESSION = re.compile(r"TERM|SSH_CLIENT|SSH_CONNECTION|SSH_AUTH_SOCK|DISPLAY|LANG|LC_.*|COLORTERM|TERM_PROGRAM.*")
AUTH_SOCKET = re.compile(r"/tmp/(ssh-[A-Za-z0-9]+/agent\.[0-9]+)")  # noqa: S108 - sshd makes it there
DISPLAY = re.compile(r"[A-Za-z0-9.:\[\]-]*:([0-9]+)(\.[0-9]+)?")
COOKIE = re.compile(r"([A-Za-z0-9-]{1,64}) ((?:[0-9a-fA-F]{2}){1,256})\n?")
FROM_THE_CLIENT = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
NO_DEATH = {
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGURG,
    signal.SIGWINCH,
}
"""signals that end no process by themselves (signal(7)); some would stop us for ever"""
CONNECT_TIMEOUT = 10.0
"""seconds in which an agent that is just starting may come"""
ANSWER_TIMEOUT = 30.0
"""longer than the agent waits for the Jupyter server"""
SENTENCE_LIMIT = 1024
BUFFER = 1 << 16
DRAIN = 1000
"""milliseconds in which the terminal may still bring something after the session ended"""
FAILED = 255
"""as ssh(1) ends if an error occurred"""


class Broken(Exception):
    """Why the session can't be, or ended: a sentence for the user."""


NOT_THERE = (
    "The session agent in your server's container does not answer. Restart your server; if that does not help, ask your admin."
)
ENDED = "The session ended because your server's container, or the session agent in it, was stopped."
NONSENSE = "The session agent in your server's container gave an answer that makes no sense. Restart your server."


def environment() -> dict[str, str]:
    """As sshd gave it to us: Python may have added LC_CTYPE to os.environ (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().decode("utf-8", "surrogateescape").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def session_environment(given: dict[str, str], tmp: str) -> dict[str, str]:
    """What the session gets of what sshd set; paths as the notebook container knows them."""
    kept = {name: value for name, value in given.items() if OF_THE_SSH_SESSION.fullmatch(name)}
    if "SSH_AUTH_SOCK" in kept:
        matched = AUTH_SOCKET.fullmatch(kept.pop("SSH_AUTH_SOCK"))
        if matched:
            kept["SSH_AUTH_SOCK"] = f"{tmp}/{matched[1]}"
    return kept


def x11_cookie(given: dict[str, str], folder: str) -> list[str]:
    """Display number, protocol and cookie that our xauth got from sshd; empty without X11 forwarding."""
    matched = DISPLAY.fullmatch(given.get("DISPLAY", ""))
    if matched is None:
        return []
    path = f"{folder}/{matched[1]}"
    try:
        with open(path, encoding="ascii") as file:
            cookie = COOKIE.fullmatch(file.read(1024))
        os.unlink(path)
    except (OSError, ValueError):
        return []
    return [matched[1], cookie[1], cookie[2]] if cookie else []


def connect(path: str) -> socket.socket:
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(CONNECT_TIMEOUT)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise Broken(NOT_THERE) from None
            time.sleep(0.1)
            continue
        uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (os.getuid(), 0):  # 0: a notebook container that starts as root
            raise Broken("Another user has taken the session agent's place. Restart your server.")
        return connection


def send(connection: socket.socket, kind: bytes, number: int = 0, text: bytes = b"", descriptors: tuple[int, ...] = ()) -> None:
    """Descriptors go with the first byte. If the agent is gone, what it still said, or its end, is received next."""
    data = MESSAGE.pack(kind, number) + text
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    with contextlib.suppress(OSError):
        sent = connection.sendmsg([data], rights)
        if sent < len(data):
            connection.sendall(data[sent:])


def receive(connection: socket.socket, expected: bytes, descriptors: list[int] | None = None) -> tuple[bytes, int]:
    """One of the ``expected`` kinds. Raises Broken on anything else, and with the agent's own sentence."""
    head = _receive_exactly(connection, MESSAGE.size, descriptors)
    kind, number = MESSAGE.unpack(head)
    if kind == b"e" and number <= SENTENCE_LIMIT:
        text = _receive_exactly(connection, number, None).decode("utf-8", "replace")
        raise Broken("".join(character for character in text if character.isprintable()))
    if kind not in (expected[each : each + 1] for each in range(len(expected))):
        raise Broken(NONSENSE)
    return kind, number


def _receive_exactly(connection: socket.socket, length: int, descriptors: list[int] | None) -> bytes:
    data = b""
    while len(data) < length:
        try:
            part, ancillary, _, _ = connection.recvmsg(length - len(data), socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            raise Broken(NOT_THERE) from None
        except OSError:
            raise Broken(ENDED) from None
        for level, what, content in ancillary:
            if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i", content[: len(content) // 4 * 4])
                if descriptors is None or len(found) + len(descriptors) > 1:
                    raise Broken(NONSENSE)
                descriptors.extend(found)
        if not part:
            raise Broken(ENDED)
        data += part
    return data


def terminal_from(connection: socket.socket) -> int:
    """The master of the terminal that the agent opened."""
    descriptors: list[int] = []
    receive(connection, b"m", descriptors)
    if len(descriptors) != 1:
        raise Broken(NONSENSE)
    status = os.fstat(descriptors[0])
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(5, 2):  # devices.txt of Linux: /dev/ptmx
        raise Broken(NONSENSE)
    return descriptors[0]


def copy_size(master: int) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))


def wake_at(signals: tuple[signal.Signals, ...]) -> int:
    """A descriptor that brings the numbers of these signals when they come."""
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in signals:
        signal.signal(number, lambda *_: None)
    return readable


def relay_terminal(connection: socket.socket, master: int) -> tuple[bytes, int]:
    """Between sshd's terminal, which is our streams, and the one over there, until the session ends: how it did."""
    wakes = wake_at((signal.SIGWINCH,))
    termios.tcsetattr(master, termios.TCSANOW, termios.tcgetattr(0))
    copy_size(master)
    tty.setraw(0, termios.TCSANOW)
    os.set_blocking(0, False)
    os.set_blocking(master, False)
    send(connection, b"g")
    keyboard, screen = bytearray(), bytearray()
    is_open = True
    ending: tuple[bytes, int] | None = None
    while ending is None or is_open or screen:
        poll = select.poll()
        poll.register(0, (len(keyboard) < BUFFER and select.POLLIN) | (bool(screen) and select.POLLOUT))
        wanted = (len(screen) < BUFFER and select.POLLIN) | (bool(keyboard) and select.POLLOUT)
        if is_open and wanted:
            poll.register(master, wanted)
        if ending is None:
            poll.register(connection, select.POLLIN)
        poll.register(wakes, select.POLLIN)
        events = dict(poll.poll(None if ending is None else DRAIN))
        if ending is not None and not events and not screen:
            break  # somebody over there holds the terminal open
        if wakes in events:
            os.read(wakes, 64)
            copy_size(master)
        if events.get(0, 0) & (select.POLLHUP | select.POLLERR):
            raise SystemExit(FAILED)  # the client is gone
        if events.get(0, 0) & select.POLLIN:
            keyboard += _read(0)
        if events.get(master, 0) & (select.POLLIN | select.POLLHUP):
            data = _read(master)
            is_open = bool(data)
            screen += data
        if keyboard and is_open:
            _write(master, keyboard)
        if not is_open:
            keyboard.clear()
        if screen:
            _write(0, screen)
        if connection.fileno() in events:
            ending = receive(connection, b"xs")
    return ending


def _read(descriptor: int) -> bytes:
    """Empty at the end, which a terminal tells as EIO."""
    try:
        return os.read(descriptor, BUFFER)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def _write(descriptor: int, data: bytearray) -> None:
    """As much as it takes now."""
    with contextlib.suppress(BlockingIOError):
        del data[: os.write(descriptor, data)]


def lend_streams(connection: socket.socket) -> tuple[bytes, int]:
    """Gives our streams away until the session ends; the client's end shows at the one that we keep for a last sentence."""
    receive(connection, b"b")
    send(connection, b"g", descriptors=(0, 1, 2))  # not before: sshd would wait for whoever never takes them
    wakes = wake_at(FROM_THE_CLIENT)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1):  # else the command's closing them would not be seen by sshd
        os.dup2(nothing, descriptor)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(wakes, select.POLLIN)
    poll.register(2, 0)
    while True:
        events = dict(poll.poll())
        if connection.fileno() in events:
            return receive(connection, b"xs")
        if wakes in events:
            for number in os.read(wakes, 64):
                send(connection, b"k", number)
        if 2 in events:
            raise SystemExit(FAILED)  # the agent sees our end, and hangs up


def end_as(kind: bytes, number: int) -> NoReturn:
    """As the session did: sshd tells the client, by what became of us."""
    if kind == b"s" and number in signal.valid_signals() - NO_DEATH:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(number & 0xFF if kind == b"x" else FAILED)


def main(agent_socket: str, tmp: str, x11_folder: str) -> None:
    given = environment()
    terminal = os.isatty(0)
    request = {
        "command": given.get("SSH_ORIGINAL_COMMAND"),
        "terminal": terminal,
        "environment": session_environment(given, tmp),
        "x11": x11_cookie(given, x11_folder),
    }
    text = json.dumps(request).encode("ascii")
    try:
        connection = connect(agent_socket)
        send(connection, b"r", len(text), text)
        connection.settimeout(ANSWER_TIMEOUT)
        ending = relay_terminal(connection, terminal_from(connection)) if terminal else lend_streams(connection)
    except Broken as error:
        with contextlib.suppress(OSError):
            os.write(2, f"jhssh: {error}\r\n".encode())
        raise SystemExit(FAILED) from None
    end_as(*ending)


if __name__ == "__main__":
    main(*sys.argv[1:])
