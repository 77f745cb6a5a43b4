"""The gateway's database: SQLite in a file of its own, or a PostgreSQL that several gateways share. Off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Executable, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from ..errors import DatabaseUnavailable

T = TypeVar("T")
READ_ONLY = "jhssh_read_only"
"""execution option of connections that only read"""
MIGRATION_LOCK = 0x6A687373
"""pg_advisory_lock(): one gateway migrates at a time ("jhss")"""
BUSY_TIMEOUT = 10.0
"""seconds that a statement waits for SQLite's lock, or for a connection to PostgreSQL"""
POSTGRESQL_TIMEOUTS = {"statement_timeout": "10s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "20s"}
"""what another gateway, or whoever else is in the database, can hold up (PostgreSQL, "Client Connection Defaults")"""


class Database:
    """``url`` as SQLAlchemy takes it. ``await database.run(work)`` calls ``work(session)`` in one transaction, in a thread.

    Raises ValueError for a URL that can't be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except SQLAlchemyError as error:
            raise ValueError(f"c.Gateway.database_url is not a URL of SQLAlchemy's: {error}") from None
        if self.url.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError(
                "c.Gateway.database_url is of neither SQLite (sqlite:///file) nor PostgreSQL (postgresql+psycopg://…)"
            )
        self._sqlite = self.url.get_backend_name() == "sqlite"
        # SQLite has one writer anyway; more threads would only wait for its lock.
        workers = 1 if self._sqlite else 8
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="database")
        # Reads do not wait for a write that is being made durable.
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="database-read") if self._sqlite else self._threads
        try:
            self._engine = create_engine(self.url, **self._options(workers))
        except (ImportError, SQLAlchemyError) as error:
            raise ValueError(f"c.Gateway.database_url: {error}; for PostgreSQL install jhssh-ext[postgresql]") from None
        event.listen(self._engine, "connect", _set_up_sqlite if self._sqlite else _set_up_postgresql)
        if self._sqlite:
            event.listen(self._engine, "begin", _begin_sqlite)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._reader = self._engine.execution_options(**{READ_ONLY: True})
        self._reading = sessionmaker(self._reader, expire_on_commit=False)

    def _options(self, workers: int) -> dict[str, Any]:
        if self._sqlite:
            return {"connect_args": {"timeout": BUSY_TIMEOUT, "check_same_thread": False}}
        options: dict[str, Any] = {"pool_size": workers, "max_overflow": 0, "pool_pre_ping": True, "pool_timeout": BUSY_TIMEOUT}
        if self.url.get_driver_name() in ("psycopg", "psycopg2"):
            # A machine that is gone answers nothing, not even that (libpq, "Parameter Key Words").
            wait = {"connect_timeout": str(int(BUSY_TIMEOUT)), "tcp_user_timeout": str(int(1000 * BUSY_TIMEOUT))}
            options["connect_args"] = {name: value for name, value in wait.items() if name not in self.url.query}
        return options

    async def run(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns, once it is committed; its exceptions roll back. Raises DatabaseUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_here, work)

    async def read(self, work: Callable[[Session], T]) -> T:
        """The same for work that only reads; what is being written does not hold it up."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._transaction, self._reading, work)

    async def select(self, *statements: Executable) -> list[Sequence[Any]]:
        """The rows of each SELECT; what is being written does not hold them up. Raises DatabaseUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._select_here, statements)

    def run_here(self, work: Callable[[Session], T]) -> T:
        """The same in this thread."""
        return self._transaction(self._sessions, work)

    def _transaction(self, sessions: sessionmaker[Session], work: Callable[[Session], T]) -> T:
        with _told_apart(), sessions.begin() as session:
            return work(session)

    def _select_here(self, statements: tuple[Executable, ...]) -> list[Sequence[Any]]:
        with _told_apart(), self._reader.begin() as connection:
            return [connection.execute(statement).all() for statement in statements]

    async def migrate(self) -> None:
        """Makes the tables, or brings them up to date (alembic). Raises DatabaseUnavailable."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self.migrate_here)

    def migrate_here(self) -> None:
        """The same in this thread."""
        if self._sqlite and self.url.database not in (None, "", ":memory:"):
            _make_private(Path(str(self.url.database)))
        with _told_apart(), self._engine.begin() as connection:
            if not self._sqlite:
                for name in POSTGRESQL_TIMEOUTS:  # a change of a large table takes its time, and others wait for it
                    connection.execute(text(f"SET LOCAL {name} = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            _upgrade(connection)

    async def close(self) -> None:
        """Ends what runs, then the connections."""
        for threads in {self._threads, self._readers}:
            await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)
        self._engine.dispose()


def sqlite_url(path: str) -> str:
    """The URL of a file."""
    return URL.create("sqlite", database=path).render_as_string(hide_password=False)


def alembic_config() -> Config:
    """Where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(resources.files("jhssh_ext.gateway") / "migrations").replace("%", "%%"))
    return config


def _upgrade(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def upsert(session: Session, table: type[DeclarativeBase], rows: Sequence[dict[str, Any]]) -> None:
    """Makes or replaces rows, each given as column name → value. Two who do so at once both succeed."""
    found = cast(Table, table.__table__)
    keys = [column.name for column in found.primary_key]
    statement = _insert(session, found)
    others = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), rows)


def insert_missing(session: Session, table: type[DeclarativeBase], rows: Sequence[dict[str, Any]]) -> None:
    """Makes those rows whose keys none has."""
    session.execute(_insert(session, cast(Table, table.__table__)).on_conflict_do_nothing(), rows)


def _insert(session: Session, table: Table) -> Any:
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """No transactions of Python's own, which leave out CREATE TABLE; readers beside a writer (sqlite.org/wal.html)."""
    connection.isolation_level = None
    with contextlib.suppress(sqlite3.OperationalError):  # another is at it; the mode is the file's
        connection.execute("PRAGMA journal_mode=WAL").close()


def _set_up_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        for name, value in POSTGRESQL_TIMEOUTS.items():
            cursor.execute(f"SET {name} = '{value}'")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    """Waits for the lock at once: a transaction that reads first and then writes would fail beside another."""
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(READ_ONLY) else "BEGIN IMMEDIATE")


def _make_private(path: Path) -> None:
    """It says who uses which key from where: for the gateway's eyes alone."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise DatabaseUnavailable(explanation=f"{path}: {error.strerror}. Check database_url.") from error


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """Of what goes wrong only DatabaseUnavailable leaves here, with what the log is to say."""
    try:
        yield
    except CommandError as error:
        raise DatabaseUnavailable(
            explanation=f"its tables are not of this version: {error}. Was it used by a newer gateway?"
        ) from error
    except UnicodeEncodeError as error:
        raise DatabaseUnavailable(explanation=f"it cannot hold what it was given: {error.reason}") from error
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(explanation=f"{_said(error)}. Check database_url.") from error


def _said(error: SQLAlchemyError) -> str:
    """Without the statement and its values."""
    return f"{type(error).__name__}: {error.orig}" if isinstance(error, DBAPIError) else type(error).__name__
