"""The sidecar as a way in for the conformance table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..conformance.targets import Target, resident
from .pod import Pod, pod


def target_of(made: Pod) -> Target:
    return Target(
        "sidecar-direct",
        made.write_ssh_config(),
        "server",
        made.home,
        made.home,
        made.user_environment(),
        sockets=made.volume / "user",
        memory=lambda: resident(*made.notebook.find("agent.py")[:2], *made.sidecar.find("[listener]")),
    )


@contextmanager
def sidecar_direct() -> Iterator[Target]:
    """The sidecar's sshd and the session agent in containers of their own; nothing between."""
    with pod() as made:
        yield target_of(made)
