"""What runs in the Hub: spawner mixins that give user servers their way in by SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .spawner_mixin import SSHSpawnerMixin

if TYPE_CHECKING:
    from .kubespawner import SSHKubeSpawner

__all__ = ["SSHKubeSpawner", "SSHSpawnerMixin"]


def __getattr__(name: str) -> Any:
    # KubeSpawner is of an extra of its own, and takes seconds to import.
    if name == "SSHKubeSpawner":
        from .kubespawner import SSHKubeSpawner

        return SSHKubeSpawner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
