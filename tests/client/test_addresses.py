"""URLs that others sent, and those that somebody typed."""

from __future__ import annotations

import pytest

from jhssh_ext.client.addresses import Address, address


@pytest.mark.parametrize(
    ("url", "wanted", "authority"),
    [
        ("https://hub.example.org", Address("https", "hub.example.org", 443, "/"), "hub.example.org"),
        ("wss://Hub.example.org:8443/a%20b?c=d#e", Address("wss", "hub.example.org", 8443, "/a%20b?c=d"), "hub.example.org:8443"),
        ("ws://[::1]:80/x", Address("ws", "::1", 80, "/x"), "[::1]"),
        ("http://[::1]:8000/", Address("http", "::1", 8000, "/"), "[::1]:8000"),
        ("https://hüb.example.org./", Address("https", "xn--hb-xka.example.org.", 443, "/"), "xn--hb-xka.example.org."),
        ("http://us%40er:p%3Aw@proxy:3128", Address("http", "proxy", 3128, "/", "us@er:p:w"), "proxy:3128"),
    ],
)
def test_where_it_leads(url: str, wanted: Address, authority: str) -> None:
    found = address(url)
    assert found == wanted
    assert found is not None
    assert found.authority == authority
    assert found.secure == url.startswith(("wss:", "https:"))


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "//h/x", "https://", "https://[foo", "wss://h:99999/x", "wss://h:0/x", "wss://h:abc/x", "wss://:1/"),
        *("ftp://h/", "socks5://h:1080", "https://a..b/", "https://ü..b/"),
        f"https://{'a' * 64}.org",
        f"https://{'a.' * 200}org",
    ],
)
def test_what_leads_nowhere(url: str) -> None:
    assert address(url) is None
