"""The database, on SQLite and on a real PostgreSQL: migrations make what tables.py says; transactions; what failures become."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text, update
from sqlalchemy.orm import Session

from jhssh_ext.errors import DatabaseUnavailable
from jhssh_ext.gateway.database import POSTGRESQL_TIMEOUTS, Database, alembic_config, sqlite_url
from jhssh_ext.gateway.tables import Approval, Base, KeyUse


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return sqlite_url(str(tmp_path / "gateway.sqlite"))


@pytest.mark.asyncio
async def test_migrations_make_what_the_tables_say(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.migrate()  # nothing is left to do
    await database.close()
    engine = create_engine(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()
    assert differences == []


@pytest.mark.asyncio
async def test_gateways_that_start_at_once_migrate_once(url: str) -> None:
    databases = [Database(url) for _ in range(3)]
    await asyncio.gather(*(database.migrate() for database in databases))
    versions = await databases[0].read(lambda session: session.scalars(text("SELECT version_num FROM alembic_version")).all())
    assert len(versions) == 1, "one row, whoever wrote it"
    for database in databases:
        await database.close()


@pytest.mark.asyncio
async def test_tables_of_a_newer_gateway_are_left_alone(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.run(lambda session: session.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(DatabaseUnavailable, match="newer gateway"):
        await database.migrate()
    await database.close()


@pytest.mark.asyncio
async def test_a_row_that_somebody_holds_holds_up_nobody_for_long(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another gateway does that was stopped, or whose machine lost power, in the middle of a transaction."""
    monkeypatch.setitem(POSTGRESQL_TIMEOUTS, "lock_timeout", "300ms")
    database = Database(postgresql)
    await database.migrate()
    await database.run(lambda session: session.add(KeyUse(user="alice", fingerprint="SHA256:x", used=1.0, address="192.0.2.1")))
    engine = create_engine(postgresql)
    with engine.connect() as elsewhere, elsewhere.begin():
        elsewhere.execute(select(KeyUse).with_for_update()).all()
        stuck = [database.run(lambda session: session.execute(update(KeyUse).values(used=2.0))) for _ in range(8)]
        outcomes = await asyncio.wait_for(asyncio.gather(*stuck, return_exceptions=True), 10)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 8
    assert await database.read(lambda session: session.scalars(select(KeyUse.used)).all()) == [1.0]
    engine.dispose()
    await database.close()


@pytest.mark.parametrize("name", ["\ud800", "nul\0"])
@pytest.mark.asyncio
async def test_what_cannot_be_stored_is_no_raw_error(url: str, name: str) -> None:
    database = Database(url)
    await database.migrate()
    row = {"user": name, "fingerprint": "SHA256:x", "used": 1.0, "address": ""}
    refused = pytest.raises(DatabaseUnavailable) if url.startswith("postgresql") or name == "\ud800" else nullcontext()
    with refused:
        await database.run(lambda session: session.add(KeyUse(**row)))
    await database.close()


@pytest.mark.parametrize("url", ["what?", "mysql://host/db", "postgresql+nodriver://host/db", "sqlite+nodriver:///x"])
def test_urls_that_cannot_be_used_are_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="database_url"):
        Database(url)


@pytest.mark.asyncio
async def test_a_failed_transaction_leaves_nothing(url: str) -> None:
    database = Database(url)
    await database.migrate()

    def half(session: Session) -> None:
        session.add(KeyUse(user="alice", fingerprint="SHA256:x", used=1.0, address="192.0.2.1"))
        session.flush()
        raise LookupError

    with pytest.raises(LookupError):
        await database.run(half)
    assert await database.run(lambda session: session.scalars(select(KeyUse)).all()) == []
    await database.close()


@pytest.mark.asyncio
async def test_failures_are_one_type_and_show_no_values(tmp_path: Path) -> None:
    database = Database(sqlite_url(str(tmp_path / "gateway.sqlite")))
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.run(lambda session: session.execute(text("SELECT * FROM nowhere WHERE x = :x"), {"x": "secret"}))
    assert "secret" not in str(caught.value)
    assert "database_url" in str(caught.value)
    await database.close()
    with pytest.raises(DatabaseUnavailable, match="database_url"):
        await Database(sqlite_url(str(tmp_path / "no" / "folder"))).migrate()
    with pytest.raises(ValueError, match="database_url"):
        Database("nonsense")


@pytest.mark.asyncio
async def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    database = Database(sqlite_url(str(path)))
    await database.migrate()
    assert {stat.S_IMODE(found.stat().st_mode) for found in tmp_path.glob("gateway.sqlite*")} == {0o600}
    await database.close()


def test_a_database_of_the_first_version_is_brought_up_to_date_and_back(url: str) -> None:
    """With a login in mid-approval; a gateway of the first version that still runs beside goes on writing its rows."""
    columns = (
        "id, code_digest, login_name, user_name, server_name, network, address, offered, state, number_digest, tries, created"
    )
    values = "'{}', '{}', 'alice', 'alice', '', '', '', '', 'waiting', '', 0, 1, 1, 2"
    row = f"INSERT INTO approvals ({columns}, seen, expires) VALUES ({values})"
    engine = create_engine(url)

    def migrate(to: str, step: Callable[[Config, str], None] = command.upgrade) -> None:
        config = alembic_config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            step(config, to)

    migrate("0001")
    with engine.begin() as connection:
        connection.execute(text(row.format("before", "1")))
    database = Database(url)
    database.migrate_here()
    with engine.begin() as connection:
        connection.execute(text(row.format("after", "2")))
    found = database.run_here(lambda session: session.scalars(select(Approval).order_by(Approval.id)).all())
    assert [(each.id, each.client, each.handle_digest, each.by_proxy) for each in found] == [
        ("after", "", "", False),
        ("before", "", "", False),
    ]
    asyncio.run(database.close())
    migrate("0001", command.downgrade)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM approvals")).scalar() == 2
        assert "client_tokens" not in inspect(connection).get_table_names()
    engine.dispose()
