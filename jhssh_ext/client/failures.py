"""What ends the command: a sentence for the terminal, a code for programs, an exit status (docs/client.md, "Exit status")."""

from __future__ import annotations

from ..errors import JHSSHError

FAILED = 1
USAGE = 2
LOGIN_NEEDED = 3
UNREACHABLE = 4
INTERRUPTED = 130
"""128 + SIGINT, as shells have it"""


class Failure(JHSSHError):
    """Something was refused, or did not work."""

    code = "FAILED"
    status = FAILED

    def __init__(self, sentence: str, *, code: str = "") -> None:
        super().__init__(sentence)
        if code:
            self.code = code


class WrongUsage(Failure):
    """What was typed makes no sense here."""

    code = "USAGE"
    status = USAGE


class LoginNeeded(Failure):
    """No token, or one that is no longer good."""

    code = "LOGIN_NEEDED"
    status = LOGIN_NEEDED


class Unreachable(Failure):
    """No answer, or none that can be trusted: try again later, or from another network."""

    code = "UNREACHABLE"
    status = UNREACHABLE
