"""``jhssh``: its commands and options, and what becomes of a failure. Each command is imported when it is run."""

from __future__ import annotations

import os
import sys

from .failures import FAILED, INTERRUPTED, USAGE, Failure
from .output import flush

TOOLS = ("ssh", "scp", "rsync", "sftp")


def main(argv: list[str] | None = None) -> int:
    """The exit status (docs/client.md, "Exit status")."""
    _stand_in_for_closed_streams()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            flush()
    except Failure as failure:
        sys.stderr.write(f"jhssh: {failure.sentence}\n")
        return failure.status
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    except BrokenPipeError:  # as in `jhssh keys list | head -1`
        return 0
    except OSError as error:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        sys.stderr.write(f"jhssh: {said}.\n")
        return FAILED


def _stand_in_for_closed_streams() -> None:
    """Where whoever started this closed them, the next connection would be descriptor 0 or 1. What is written to 1 fails."""
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))


def _run(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first == "proxy" and len(arguments) == 2 and not arguments[1].startswith("-"):
        from .proxy import proxy  # first of all, and without argparse: this is on the path of every connection

        proxy(arguments[1])
        return 0
    if first in TOOLS:
        from . import tools  # what follows is the tool's, and argparse would take it apart

        return tools.run(first, arguments[1:])  # --help too
    from .commands import parser, run

    if not arguments:
        parser().print_help()
        return USAGE

    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal, or a pipe, that has other characters
    return run(parser().parse_args(arguments))
