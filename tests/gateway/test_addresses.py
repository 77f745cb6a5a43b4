"""A browser's address is known only through proxies that the admin named; a proxy's own is nobody's."""

from __future__ import annotations

import pytest

from jhssh_ext.gateway.addresses import TrustedProxies

PROXIES = TrustedProxies(["127.0.0.1", "::1", "10.1.0.0/16"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "browser"),
    [
        ("127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        ("127.0.0.1", ["192.0.2.7", "10.1.2.3"], "192.0.2.7"),  # two headers are one list (RFC 9110, section 5.3)
        ("127.0.0.1", ["203.0.113.9, 192.0.2.7"], "192.0.2.7"),  # what the client itself sent stands before
        ("127.0.0.1", ["203.0.113.9, 192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        ("::1", ["2001:db8::5"], "2001:db8::5"),
        ("::ffff:127.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["203.0.113.9, 192.0.2.7:5678"], "192.0.2.7"),  # with the port that Azure adds
        ("127.0.0.1", ["192.0.2.7, 10.1.2.3:443"], "192.0.2.7"),
        ("127.0.0.1", ["[2001:db8::5]:443"], "2001:db8::5"),
        ("127.0.0.1", ["[2001:db8::5]"], "2001:db8::5"),
        ("127.0.0.1", ["192.0.2.7, [::1]:443"], "192.0.2.7"),
        ("127.0.0.1", ["2001:db8::5:443"], "2001:db8::5:443"),  # which is an address
        ("192.0.2.1", ["192.0.2.7"], ""),  # no proxy of ours
        ("192.0.2.1", [], ""),
        ("127.0.0.1", [], ""),
        ("127.0.0.1", ["10.1.2.3"], ""),
        ("127.0.0.1", ["192.0.2.7, unknown"], ""),
        ("127.0.0.1", [",192.0.2.7 ,"], "192.0.2.7"),  # empty elements do not count (RFC 9110, section 5.6.1)
        ("127.0.0.1", ["192.0.2.7" + ", 10.1.2.3" * 1000], ""),
        ("", ["192.0.2.7"], ""),
    ],
)
def test_the_browsers_address(peer: str, forwarded: list[str], browser: str) -> None:
    assert PROXIES.client(peer, forwarded) == browser


@pytest.mark.parametrize(
    "entry",
    [
        "192.0.2.7:",
        "192.0.2.7:x",
        "192.0.2.7:123456",
        "192.0.2.7:1:2",
        "[192.0.2.7]:443",
        "[2001:db8::5]:",
        "[2001:db8::5",
        "[]:1",
    ],
)
def test_what_is_no_address_with_a_port_is_nobodys(entry: str) -> None:
    assert PROXIES.client("127.0.0.1", [entry]) == ""


def test_without_proxies_nobodys_address_is_known() -> None:
    assert TrustedProxies([]).client("127.0.0.1", ["192.0.2.7"]) == ""


@pytest.mark.parametrize(
    ("client", "browser", "same"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("2001:db8::1", "2001:db8::2", True),  # one host has many of its /64
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "", False),
        ("", "", False),
        ("127.0.0.1", "127.0.0.1", False),  # hidden behind a proxy
        ("10.1.9.9", "10.1.9.9", False),
        ("nonsense", "nonsense", False),
    ],
)
def test_the_same_address(client: str, browser: str, same: bool) -> None:
    assert PROXIES.same(client, browser) is same


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError):
        TrustedProxies(["10.0.0.0/8", "proxy.example.org"])
