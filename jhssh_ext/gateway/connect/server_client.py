"""The gateway's one HTTP call to a user server: its keys. A user server is hostile to all but its owner: everything is bounded.

Nothing is sent but the signed request, which is worth nothing to anyone else; only an answer signed with the same secret counts.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ...errors import KeyRefused, ServerUnreachable
from ...identifiers import AUDIENCE, opaque_id, printable
from ...login_names import UserServer
from ...payloads import ServerState
from ...public_keys import PublicKey, listed_key
from ...signed_http import ANSWER_TYPE, SCHEME, sign_request, verify_answer
from .bounded_http import BoundedClient, NoAnswer

MAX_ANSWER = 1 << 20
"""bytes: the signed answer, base64"""
MAX_QUICK = 1 << 14
"""bytes: a signed answer that is read in under a millisecond, more quickly than another thread gets its turn"""
MAX_KEYS = 1100
"""what an honest extension lists at the most: two files of 500, and some to spare"""
CONNECT_TIMEOUT = 5.0
REQUEST_TIMEOUT = 10.0

# JSON of 10^6 values takes time and much memory: one answer at a time, beside the event loop.
_parser = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jhssh-keys")


async def fetch_keys(
    state: ServerState,
    target: UserServer,
    *,
    connect_timeout: float = CONNECT_TIMEOUT,
    request_timeout: float = REQUEST_TIMEOUT,
) -> frozenset[PublicKey]:
    """The keys registered on this user server, asked at ``state.url`` itself. Raises ServerUnreachable."""
    url = state.url + "publickey"
    audience = opaque_id(AUDIENCE, state.hub_id, target.user, target.server)
    token, jti = sign_request(state.secret, audience, "GET", urlsplit(url).path)
    # A client for each call: no user server can take another's turn.
    client = BoundedClient(max_body=MAX_ANSWER, max_clients=1, connect_timeout=connect_timeout, request_timeout=request_timeout)
    try:
        response = await client.fetch(url, headers={"Authorization": f"{SCHEME} {token}", "Accept": ANSWER_TYPE})
    except NoAnswer as error:
        raise _unreachable(target, f"its key store does not answer: {error}") from error
    finally:
        client.close()
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.code != 200 or content_type != ANSWER_TYPE:
        raise _unreachable(target, f"HTTP {response.code} in place of a signed answer with its keys; is jhssh-ext in its image?")
    try:
        if len(response.body) <= MAX_QUICK:
            return verify_and_parse(state.secret, audience, jti, response.body)
        return await asyncio.get_running_loop().run_in_executor(
            _parser, verify_and_parse, state.secret, audience, jti, response.body
        )
    except Exception as error:  # whatever a hostile answer makes of its reading: it is that server's failure, and nobody else's
        raise _unreachable(target, f"what answers at its address is not its key store: {printable(str(error))}") from error


def verify_and_parse(secret: str, audience: str, jti: str, answer: bytes) -> frozenset[PublicKey]:
    """The keys of a signed answer. Raises BadSignature, or ValueError for a body of another shape."""
    return _keys(verify_answer(secret, audience, jti, answer))


def _keys(body: Any) -> frozenset[PublicKey]:
    entries = body.get("keys") if isinstance(body, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError("no list of keys, or too long a list")
    keys = set()
    for entry in entries:
        line = entry.get("public_key") if isinstance(entry, dict) else None
        if not isinstance(line, str):
            raise ValueError("an entry without public_key")
        try:
            keys.add(listed_key(line))
        except KeyRefused:
            # A newer extension may take types that this gateway does not know: they open nothing here, and the others count.
            continue
    return frozenset(keys)


def _unreachable(target: UserServer, why: str) -> ServerUnreachable:
    return ServerUnreachable(explanation=f"{target}: {why}")
