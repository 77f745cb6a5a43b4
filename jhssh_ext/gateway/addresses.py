"""Network addresses: what counts as one, whose is known, and whether two are the same person's. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

MAX_FORWARDED = 20
"""entries of X-Forwarded-For that are looked at"""
WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\](?::[0-9]{1,5})?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def network_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, of which a single host has as many as it likes."""
    found = _parsed(address)
    if found is None:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class TrustedProxies:
    """The reverse proxies before the gateway's HTTP side. Raises ValueError for what is no network.

    Their addresses are never a person's: behind one that hides its clients, everybody would seem to be the same.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def client(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """The address of the browser; empty if it is not known.

        ``forwarded_for`` are the X-Forwarded-For headers: each proxy adds its own peer at the end, and what stands before the
        last one that is no trusted proxy is whatever a client sent.
        """
        # A peer that is no proxy we know may be one we do not know.
        if (found := _parsed(peer)) is None or found not in self:
            return ""
        # Empty elements count for nothing (RFC 9110, section 5.6.1).
        entries = [entry for entry in map(str.strip, ",".join(forwarded_for).split(",")) if entry]
        for entry in reversed(entries[-MAX_FORWARDED:]):
            address = _parsed(_without_port(entry))
            if address is None:
                return ""
            if address not in self:
                return str(address)
        return ""

    def same(self, client: str, browser: str) -> bool:
        """Are an SSH client and a browser (as :meth:`client` says) known to be at the same address?"""
        found = _parsed(client)
        return bool(browser) and found is not None and found not in self and network_of(client) == network_of(browser)


def _without_port(entry: str) -> str:
    """Some proxies (Azure's) add the client's port, as in Forwarded (RFC 7239, section 6). What is neither stays as it is."""
    found = WITH_PORT.fullmatch(entry)
    return found[1] or found[2] if found else entry


def _parsed(address: str) -> Address | None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
