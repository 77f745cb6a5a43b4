"""A real PostgreSQL server on loopback, its files in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .processes import free_port, stop_child, tail, wait_until


def programs() -> Path | None:
    """The folder with initdb and postgres: on PATH, or where Debian keeps it."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


@contextmanager
def running() -> Iterator[str]:
    """Yields the SQLAlchemy URL of an empty database; the server ends with the context."""
    found = programs()
    assert found is not None, "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    # pytest's own folders are for one user alone, and PostgreSQL refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="jhssh-postgresql-") as name:
        folder, identity = Path(name), _identity(Path(name))
        data, port = folder / "data", free_port()
        subprocess.run(
            [found / "initdb", "-D", data, "-U", "jhssh", "--auth=trust", "--no-sync", "--encoding=UTF8"],
            check=True, capture_output=True, cwd=folder, timeout=120, **identity,
        )  # fmt: skip
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [found / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1",
                 "-c", "fsync=off"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **identity,
            )  # fmt: skip
        try:
            ready = [found / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0 or server.poll(), what="PostgreSQL to be ready")
            assert server.poll() is None, tail(folder / "log")
            yield f"postgresql+psycopg://jhssh@127.0.0.1:{port}/postgres"
        finally:
            stop_child(server, signal.SIGINT)  # SIGTERM would wait for clients to leave


def _identity(folder: Path) -> dict[str, Any]:
    """Popen's arguments to run as the account that Debian's package made, where we are root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
