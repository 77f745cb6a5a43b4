"""The two spawners of JupyterHub itself, with SSH: user servers that are processes on the Hub's machine."""

from __future__ import annotations

import os
import pwd

from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner

from .spawner_mixin import SSHSpawnerMixin


class SSHLocalProcessSpawner(SSHSpawnerMixin, LocalProcessSpawner):
    """LocalProcessSpawner with SSH: each user is an account of the machine."""

    def get_ssh_user(self) -> str:
        return str(self.user.name)


class SSHSimpleLocalProcessSpawner(SSHSpawnerMixin, SimpleLocalProcessSpawner):
    """SimpleLocalProcessSpawner with SSH: every server runs under the Hub's own account. For trials only, as its base is."""

    def get_ssh_user(self) -> str:
        """The Hub's account; where it has no name (a container with a random uid), its uid."""
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return str(os.geteuid())
