"""The extension in real single-user servers that real Hubs start, both supported versions."""

from __future__ import annotations

import http.client
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import websocket

from jhssh_ext.identifiers import AUDIENCE, opaque_id
from jhssh_ext.payloads import ServerState
from jhssh_ext.public_keys import parse_line
from jhssh_ext.signed_http import SCHEME, sign_request, verify_answer

from ..harness.hub import Hub
from .keys import new_line

pytestmark = pytest.mark.slow


@pytest.fixture
def owner(any_hub: Hub) -> str:
    user = "keeper"
    if not any_hub.running(user):
        any_hub.create_user(user)
        any_hub.start_server(user, options={"enable_ssh": True})
    return user


def test_sshd_runs_in_a_server_of_the_hub(any_hub: Hub, owner: str) -> None:
    answer = any_hub.server_api("GET", owner, "jhssh/status", token=any_hub.token(owner))
    assert answer.status == 200, answer.body
    found = answer.json
    assert found["enabled"] is True
    assert found["sshd"]["state"] == "running", found
    assert found["connect"]["login_name"] == owner


def test_only_the_owner_writes_keys(any_hub: Hub, owner: str) -> None:
    line = new_line("x")
    mine = any_hub.token(owner)
    for other in (any_hub.token("guest"), any_hub.admin_token):
        answer = any_hub.server_api("POST", owner, "publickey", json={"public_key": line}, token=other)
        assert answer.status == 403, answer
    answer = any_hub.server_api("POST", owner, "publickey", json={"public_key": line}, token=mine)
    assert answer.status == 201, answer.body
    shown = any_hub.server_api("GET", owner, "publickey", token=mine).json
    assert [key["public_key"] for key in shown["keys"]] == [line]
    fingerprint = parse_line(line).fingerprint
    assert any_hub.server_api("DELETE", owner, f"publickey/{fingerprint}", token=mine).status == 204


def test_the_owner_gets_into_a_tunnel_and_nobody_else(any_hub: Hub, owner: str) -> None:
    status = any_hub.server_api("GET", owner, "jhssh/status").json["tunnel"]
    assert status["enabled"] is True
    assert len(status["host_keys"]) == 1
    url = any_hub.server_url(owner).replace("http", "ws", 1) + "jhssh/tunnel"

    def answer(token: str) -> bytes | int:
        """What is first heard through the Hub's proxy, or the status of a refusal."""
        try:
            with closing(websocket.create_connection(url, header=[f"Authorization: token {token}"], suppress_origin=True)) as ws:
                ws.settimeout(20)
                ws.send_binary(b"SSH-2.0-test\r\n")
                heard = ws.recv()
                return heard if isinstance(heard, bytes) else heard.encode()
        except websocket.WebSocketBadStatusException as error:
            return error.status_code

    heard = answer(any_hub.token(owner))
    assert isinstance(heard, bytes)
    assert heard.startswith(b"SSH-2.0-")
    assert answer(any_hub.token(owner, scopes=["access:servers!user", "read:users!user"])) != 403
    for other in (any_hub.token("guest"), any_hub.admin_token, any_hub.token(owner, scopes=["read:users!user"]), "wrong"):
        assert answer(other) == 403


def test_the_gateway_asks_without_being_known_to_the_hub(any_hub: Hub, owner: str) -> None:
    state = ServerState.from_state(any_hub.server_state(owner))
    assert state is not None
    url = urlsplit(state.url + "publickey")
    audience = opaque_id(AUDIENCE, state.hub_id, owner, "")
    token, jti = sign_request(state.secret, audience, "GET", url.path)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=20)
    try:
        connection.request("GET", url.path, headers={"Authorization": f"{SCHEME} {token}"})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, body
    shown = any_hub.server_api("GET", owner, "publickey").json
    assert verify_answer(state.secret, audience, jti, body) == shown
