"""HTTP between gateway and extension, signed both ways with the per-spawn secret (JWT, RFC 7519, HS256).

No bearer token is ever sent to a user server: its owner could read it. A signed request says what it is for (audience, method,
path, under a minute), and the answer is signed over the request's id, so that whoever sits on a freed port can neither ask
nor answer.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, cast

import jwt

ALGORITHM = "HS256"
LIFETIME = 30
"""seconds that a request or an answer is good for"""
SCHEME = "JHSSH"
"""of the Authorization header: ``Authorization: JHSSH <jwt>`` (RFC 9110, section 11.4)"""
ANSWER_TYPE = "application/jwt"


class BadSignature(Exception):
    """Not signed with this secret for this audience, method and path, or too old."""


def sign_request(secret: str, audience: str, method: str, path: str) -> tuple[str, str]:
    """The token for a request and its id (jti), which the answer must repeat. ``path`` is that of the URL, still escaped."""
    jti = secrets.token_hex(16)
    claims = {"use": "request", "aud": audience, "method": method, "path": path, "jti": jti, "exp": int(time.time()) + LIFETIME}
    return jwt.encode(claims, secret, ALGORITHM), jti


def verify_request(secret: str, audience: str, method: str, path: str, token: str) -> str:
    """The id of a request made by :func:`sign_request`. Raises BadSignature."""
    claims = _decode(secret, audience, token, "request", ["method", "path"])
    if claims["method"] != method or claims["path"] != path:
        raise BadSignature("signed for another request")
    return cast(str, claims["jti"])


def sign_answer(secret: str, audience: str, jti: str, body: Any) -> str:
    """The answer to request ``jti``; ``body`` is whatever JSON can hold."""
    return jwt.encode(
        {"use": "answer", "aud": audience, "jti": jti, "body": body, "exp": int(time.time()) + LIFETIME}, secret, ALGORITHM
    )


def verify_answer(secret: str, audience: str, jti: str, token: str | bytes) -> Any:
    """The body of the answer to request ``jti``. Raises BadSignature."""
    claims = _decode(secret, audience, token, "answer", ["body"])
    if claims["jti"] != jti:
        raise BadSignature("the answer to another request")
    return claims["body"]


def _decode(secret: str, audience: str, token: str | bytes, use: str, needed: list[str]) -> dict[str, Any]:
    if len(secret) < 32:
        raise BadSignature("no secret")
    try:
        claims: dict[str, Any] = jwt.decode(
            token, secret, [ALGORITHM], audience=audience, options={"require": ["aud", "jti", "exp", "use", *needed]}
        )
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        # PyJWT turns what it finds into numbers, and whoever has the secret may have signed anything.
        raise BadSignature(type(error).__name__) from None
    if claims["use"] != use or type(claims["jti"]) is not str:
        raise BadSignature(f"not a {use}")
    if type(claims["exp"]) not in (int, float) or not claims["exp"] <= time.time() + LIFETIME + 30:
        raise BadSignature("good for too long")
    return claims
