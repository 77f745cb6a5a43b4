"""What all tests of the gateway in this process have in common."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event


@pytest.fixture(scope="session", autouse=True)
def sqlite_without_fsync() -> Iterator[None]:
    """No test here cuts the power, and a busy disk takes seconds to make a commit durable (SQLite, "PRAGMA synchronous")."""

    def off(connection: object, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF").close()

    event.listen(Engine, "connect", off)
    yield
    event.remove(Engine, "connect", off)
