"""What is written to the terminal: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from ..identifiers import printable


def say(text: str = "") -> None:
    """A line of the result. Raises OSError."""
    flush(text + "\n")


def flush(last: str = "") -> None:
    """Raises OSError, once: what can't be written is not tried again at exit."""
    try:
        sys.stdout.write(last)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        error.filename = "standard output"
        raise


def note(text: str = "") -> None:
    """A line for the person in front of it."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    say(json.dumps(value, indent=2))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be; what others chose loses its control characters."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(header), *shown]) for column in range(len(header))]
    for row in [header, *shown]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def colored(text: str, color: str) -> str:
    """``text`` in green, red, yellow or grey, where stdout is a terminal that wants it (https://no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{ {'green': 32, 'red': 31, 'yellow': 33, 'grey': 90}[color] }m{text}\033[0m"


class Progress:
    """What is being waited for: one line that changes where stderr is a terminal, else a line for each change."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._began = time.monotonic()
        self._last = ""

    def show(self, text: str) -> None:
        import shutil  # here: `jhssh proxy` shows nothing, and must begin soon

        # A line that is longer than the terminal could not be taken back.
        text = printable(text, max(20, shutil.get_terminal_size().columns - 12))
        if self._live:
            sys.stderr.write(f"\r\033[K{text} ({time.monotonic() - self._began:.0f} s)")
            sys.stderr.flush()
        elif text != self._last:
            note(text)
        self._last = text

    def clear(self) -> None:
        if self._live and self._last:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
