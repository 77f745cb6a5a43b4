"""What stands before the @: a login name, and the user servers it may mean."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from .identifiers import printable

MAX_LOGIN_NAME = 255
DEFAULT_SEPARATOR = "+"


@dataclass(frozen=True, order=True)
class UserServer:
    """One Jupyter server of one user; ``server`` is ``""`` for the default server."""

    user: str
    server: str = ""

    def __str__(self) -> str:
        return printable(f"{self.user}/{self.server}")


def candidates(login_name: str, separator: str = DEFAULT_SEPARATOR) -> tuple[UserServer, ...]:
    """The user servers that a login name may mean, most literal first; none if no user can have that name.

    ``alice+gpu`` may be the default server of a user of that very name, or alice's server gpu. Which of them exist only the Hub
    knows; where both do, the name is refused. A name that is empty, over 255 characters, holds a control character or
    a slash is nobody's: JupyterHub puts names into URL paths, and OpenSSH shows them in terminals.
    """
    if not login_name or len(login_name) > MAX_LOGIN_NAME or login_name in (".", ".."):
        return ()
    if "/" in login_name or any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in login_name):
        return ()
    found = [UserServer(login_name)]
    if separator:
        user, found_separator, server = login_name.rpartition(separator)
        if found_separator and user and server and user not in (".", ".."):
            found.append(UserServer(user, server))
    return tuple(found)


def login_name(target: UserServer, separator: str = DEFAULT_SEPARATOR) -> str:
    """The login name for a user server: what a user types before the @."""
    return f"{target.user}{separator}{target.server}" if target.server else target.user
