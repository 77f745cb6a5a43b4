"""How an error ends a connection: the message that the client's user reads. Pure."""

from __future__ import annotations

import asyncssh

from ...errors import JHSSHError, Unavailable
from ...identifiers import printable

PLAIN = str.maketrans("“”‘’–…", "\"\"''-.")


def for_client(error: JHSSHError) -> str:
    """For a DISCONNECT message, of which OpenSSH's client shows 400 bytes, all but ASCII as octal escapes."""
    return f"{printable(error.sentence, 360)} [{error.code}]".translate(PLAIN).encode("ascii", "replace").decode("ascii")


def disconnect_error(error: JHSSHError) -> asyncssh.DisconnectError:
    """To be raised where asyncssh called."""
    code = asyncssh.DISC_SERVICE_NOT_AVAILABLE if isinstance(error, Unavailable) else asyncssh.DISC_BY_APPLICATION
    return asyncssh.DisconnectError(code, for_client(error))
