"""How far a connection is trusted: certificates are always verified; without TLS only where nobody can listen in between."""

from __future__ import annotations

import ipaddress
import ssl

from .failures import Failure


def is_loopback(host: str) -> bool:
    """Is nothing between here and there that could listen?"""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """The system's CAs, and those of ``ca_file``. Raises Failure."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise Failure(f"The CA file {ca_file} can't be used: {error.strerror or error}.") from None
    return context
