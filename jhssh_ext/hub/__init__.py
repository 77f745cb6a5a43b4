"""What runs in the Hub: spawner mixins that give user servers their way in by SSH."""

from __future__ import annotations

from .spawner_mixin import SSHSpawnerMixin

__all__ = ["SSHSpawnerMixin"]
