"""Requests and answers signed with the per-spawn secret."""

from __future__ import annotations

import json
import time

import jwt
import pytest

from jhssh_ext.signed_http import LIFETIME, BadSignature, sign_answer, sign_request, verify_answer, verify_request

SECRET, AUDIENCE, PATH = "a" * 64, "b" * 64, "/user/alice/publickey"


def test_a_request_counts_for_what_it_was_signed_for() -> None:
    token, jti = sign_request(SECRET, AUDIENCE, "GET", PATH)
    assert verify_request(SECRET, AUDIENCE, "GET", PATH, token) == jti


@pytest.mark.parametrize(
    "other",
    [
        ("c" * 64, AUDIENCE, "GET", PATH),
        (SECRET, "c" * 64, "GET", PATH),
        (SECRET, AUDIENCE, "POST", PATH),
        (SECRET, AUDIENCE, "GET", "/"),
    ],
)
def test_and_for_nothing_else(other: tuple[str, str, str, str]) -> None:
    token, _ = sign_request(SECRET, AUDIENCE, "GET", PATH)
    with pytest.raises(BadSignature):
        verify_request(*other, token)


def test_an_answer_belongs_to_its_request() -> None:
    _, jti = sign_request(SECRET, AUDIENCE, "GET", PATH)
    answer = sign_answer(SECRET, AUDIENCE, jti, {"keys": []})
    assert verify_answer(SECRET, AUDIENCE, jti, answer) == {"keys": []}
    with pytest.raises(BadSignature):
        verify_answer(SECRET, AUDIENCE, "0" * 32, answer)


def test_a_request_is_no_answer_and_an_answer_no_request() -> None:
    token, jti = sign_request(SECRET, AUDIENCE, "GET", PATH)
    with pytest.raises(BadSignature):
        verify_answer(SECRET, AUDIENCE, jti, token)
    with pytest.raises(BadSignature):
        verify_request(SECRET, AUDIENCE, "GET", PATH, sign_answer(SECRET, AUDIENCE, jti, {}))


def _claims(**changes: object) -> dict[str, object]:
    return {"use": "request", "aud": AUDIENCE, "method": "GET", "path": PATH, "jti": "1", "exp": time.time() + LIFETIME} | changes


@pytest.mark.parametrize(
    "token",
    [
        jwt.encode(_claims(exp=time.time() - 5), SECRET, "HS256"),
        jwt.encode(_claims(exp=time.time() + 86400), SECRET, "HS256"),
        jwt.encode({k: v for k, v in _claims().items() if k != "exp"}, SECRET, "HS256"),
        jwt.encode({k: v for k, v in _claims().items() if k != "jti"}, SECRET, "HS256"),
        jwt.encode(_claims(), "", "none"),
        jwt.encode(_claims(), SECRET, "HS512"),
        "",
        "a.b.c",
        "é",
    ],
)
def test_old_long_lived_unsigned_and_malformed_tokens_are_refused(token: str) -> None:
    with pytest.raises(BadSignature):
        verify_request(SECRET, AUDIENCE, "GET", PATH, token)


def _answer(**changes: object) -> str:
    """Signed by whoever has the secret, with claims of any shape."""
    claims = {"use": "answer", "aud": AUDIENCE, "jti": "1", "body": {}, "exp": int(time.time()) + LIFETIME} | changes
    return jwt.api_jws.encode(json.dumps(claims).encode(), SECRET, "HS256")


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": "9999999999"},
        {"exp": str(int(time.time()) + LIFETIME)},
        {"exp": [1]},
        {"exp": {}},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**4000},
        {"nbf": []},
        {"iat": float("inf")},
        {"aud": {"a": 1}},
        {"aud": [[AUDIENCE]]},
        {"jti": ["1"]},
        {"jti": None},
        {"use": ["answer"]},
        {"sub": 5},
    ],
)
def test_claims_of_another_shape_are_refused_though_they_are_signed(changes: dict[str, object]) -> None:
    assert verify_answer(SECRET, AUDIENCE, "1", _answer()) == {}
    with pytest.raises(BadSignature):
        verify_answer(SECRET, AUDIENCE, "1", _answer(**changes))


def test_claims_nested_without_end_are_refused() -> None:
    deep = jwt.api_jws.encode(b"[" * 100_000, SECRET, "HS256")
    with pytest.raises(BadSignature):
        verify_answer(SECRET, AUDIENCE, "1", deep)


def test_a_short_secret_signs_nothing() -> None:
    with pytest.raises(BadSignature):
        verify_request("", AUDIENCE, "GET", PATH, jwt.encode(_claims(), SECRET, "HS256"))
