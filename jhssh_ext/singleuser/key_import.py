"""Fetches the public keys that a user of GitHub or GitLab shows to everybody, from ``<url>/<user>.keys``.

The hosts are the admin's choice alone, a user name can name no other place, and redirects are not followed: so nobody can use
a server to reach what only the server can reach.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from ..errors import BadRequest, ImportUnavailable, KeyAccountUnknown, KeyRefused
from ..public_keys import MAX_TEXT, read_authorized_keys

TIMEOUT = 10.0
_USER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?", re.ASCII)
"""GitHub: letters, digits and hyphens; GitLab: dots and underscores too, but nothing that ends in a dot"""


@dataclass(frozen=True)
class Found:
    text: str
    """its keys that are taken here, one line each"""
    origin: str
    """host and user name, as ``github.com/alice``"""


class KeyImporter:
    """``urls``: by the provider's name, its base URL; an empty one switches the provider off."""

    def __init__(self, urls: Mapping[str, str], *, timeout: float = TIMEOUT) -> None:
        self._urls = {name: url.rstrip("/") for name, url in urls.items() if url}
        self._timeout = timeout

    async def fetch(self, provider: str, user: str) -> Found:
        """At most MAX_TEXT bytes, within the timeout. Raises KeyRefused, ImportUnavailable."""
        url = self._urls.get(provider)
        if url is None:
            raise BadRequest("Keys can't be imported from there on this hub. Paste them instead.")
        if not _USER.fullmatch(user) or ".." in user:
            raise BadRequest("This is no user name. Give the name alone, without an address or an @.")
        host = urlsplit(url).netloc.rpartition("@")[2]
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_TEXT)
        request = HTTPRequest(
            f"{url}/{user}.keys",
            headers={"Accept": "text/plain"},
            follow_redirects=False,
            decompress_response=False,
            connect_timeout=self._timeout,
            request_timeout=self._timeout,
        )
        try:
            response = await client.fetch(request)
        except HTTPClientError as error:
            if error.code in (302, 404):  # GitLab sends whoever is not logged in to its login page
                raise KeyAccountUnknown(f"{host} shows no keys of a user named {user}.") from None
            if error.code == 599:
                raise ImportUnavailable(f"{host} did not answer in time. Paste the keys instead.") from None
            raise ImportUnavailable(f"{host} answered with an error ({error.code}). Paste the keys instead.") from None
        except (OSError, ValueError):
            raise ImportUnavailable(f"This server can't reach {host}. Paste the keys instead.") from None
        finally:
            client.close()
        return _found(response.body.decode("utf-8", "replace"), f"{host}/{user}")


def _found(text: str, origin: str) -> Found:
    """An old or weak key among others is left out; where there is no other, it is what is told."""
    keys, ignored = read_authorized_keys(text)
    if not keys:
        raise KeyRefused(ignored[0].reason) if ignored else KeyAccountUnknown(f"{origin} has no SSH keys.")
    return Found("\n".join(replace(key, comment=key.comment or origin).line for key in keys), origin)
