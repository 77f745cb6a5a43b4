"""Paths that somebody typed, and the home that others begin with."""

from __future__ import annotations

from pathlib import Path

from ..identifiers import printable
from .failures import Failure, WrongUsage


def expanded(typed: str) -> Path:
    """Absolute, with ``~`` replaced. Raises Failure."""
    try:
        return Path(typed).expanduser().absolute()
    except RuntimeError:
        raise WrongUsage(f"{printable(typed)}: there is no such user with a home directory here.") from None
    except OSError as error:
        raise Failure(f"{printable(typed)} is relative to a folder that is gone: {error.strerror}.") from None


def home() -> Path:
    """Raises Failure."""
    try:
        return Path.home()
    except RuntimeError:
        raise Failure("Nobody knows where your home directory is. Set HOME.") from None
