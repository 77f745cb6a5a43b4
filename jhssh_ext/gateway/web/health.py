"""Whether the gateway serves SSH, and if not, why. Shown by /health."""

from __future__ import annotations


class Health:
    """``cause`` is empty while all is well. It is public: a sentence for the admin, never a secret."""

    def __init__(self) -> None:
        self.cause = ""

    def fail(self, cause: str) -> None:
        self.cause = cause

    def recover(self) -> None:
        self.cause = ""
