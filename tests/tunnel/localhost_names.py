"""The tunnel's end for ssh where names below localhost lead to this machine, as in browsers (RFC 6761, section 6.3)."""

from __future__ import annotations

import socket
import sys
from typing import Any

from jhssh_ext.client.websocket_stdio import main

getaddrinfo = socket.getaddrinfo


def with_localhost_names(host: Any, *arguments: Any, **keywords: Any) -> Any:
    return getaddrinfo("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **keywords)


if __name__ == "__main__":
    socket.getaddrinfo = with_localhost_names
    raise SystemExit(main(sys.argv[1:]))
