"""A migrated database, on SQLite and on a real PostgreSQL, and a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.gateway.tables import Base


class Clock:
    """``clock()`` is seconds; ``clock.now += 60`` lets them pass."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return sqlite_url(str(tmp_path / "gateway.sqlite"))


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.migrate()
    yield database
    await database.close()


@pytest_asyncio.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """SQLite alone, made at once from tables.py (test_database.py compares it with the migrations)."""
    database = Database(sqlite_url(str(tmp_path / "keys.sqlite")))
    await database.run(lambda session: Base.metadata.create_all(session.connection()))
    yield database
    await database.close()
