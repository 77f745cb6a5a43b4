"""The outcome of a proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...login_names import UserServer


@dataclass(frozen=True)
class Login:
    """Who came in, by what, and into which user server: made from a verified proof alone, read in place of the SSH user name."""

    target: UserServer
    method: Literal["publickey", "keyboard-interactive", "password"]
    fingerprint: str
    """of the key; empty for a token and for an approval in the browser"""
    address: str
    """of the client"""
    may_start: bool
    """may a stopped server be started for it?"""
    own: bool = True
    """is it the user of the server, not one with whom it is shared?"""
