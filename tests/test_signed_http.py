"""Requests and answers signed with the per-spawn secret."""

from __future__ import annotations

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


def test_a_short_secret_signs_nothing() -> None:
    with pytest.raises(BadSignature):
        verify_request("", AUDIENCE, "GET", PATH, jwt.encode(_claims(), SECRET, "HS256"))
