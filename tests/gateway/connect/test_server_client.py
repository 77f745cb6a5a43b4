from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import asyncssh
import jwt
import pytest

from jhssh_ext.errors import ServerUnreachable
from jhssh_ext.gateway.connect import server_client
from jhssh_ext.gateway.connect.server_client import MAX_ANSWER, MAX_KEYS, fetch_keys
from jhssh_ext.identifiers import AUDIENCE, opaque_id
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState
from jhssh_ext.public_keys import PublicKey, parse_line
from jhssh_ext.signed_http import ANSWER_TYPE, SCHEME, sign_answer, verify_request

from ...fakes.http_server import Answer, FakeServer, Request, answering, http_server, response

SECRET, HUB_ID = "5" * 64, "hub"
ALICE = UserServer("alice")
LINES = [asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip() for _ in range(2)]


def state(server: FakeServer, path: str = "/user/alice/") -> ServerState:
    return ServerState("127.0.0.1", 22, "alice", "ssh-ed25519 AAAA", server.url + path, SECRET, "spawn", HUB_ID)


def audience(target: UserServer) -> str:
    return opaque_id(AUDIENCE, HUB_ID, target.user, target.server)


def key_store(
    body: Any,
    *,
    target: UserServer = ALICE,
    secret: str = SECRET,
    jti: Callable[[str], str] = str,
    content_type: str = ANSWER_TYPE,
) -> Answer:
    """Answers as the extension does, but for what the test changes."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        scheme, _, token = request.headers["authorization"].partition(" ")
        assert scheme == SCHEME
        asked = verify_request(SECRET, audience(ALICE), "GET", request.path, token)
        signed = sign_answer(secret, audience(target), jti(asked), body)
        writer.write(response(200, signed.encode(), Content_Type=content_type))

    return answer


def signing(**claims: Any) -> Answer:
    """Answers with a right signature and claims of its own."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        asked = verify_request(SECRET, audience(ALICE), "GET", request.path, request.headers["authorization"].partition(" ")[2])
        right = {"use": "answer", "aud": audience(ALICE), "jti": asked, "body": listed(LINES), "exp": int(time.time()) + 20}
        signed = jwt.api_jws.encode(json.dumps(right | claims).encode(), SECRET, "HS256")
        writer.write(response(200, signed.encode(), Content_Type=ANSWER_TYPE))

    return answer


def listed(lines: list[str]) -> dict[str, Any]:
    return {
        "keys": [{"fingerprint": "SHA256:x", "type": "t", "comment": "", "public_key": line, "source": "store"} for line in lines]
    }


@pytest.mark.asyncio
async def test_the_keys_of_a_signed_answer() -> None:
    async with http_server(key_store(listed(LINES))) as server:
        found = await fetch_keys(state(server), ALICE)
        assert found == frozenset(parse_line(line) for line in LINES)
        (request,) = server.requests
        assert (request.method, request.path) == ("GET", "/user/alice/publickey")


@pytest.mark.asyncio
async def test_a_hostile_answer_is_told_apart_by_its_claims_alone() -> None:
    async with http_server(signing()) as server:
        assert len(await fetch_keys(state(server), ALICE)) == 2


@pytest.mark.asyncio
async def test_whatever_the_reading_of_an_answer_raises_is_that_servers_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(line: str) -> PublicKey:
        raise LookupError("unheard of")

    monkeypatch.setattr(server_client, "listed_key", odd)
    async with http_server(key_store(listed(LINES))) as server:
        with pytest.raises(ServerUnreachable, match="unheard of"):
            await fetch_keys(state(server), ALICE)


@pytest.mark.asyncio
async def test_a_path_is_signed_as_it_is_sent() -> None:
    path = f"/user/{quote('a b+ü', safe='')}/"
    async with http_server(key_store(listed(LINES[:1]))) as server:
        assert len(await fetch_keys(state(server, path), ALICE)) == 1
        assert server.requests[0].path == path + "publickey"


@pytest.mark.asyncio
async def test_nothing_is_sent_but_the_signed_request() -> None:
    async with http_server(key_store(listed([]))) as server:
        await fetch_keys(state(server), ALICE)
        (request,) = server.requests
        assert set(request.headers) == {"authorization", "accept", "connection", "host", "user-agent"}
        assert request.body == b""
        assert SECRET not in str(request)


@pytest.mark.asyncio
async def test_keys_that_this_gateway_does_not_take_open_nothing_and_spoil_nothing() -> None:
    odd = ["ssh-dss AAAA", "", 'command="x" ' + LINES[0], "-----BEGIN OPENSSH PRIVATE KEY-----"]
    async with http_server(key_store(listed([*odd, LINES[1]]))) as server:
        assert await fetch_keys(state(server), ALICE) == {parse_line(LINES[1])}


HOSTILE: dict[str, Answer] = {
    "signed for bob": key_store(listed(LINES), target=UserServer("bob")),
    "signed for another server": key_store(listed(LINES), target=UserServer("alice", "gpu")),
    "another secret": key_store(listed(LINES), secret="6" * 64),
    "the answer to another request": key_store(listed(LINES), jti=lambda _: "0" * 32),
    "unsigned": answering(200, json.dumps(listed(LINES)).encode(), Content_Type="application/json"),
    "unsigned under the right type": answering(200, json.dumps(listed(LINES)).encode(), Content_Type=ANSWER_TYPE),
    "a page": answering(200, b"<html>log in</html>", Content_Type="text/html"),
    "right, but as a page": key_store(listed(LINES), content_type="text/html"),
    "garbage": answering(200, bytes(range(256)), Content_Type=ANSWER_TYPE),
    "a redirect": answering(302, b"", Location="http://127.0.0.1:1/"),
    "forbidden": answering(403, b"{}"),
    "1 GB": answering(200, b"x" * (MAX_ANSWER + 1), Content_Type=ANSWER_TYPE),
    "too many keys": key_store({"keys": [{"public_key": ""}] * (MAX_KEYS + 1)}),
    "a million keys": answering(200, b'{"keys":[' + b'{"public_key":""},' * 10**6, Content_Type=ANSWER_TYPE),
    "many keys of an object": key_store({str(number): None for number in range(50000)}),
    "no list": key_store({"keys": {"public_key": LINES[0]}}),
    "no object": key_store([listed(LINES)]),
    "null": key_store(None),
    "entries without a key": key_store({"keys": [{}]}),
    "entries of another shape": key_store({"keys": [[LINES[0]]]}),
    "keys of another shape": key_store({"keys": [{"public_key": 5}]}),
    "an end that is text": signing(exp="9999999999"),
    "an end that never comes": signing(exp=float("inf")),
    "a beginning that is a list": signing(nbf=[]),
    "an id that is a list": signing(jti=["1"]),
    "keys nested deeply": key_store(json.loads("[" * 400 + "]" * 400)),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.asyncio
async def test_a_hostile_answer_gives_no_key(what: str) -> None:
    async with http_server(HOSTILE[what]) as server:
        with pytest.raises(ServerUnreachable) as caught:
            await fetch_keys(state(server), ALICE)
        assert caught.value.explanation.startswith("alice/: ")
        assert SECRET not in caught.value.explanation
        assert len(caught.value.explanation) < 400
        assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_a_server_that_never_answers_is_given_up() -> None:
    async def never(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with http_server(never) as server:
        with pytest.raises(ServerUnreachable, match="SERVER_UNREACHABLE"):
            await fetch_keys(state(server), ALICE, request_timeout=0.2)


@pytest.mark.asyncio
async def test_an_answer_played_to_the_next_request_does_not_count() -> None:
    first: list[str] = []
    async with http_server(key_store(listed(LINES), jti=lambda jti: (first.append(jti), first[0])[1])) as server:
        assert len(await fetch_keys(state(server), ALICE)) == 2
        with pytest.raises(ServerUnreachable):
            await fetch_keys(state(server), ALICE)
