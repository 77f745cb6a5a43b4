"""A tunnel between standard input and output and a WebSocket: what ``ssh`` runs as its ProxyCommand.

It knows an address and headers, nothing of hubs and tokens. Threads and blocking calls, so that it works where pipes cannot be
polled (Windows); each side is read only as fast as the other takes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import ssl
import sys
import threading
import time
from collections.abc import Mapping

from ..identifiers import printable
from .failures import Failure, Unreachable
from .websocket_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frames
from .websocket_handshake import connect

READ_SIZE = 64 << 10
PING_INTERVAL = 30.0
MISSED_PINGS = 2
"""pings in a row, the other end silent all the while, after which it is taken for gone"""
LINGER = 10.0
"""seconds for which an answer may fail to come after standard input has ended"""
CLOSE_TIMEOUT = 5.0
"""seconds that the other end has to answer Close"""
NORMAL, TRY_AGAIN_LATER = 1000, 1013
CLEAN = (None, NORMAL, 1001, 1005)
"""codes of a Close (RFC 6455, section 7.4.1) after which there is nothing to say"""


def run(
    url: str, *, headers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None, ping_interval: float = PING_INTERVAL
) -> None:
    """Until either side has ended. ``url``: ws or wss, the latter with ``tls`` or the system's CAs. Raises Failure."""
    Tunnel(connect(url, headers or {}, tls), ping_interval).run()


class Tunnel:
    """One run of the command: a thread reads standard input, one pings, one notices silence, this one writes standard output."""

    def __init__(self, frames: Frames, ping_interval: float) -> None:
        self._frames, self._ping_interval = frames, ping_interval
        self._over = threading.Event()
        self._closing = False
        self._failure: Failure | None = None
        self._heard = time.monotonic()
        self._writing = False
        self._to_answer: bytes | None = None
        """what the last unanswered ping said"""
        self._wake = threading.Condition()

    def run(self) -> None:
        """Raises Failure."""
        for part in (self._send_input, self._keep_alive, self._watch):
            threading.Thread(target=part, daemon=True).start()
        try:
            self._receive()
        finally:
            self._over.set()
            with contextlib.suppress(OSError):
                self._frames.close()
        if self._failure is not None:
            raise self._failure

    def _receive(self) -> None:
        """What the other end says, until it ends."""
        while True:
            try:
                frame = self._frames.receive()
            except (OSError, ValueError) as error:
                if not self._closing:
                    self._failure = Unreachable(f"The connection to the hub was lost: {printable(str(error), 200)}", code="LOST")
                return
            self._heard = time.monotonic()
            if frame.opcode in (BINARY, CONTINUATION):
                if not frame.data and frame.opcode == BINARY and frame.final:
                    self._close()  # it has no more to say, which some proxies do not tell by a Close
                elif not self._write(frame.data):
                    self._close()
                    return
            elif frame.opcode == PING:
                with self._wake:
                    self._to_answer = frame.data
                    self._wake.notify()
            elif frame.opcode == CLOSE:
                self._failure = _reason(frame.data)
                self._close(frame.data[:2])
                return
            elif frame.opcode == TEXT:
                self._failure = Failure("What answered is no tunnel: it sent text.", code="NO_TUNNEL")
                self._close()
                return

    def _write(self, data: bytes) -> bool:
        """False: nobody reads standard output any more."""
        view = memoryview(data)
        self._writing = True
        try:
            while view:
                view = view[os.write(1, view) :]
        except OSError:
            return False
        self._writing, self._heard = False, time.monotonic()
        return True

    def _send_input(self) -> None:
        """Standard input, to its end; what is answered to that still has some time to come."""
        while True:
            try:
                data = os.read(0, READ_SIZE)
            except OSError:
                data = b""
            if not data:
                break
            if not self._send(BINARY, data):
                return
        while time.monotonic() < self._heard + LINGER and not self._over.is_set() and not _output_closed(0.1):
            pass
        if not self._over.is_set():
            self._close()

    def _keep_alive(self) -> None:
        """Pings, and answers those of the other end: not in the thread that reads, which must never wait for what is sent."""
        due = time.monotonic() + self._ping_interval
        while not self._over.is_set():
            with self._wake:
                self._wake.wait_for(lambda: self._to_answer is not None, max(0.0, due - time.monotonic()))
                answer, self._to_answer = self._to_answer, None
            if answer is not None:
                self._send(PONG, answer)
            if time.monotonic() >= due:
                due = time.monotonic() + self._ping_interval
                self._send(PING, b"")

    def _watch(self) -> None:
        """Ends what is silent: not in a thread that sends, which waits while a network that went away takes nothing."""
        missed, heard = 0, self._heard
        while not self._over.wait(self._ping_interval) and not self._closing:
            # Who cannot write what came does not read on: that is not the other end's silence.
            missed = 0 if self._writing or self._heard != heard else missed + 1
            heard = self._heard
            if missed >= MISSED_PINGS:
                self._failure = Unreachable("The connection to the hub was lost: nothing comes any more.", code="LOST")
                self._closing = True
                self._break()

    def _send(self, opcode: int, data: bytes) -> bool:
        """False: it is too late. The thread that reads learns why."""
        try:
            self._frames.send(opcode, data)
        except (OSError, ValueError):
            return False
        return True

    def _close(self, code: bytes = NORMAL.to_bytes(2, "big")) -> None:
        """Says that there is no more from here; that, and the answer to it, have a bounded time."""
        self._closing = True
        timer = threading.Timer(CLOSE_TIMEOUT, self._break)
        timer.daemon = True
        timer.start()
        self._send(CLOSE, code)

    def _break(self) -> None:
        """Ends the wait of the thread that reads."""
        with contextlib.suppress(OSError):
            self._frames.break_off()


def _reason(close: bytes) -> Failure | None:
    """What a Close that the other end began says (RFC 6455, section 5.5.1)."""
    code = int.from_bytes(close[:2], "big") if len(close) >= 2 else None
    if code in CLEAN:
        return None
    said = printable(close[2:].decode("utf-8", "replace"), 125)
    if code == TRY_AGAIN_LATER:
        return Unreachable(f"The other end took no connection: {said or 'it is busy'}. Try again later.", code="TRY_AGAIN_LATER")
    return Failure(f"The other end closed the tunnel ({code}{f': {said}' if said else ''}).", code="CLOSED")


def _output_closed(wait: float) -> bool:
    """Waits, and tells whether whoever read standard output is gone; where that can't be asked, no."""
    if not hasattr(select, "poll"):
        time.sleep(wait)
        return False
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(wait * 1000))


def main(argv: list[str]) -> int:
    """``python -m jhssh_ext.client.websocket_stdio URL [CA-FILE]``: the tunnel alone."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as in sftp's ssh
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        run(argv[0], tls=ssl.create_default_context(cafile=argv[1]) if len(argv) > 1 else None)
    except Failure as failure:
        sys.stderr.write(f"jhssh: {failure.sentence}\n")
        return failure.status
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
