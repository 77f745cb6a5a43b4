from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import quote

import pytest

from jhssh_ext.public_keys import parse_line
from jhssh_ext.signed_http import BadSignature, sign_request, verify_answer
from jhssh_ext.singleuser import handlers
from jhssh_ext.singleuser.key_import import KeyImporter
from jhssh_ext.singleuser.key_store import KeyStore

from ..harness.processes import free_port
from .keys import new_line
from .servers import AUDIENCE_ID, SECRET, TOKEN, Credentials, JupyterServer, jupyter_server

PATH = "/base/publickey"


@pytest.fixture
def path(server: JupyterServer) -> Iterator[Path]:
    """The key store, empty."""
    path = server.home / ".ssh" / "jhssh_authorized_keys"
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)
    (server.home / ".ssh" / "authorized_keys").unlink(missing_ok=True)


def signed(server: JupyterServer, token: str, method: str = "GET", path: str = "publickey") -> tuple[int, bytes]:
    status, _, body = server.request(method, path, headers={"Authorization": f"JHSSH {token}"})
    return status, body


def test_a_key_is_added_shown_and_removed(server: JupyterServer, path: Path) -> None:
    line = new_line("me@laptop")
    key = parse_line(line)
    assert server.json("GET", "publickey") == (200, {"keys": [], "ignored": []})
    status, added = server.post(line)
    assert status == 201
    (model,) = added["keys"]
    assert model == {
        "fingerprint": key.fingerprint,
        "type": "ssh-ed25519",
        "comment": "me@laptop",
        "public_key": line,
        "added": model["added"],
        "source": "jhssh_authorized_keys",
        "origin": "",
    }
    assert server.json("GET", "publickey") == (200, {"keys": [model], "ignored": []})
    status, _, body = server.request("DELETE", f"publickey/{quote(key.fingerprint, safe='')}")
    assert (status, body) == (204, b"")
    assert server.json("GET", "publickey")[1]["keys"] == []
    status, error = server.json("DELETE", f"publickey/{key.fingerprint}")
    assert (status, error["code"]) == (404, "KEY_UNKNOWN")


def test_keys_are_imported_only_from_where_the_admin_said(server: JupyterServer, path: Path) -> None:
    def post(sent: object) -> tuple[int, str]:
        status, error = server.json("POST", "jhssh/import", json.dumps(sent).encode())
        return status, error["code"]

    assert post({"provider": "http://127.0.0.1", "user": "alice"}) == (400, "BAD_REQUEST")
    assert post({"provider": "github", "user": "../alice"}) == (400, "BAD_REQUEST")
    assert post({"provider": "github", "user": 1}) == (400, "BAD_REQUEST")
    assert post([]) == (400, "BAD_REQUEST")
    assert not path.exists()


def test_fingerprints_with_slashes_are_taken_escaped_or_not(server: JupyterServer, path: Path) -> None:
    for escaped in (True, False):
        line = next(line for line in iter(lambda: new_line("x"), "") if "/" in parse_line(line).fingerprint)
        assert server.post(line)[0] == 201
        fingerprint = parse_line(line).fingerprint
        assert server.request("DELETE", "publickey/" + (quote(fingerprint, safe="") if escaped else fingerprint))[0] == 204


def test_etag_and_not_modified(server: JupyterServer, path: Path) -> None:
    authorization = {"Authorization": f"token {TOKEN}"}
    _, headers, _ = server.request("GET", "publickey")
    etag = headers["ETag"]
    assert etag
    status, _, body = server.request("GET", "publickey", headers={**authorization, "If-None-Match": etag})
    assert (status, body) == (304, b"")
    server.post(new_line("x"))
    status, headers, _ = server.request("GET", "publickey", headers={**authorization, "If-None-Match": etag})
    assert status == 200
    assert headers["ETag"] != etag


def test_plain_text_is_authorized_keys(server: JupyterServer, path: Path) -> None:
    line = new_line("one two")
    server.post(line)
    status, headers, body = server.request(
        "GET", "publickey", headers={"Authorization": f"token {TOKEN}", "Accept": "text/plain"}
    )
    assert status == 200
    assert headers.get_content_type() == "text/plain"
    assert body.decode() == line + "\n"


@pytest.mark.parametrize(
    ("accept", "text"),
    [("", False), ("*/*", False), ("text/plain", True), ("text/plain;q=1, */*", True), ("application/json, text/plain", False)],
)
def test_what_accept_asks_for(accept: str, text: bool) -> None:
    assert handlers._wants_text(accept) is text


def test_ignored_lines_are_listed_with_the_reason(server: JupyterServer, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    line = new_line("x")
    (path.parent / "authorized_keys").write_text(f"no-pty {line}\n")
    _, found = server.json("GET", "publickey")
    (ignored,) = found["ignored"]
    assert (ignored["source"], ignored["line"], ignored["fingerprint"]) == ("authorized_keys", 1, parse_line(line).fingerprint)
    assert "options" in ignored["reason"]


BODIES = {
    "empty": (b"", 400, "BAD_REQUEST"),
    "not JSON": (b'{"public_key": "ssh-', 400, "BAD_REQUEST"),
    "binary": (os.urandom(1000) + b"\xff", 400, "BAD_REQUEST"),
    "a list": (b"[]", 400, "BAD_REQUEST"),
    "deep": (b"[" * 60_000, 400, "BAD_REQUEST"),
    "no key": (b"{}", 400, "BAD_REQUEST"),
    "a number": (b'{"public_key": 1}', 400, "BAD_REQUEST"),
    "1 MB": (json.dumps({"public_key": "A" * (1 << 20)}).encode(), 413, "TOO_LARGE"),
    "1 MB of rubbish": (b"\0" * (1 << 20), 413, "TOO_LARGE"),
    "rubbish": (json.dumps({"public_key": "hello"}).encode(), 422, "KEY_MALFORMED"),
    "no text": (json.dumps({"public_key": ""}).encode(), 422, "KEY_MALFORMED"),
    "surrogates": (b'{"public_key": "ssh-ed25519 \\ud800"}', 422, "KEY_MALFORMED"),
    "NUL": (b'{"public_key": "ssh-ed25519 AAAA\\u0000"}', 422, "KEY_MALFORMED"),
    "a private key": (
        json.dumps({"public_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n"}).encode(),
        422,
        "KEY_PRIVATE",
    ),
    "DSA": (json.dumps({"public_key": "ssh-dss AAAA"}).encode(), 422, "KEY_TYPE_UNSUPPORTED"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_change_nothing(server: JupyterServer, path: Path, name: str) -> None:
    server.post(new_line("there before"))
    before = path.read_bytes()
    body, status, code = BODIES[name]
    found, error = server.json("POST", "publickey", body)
    assert (found, error["code"]) == (status, code)
    assert error["message"]
    assert path.read_bytes() == before


def test_the_line_at_fault_is_named(server: JupyterServer, path: Path) -> None:
    status, error = server.post(f"{new_line('good')}\nssh-dss AAAA\n")
    assert (status, error["line"]) == (422, 2)
    assert not path.exists()


def test_all_known_is_a_conflict(server: JupyterServer, path: Path) -> None:
    line = new_line("x")
    assert server.post(line)[0] == 201
    status, error = server.post(line)
    assert (status, error["code"]) == (409, "KEY_DUPLICATE")


def test_private_keys_reach_neither_store_nor_log(server: JupyterServer, path: Path, credentials: Credentials) -> None:
    private = (credentials.folder / "id").read_text()
    status, error = server.post(private)
    assert (status, error["code"]) == (422, "KEY_PRIVATE")
    secret = private.splitlines()[2]
    assert secret not in json.dumps(error)
    assert secret not in server.log.read_text()
    assert not path.exists()


def test_twenty_posts_at_once_lose_nothing(server: JupyterServer, path: Path) -> None:
    offered = [new_line(f"key {number}") for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        assert [status for status, _ in pool.map(server.post, offered)] == [201] * 20
    assert sorted(model["public_key"] for model in server.json("GET", "publickey")[1]["keys"]) == sorted(offered)


@pytest.mark.parametrize(
    ("method", "where"),
    [("GET", "publickey"), ("POST", "publickey"), ("DELETE", "publickey/SHA256:x"), ("GET", "jhssh/status")],
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}, {"Authorization": "JHSSH wrong"}])
def test_strangers_get_nothing(server: JupyterServer, path: Path, method: str, where: str, headers: dict[str, str]) -> None:
    line = new_line("secret of the user")
    server.post(line)
    before = path.read_bytes()
    body = json.dumps({"public_key": new_line("stranger")}).encode() if method == "POST" else None
    status, _, answer = server.request(method, where, body, headers=headers)
    assert status == 403
    assert parse_line(line).fingerprint.encode() not in answer
    assert path.read_bytes() == before


def test_the_gateway_asks_and_is_answered_signed(server: JupyterServer, path: Path) -> None:
    server.post(new_line("x"))
    token, jti = sign_request(SECRET, AUDIENCE_ID, "GET", PATH)
    status, headers, body = server.request("GET", "publickey", headers={"Authorization": f"JHSSH {token}"})
    assert status == 200
    assert headers.get_content_type() == "application/jwt"
    assert verify_answer(SECRET, AUDIENCE_ID, jti, body) == server.json("GET", "publickey")[1]
    with pytest.raises(BadSignature):
        verify_answer(SECRET, AUDIENCE_ID, "another", body)


def test_a_signed_request_is_answered_once(server: JupyterServer) -> None:
    token, _ = sign_request(SECRET, AUDIENCE_ID, "GET", PATH)
    assert signed(server, token)[0] == 200
    assert signed(server, token)[0] == 403


@pytest.mark.parametrize(
    ("secret", "audience", "method", "signed_path"),
    [
        ("6" * 64, AUDIENCE_ID, "GET", PATH),
        (SECRET, "another", "GET", PATH),
        (SECRET, AUDIENCE_ID, "POST", PATH),
        (SECRET, AUDIENCE_ID, "GET", "/other/publickey"),
    ],
)
def test_requests_signed_for_something_else_are_refused(
    server: JupyterServer, secret: str, audience: str, method: str, signed_path: str
) -> None:
    assert signed(server, sign_request(secret, audience, method, signed_path)[0])[0] == 403


def test_a_signature_writes_nothing_and_shows_nothing_else(server: JupyterServer, path: Path) -> None:
    server.post(new_line("x"))
    before = path.read_bytes()
    for method, where in (
        ("POST", "publickey"),
        ("DELETE", "publickey/SHA256:x"),
        ("GET", "jhssh/status"),
        ("GET", "api/contents"),
    ):
        token, _ = sign_request(SECRET, AUDIENCE_ID, method, f"/base/{where}")
        assert signed(server, token, method, where)[0] == 403
    assert path.read_bytes() == before


def test_the_host_is_checked_before_the_signature(server: JupyterServer) -> None:
    token, _ = sign_request(SECRET, AUDIENCE_ID, "GET", PATH)
    status, _, _ = server.request("GET", "publickey", headers={"Authorization": f"JHSSH {token}", "Host": "evil.example"})
    assert status == 403
    assert signed(server, token)[0] == 200


def test_looking_is_no_activity(server: JupyterServer) -> None:
    def last() -> str:
        activity: str = server.json("GET", "api/status?no_track_activity=1")[1]["last_activity"]
        return activity

    before = last()
    server.json("GET", "publickey")
    signed(server, sign_request(SECRET, AUDIENCE_ID, "GET", PATH)[0])
    server.json("GET", "jhssh/status")
    assert last() == before


def test_ids_of_requests_are_forgotten_once_they_are_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        services = handlers.Services(
            KeyStore(tmp_path / "keys", None, max_keys=1),
            dict,
            lambda: None,
            KeyImporter({}),
            Mock(),
            audience=AUDIENCE_ID,
            secret=SECRET,
        )
        request = type("Request", (), {"method": "GET", "path": PATH})

    clock = [1000.0]
    monkeypatch.setattr(handlers.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(handlers, "MAX_JTIS", 2)

    def ask() -> str:
        return handlers.JHSSHHandler.verified(Asked(), sign_request(SECRET, AUDIENCE_ID, "GET", PATH)[0])  # type: ignore[arg-type]

    first = {ask(), ask()}
    with pytest.raises(handlers.web.HTTPError):
        ask()
    assert set(Asked.services.used_jtis) == first
    clock[0] += 600
    third = ask()
    assert set(Asked.services.used_jtis) == {third}


PROVIDER = """
from jupyter_server.auth import IdentityProvider, User

class Provider(IdentityProvider):
    '''As jupyterhub.singleuser.extension's: a User with what the Hub said of the token's owner.'''

    def get_user(self, handler):
        kind, _, name = handler.request.headers.get("Authorization", "").partition(" ")
        if not name:
            return None
        user = User(name)
        user.hub_user = {"kind": kind, "name": name}
        return user

    def is_token_authenticated(self, handler):
        return True

c.ServerApp.identity_provider_class = Provider
"""


@pytest.mark.slow
def test_only_the_owner_writes(tmp_path: Path, credentials: Credentials) -> None:
    (tmp_path / "config.py").write_text(PROVIDER)
    given = credentials.environment(free_port())
    with jupyter_server(tmp_path, given, f"--config={tmp_path / 'config.py'}", environ={"JUPYTERHUB_USER": "alice"}) as running:
        line = new_line("x")
        body = json.dumps({"public_key": line}).encode()
        fingerprint = parse_line(line).fingerprint
        for other in ("user bob", "service alice"):
            headers = {"Authorization": other}
            assert running.json("GET", "publickey", headers=headers)[0] == 200
            status, error = running.json("POST", "publickey", body, headers=headers)
            assert (status, error["code"]) == (403, "POLICY_DENIED")
            assert running.json("DELETE", f"publickey/{fingerprint}", headers=headers)[1]["code"] == "POLICY_DENIED"
        alice = {"Authorization": "user alice"}
        assert running.json("POST", "publickey", body, headers=alice)[0] == 201
        assert running.json("DELETE", f"publickey/{fingerprint}", headers=alice)[0] == 204
