"""``jhssh``: its commands and options, and what becomes of a failure. Each command is imported when it is run."""

from __future__ import annotations

import os
import sys

from .failures import INTERRUPTED, USAGE, Failure

TOOLS = ("ssh", "scp", "rsync", "sftp")


def main(argv: list[str] | None = None) -> int:
    """The exit status (docs/client.md, "Exit status")."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _run(arguments)
    except Failure as failure:
        sys.stderr.write(f"jhssh: {failure.sentence}\n")
        return failure.status
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    except BrokenPipeError:  # as in `jhssh keys list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


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

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has not all characters
    return run(parser().parse_args(arguments))
