"""What makes a form count: a nonce that works once, for one user, one page and one kind of form, and a seal over what is sent.

A service worker that another page registered sees every form on its way (it cannot see the pages themselves). If the nonce went
with the form, the worker could keep the form back and send one of its own. So page.js leaves the key where it is and sends a
seal made with it, which fits no other content. Where scripts are off there are no service workers: there the key itself is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

from ..authenticate.nonces import Nonces

FIELD = "nonce"
MAX_SENT = 256


class Forms:
    """``secret`` is the same at all gateways of a Hub and stays out of the database."""

    def __init__(self, nonces: Nonces, secret: bytes) -> None:
        self._nonces, self._secret = nonces, secret

    async def issue(self, user: str, page: str) -> IssuedForms:
        """For the forms of one view of a page: the first that is sent uses up all. Raises DatabaseUnavailable."""
        return IssuedForms(await self._nonces.make(user, page), user, page, self._secret)

    async def take(self, user: str, page: str, kind: str, sent: Mapping[str, Sequence[bytes]]) -> bool:
        """Was this (fields by name, as they came) issued to the user, is it whole, and the first? It is used now.

        Raises DatabaseUnavailable.
        """
        nonce, _, shown = sent.get(FIELD, [b""])[-1][:MAX_SENT].decode("utf-8", "replace").partition(".")
        key = IssuedForms(nonce, user, page, self._secret).key(kind).partition(".")[2]
        accepted = (key, seal(key, sent))
        if not any(hmac.compare_digest(each.encode("ascii"), shown.encode("utf-8")) for each in accepted):
            return False
        return await self._nonces.use(nonce, user, page)


class IssuedForms:
    """Of one view of a page."""

    def __init__(self, nonce: str, user: str, page: str, secret: bytes) -> None:
        self._nonce, self._whose, self._secret = nonce, (user, page), secret

    def key(self, kind: str) -> str:
        """For the forms of this kind: the nonce, a dot, and what seals are made with."""
        meant = json.dumps([self._nonce, *self._whose, kind])
        return f"{self._nonce}.{hmac.new(self._secret, meant.encode('ascii'), hashlib.sha256).hexdigest()}"


def seal(key: str, sent: Mapping[str, Sequence[bytes]]) -> str:
    """The same as in page.js: HMAC-SHA-256 of the JSON text of all other fields, by name, lines ended as there."""
    fields = [
        [name, value.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")]
        for name in sorted(sent)
        for value in sent[name]
        if name != FIELD
    ]
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return hmac.new(key.encode("ascii"), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
