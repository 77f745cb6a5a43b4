"""The folder, for this user alone, in which sshd finds its files; what earlier servers left behind is cleaned up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_SAFE = re.compile(r"/[A-Za-z0-9_./@+-]*")
AUTHORIZED_KEYS = "authorized_keys"
"""the file of the user's own keys, where they get in; without it the gateway's certificates do"""
_YOUNG = 60
"""seconds in which a folder may still lack its lock"""


class RuntimeDir:
    """Held by a lock (flock(2)), not by a process id: ids mean nothing across containers that share /tmp."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._base = _base(environ)
        remove_stale(self._base)
        self.path = Path(tempfile.mkdtemp(prefix=_prefix(), dir=self._base))
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, name: str, text: str) -> Path:
        """A file of mode 0600 in it. Raises OSError."""
        path = self.path / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        return path

    def replace(self, name: str, text: str) -> Path:
        """As :meth:`write`, for a file that is being read meanwhile. Raises OSError."""
        return self.write(name + ".new", text).replace(self.path / name)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_stale(base: Path) -> None:
    """Removes those folders of this user in ``base`` that no living server holds."""
    for found in base.glob(_prefix() + "*"):
        with contextlib.suppress(OSError):
            status = found.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            try:
                lock = os.open(found / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                if time.time() - status.st_mtime > _YOUNG:
                    shutil.rmtree(found, ignore_errors=True)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(lock)


def _prefix() -> str:
    return f"jhssh-{os.getuid()}-"


def _base(environ: Mapping[str, str]) -> Path:
    """``$XDG_RUNTIME_DIR`` where it is ours, else the folder for temporary files. Short, local, and safe in any sshd_config."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if _SAFE.fullmatch(runtime):
        with contextlib.suppress(OSError):
            status = os.stat(runtime)  # noqa: PTH116 - the mode and the owner are wanted
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and os.access(runtime, os.W_OK | os.X_OK):
                return Path(runtime)
    temporary = tempfile.gettempdir()
    return Path(temporary if _SAFE.fullmatch(temporary) else "/tmp")  # noqa: S108 - mkdtemp makes a folder for us alone
