"""The gateway's two private keys, its host key and its user CA, as files: made once by ``jhssh-gateway keys init``."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh

HOST_KEY, USER_CA = "host_key", "user_ca"


def make(folder: Path) -> list[Path]:
    """Makes the keys that are not in ``folder`` yet, and returns the private files made; what is there is never touched.

    Private halves are 0600, public halves end in ``.pub``. Raises OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for name, comment in ((HOST_KEY, "jhssh gateway host key"), (USER_CA, "jhssh gateway user CA")):
        path = folder / name
        if path.exists():
            continue
        key = asyncssh.generate_private_key("ssh-ed25519", comment)
        _write(path.with_name(name + ".pub"), key.export_public_key(), 0o644)
        _write(path, key.export_private_key(), 0o600)
        made.append(path)
    return made


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
