"""Two gateways on one database: what each sees of the other's connections, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from sqlalchemy import create_engine, delete, func, select, text
from sqlalchemy.orm import Session

from jhssh_ext.errors import ConnectionEnded, DatabaseUnavailable, JHSSHError
from jhssh_ext.gateway.authenticate.login import Login
from jhssh_ext.gateway.authenticate.sessions import Sessions
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.gateway.tables import OpenSession
from jhssh_ext.login_names import UserServer

ALICE, GPU, BOB = UserServer("alice"), UserServer("alice", "gpu"), UserServer("bob")
KEY, OTHER_KEY = "SHA256:" + "a" * 43, "SHA256:" + "b" * 43


@dataclass
class Connection:
    """One that a test opened."""

    id: str
    target: UserServer
    ends: list[JHSSHError] = field(default_factory=list)
    bytes: tuple[int, int] = (0, 0)


@dataclass
class Gateways:
    database: Database
    here: Sessions
    there: Sessions
    now: list[float]

    async def open(self, where: Sessions, target: UserServer, fingerprint: str = KEY) -> Connection:
        made = Connection("", target)
        method = "publickey" if fingerprint else "password"
        login = Login(target, method, fingerprint, "192.0.2.7", may_start=True)  # type: ignore[arg-type]
        made.id = await where.opened(login, made.ends.append, lambda: made.bytes)
        return made


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def gateways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateways]:
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql"))
    else:
        url = sqlite_url(str(tmp_path_factory.mktemp("sessions") / "gateway.sqlite"))
    databases = [Database(url), Database(url)]
    await databases[0].migrate()
    now = [1000.0]
    here, there = (Sessions(database, poll=0.02, clock=lambda: now[0]) for database in databases)
    yield Gateways(databases[0], here, there, now)
    for part in (here, there, *databases):
        await part.close()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async def wait() -> None:
        while not await true():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), 30)


async def ids(sessions: Sessions, user: str | None = None, search: str = "") -> set[str]:
    return {found.id for found in await sessions.list(user, search=search)}


@pytest.mark.asyncio
async def test_a_connection_is_listed_everywhere_until_it_closes(gateways: Gateways) -> None:
    connection = await gateways.open(gateways.here, GPU)
    (found,) = await gateways.there.list("alice")
    assert (found.user, found.server, found.method, found.fingerprint) == ("alice", "gpu", "publickey", KEY)
    assert (found.address, found.since) == ("192.0.2.7", 1000.0)
    gateways.here.closed(connection.id)
    gateways.here.closed(connection.id)
    assert await ids(gateways.here) == set(), "at once where it was"

    async def forgotten() -> bool:
        return await ids(gateways.there) == set()

    await until(forgotten)


@pytest.mark.asyncio
async def test_bytes_are_those_of_now_here_and_of_the_last_heartbeat_there(gateways: Gateways) -> None:
    connection = await gateways.open(gateways.here, ALICE)
    connection.bytes = (7, 9)
    (found,) = await gateways.here.list()
    assert (found.from_client, found.from_server) == (7, 9)
    gateways.now[0] += 15

    async def told() -> bool:
        (found,) = await gateways.there.list()
        return (found.from_client, found.from_server) == (7, 9)

    await until(told)


@pytest.mark.asyncio
async def test_users_see_their_own_and_admins_find_all(gateways: Gateways) -> None:
    mine, hers = await gateways.open(gateways.here, BOB), await gateways.open(gateways.there, GPU, OTHER_KEY)
    assert await ids(gateways.here, "bob") == {mine.id}
    assert await ids(gateways.here) == {mine.id, hers.id}
    for search in ("LIC", "gpu", "b" * 43):
        assert await ids(gateways.here, search=search) == {hers.id}, search
    assert await ids(gateways.here, search="192.0.2") == {mine.id, hers.id}
    assert await ids(gateways.here, search="%") == set()
    assert len(await gateways.here.list(limit=1)) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["here", "there"])
async def test_one_is_ended_from_any_gateway_but_not_by_another_user(gateways: Gateways, where: str) -> None:
    connection = await gateways.open(gateways.here, ALICE)
    asked: Sessions = getattr(gateways, where)
    assert not await asked.end(connection.id, "bob")
    assert not await asked.end("unknown")
    assert connection.ends == []
    assert await asked.end(connection.id, "alice")

    async def ended() -> bool:
        return bool(connection.ends)

    await until(ended)
    assert connection.ends[0].code == "CONNECTION_ENDED"


@pytest.mark.asyncio
async def test_a_removed_key_ends_what_it_opened_and_nothing_else(gateways: Gateways) -> None:
    opened = [
        await gateways.open(where, target, key)
        for where in (gateways.here, gateways.there)
        for target, key in ((ALICE, KEY), (GPU, KEY), (ALICE, OTHER_KEY), (ALICE, ""), (BOB, KEY))
    ]
    assert await gateways.here.end_by_key("alice", "", [KEY, ""]) == 2

    async def ended() -> bool:
        return bool(opened[0].ends and opened[5].ends)

    await until(ended)
    assert [bool(each.ends) for each in opened] == [True, False, False, False, False] * 2
    assert await gateways.there.end_by_key("alice", None, [KEY, OTHER_KEY]) >= 4

    async def all_ended() -> bool:
        return all(each.ends for each in (*opened[:3], *opened[5:8]))

    await until(all_ended)
    assert not any(each.ends for each in (opened[3], opened[4], opened[8], opened[9]))


@pytest.mark.asyncio
async def test_connections_of_a_gateway_that_died_are_forgotten(gateways: Gateways) -> None:
    await gateways.open(gateways.here, ALICE)
    gateways.here._task.cancel()  # type: ignore[union-attr]
    gateways.now[0] += 61
    assert await gateways.there.list() == []
    gateways.now[0] += 86400
    await gateways.open(gateways.there, BOB)
    rows = await gateways.database.run(lambda session: session.scalars(select(OpenSession.user)).all())
    assert rows == ["bob"]


@pytest.mark.asyncio
async def test_a_gateway_that_was_taken_for_dead_comes_back(gateways: Gateways) -> None:
    connection = await gateways.open(gateways.here, ALICE)
    await gateways.database.run(lambda session: session.execute(delete(OpenSession)))
    gateways.now[0] += 15

    async def back() -> bool:
        return await ids(gateways.there) == {connection.id}

    await until(back)


@pytest.mark.asyncio
async def test_a_gateway_that_was_cut_off_learns_who_was_to_end_meanwhile(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await gateways.open(gateways.there, ALICE)
    with monkeypatch.context() as cut:
        for name in ("run", "read", "select"):
            cut.setattr(gateways.there._database, name, _no_answer)
        gateways.now[0] += 3600
        await gateways.open(gateways.here, BOB)
        assert await gateways.here.end_by_key("alice", None, [KEY]) == 1

    async def ended() -> bool:
        return [type(end) for end in connection.ends[:1]] == [ConnectionEnded]

    await until(ended)


async def _no_answer(*_: object) -> object:
    raise DatabaseUnavailable


@pytest.mark.asyncio
async def test_a_key_whose_removal_nobody_told_ends_what_it_opened_at_the_next_heartbeat(gateways: Gateways) -> None:
    opens = True

    async def still_opens() -> bool:
        return opens

    ends: list[JHSSHError] = []
    login = Login(ALICE, "publickey", KEY, "192.0.2.7", may_start=True)
    await gateways.here.opened(login, ends.append, lambda: (0, 0), still_opens)
    beside = await gateways.open(gateways.here, ALICE)
    gateways.now[0] += 15
    await until(lambda: _told(gateways))
    assert ends == []
    opens = False
    gateways.now[0] -= 7200  # nor does a clock that is put back keep it
    await until(lambda: _is(ends != []))
    assert [type(end) for end in ends[:1]] == [ConnectionEnded]
    assert beside.ends == []


async def _is(true: bool) -> bool:
    return true


async def _told(gateways: Gateways) -> bool:
    query = select(func.min(OpenSession.seen))
    return await gateways.database.run(lambda session: session.scalar(query)) == gateways.now[0]


def _somebody_waits(session: Session) -> bool:
    return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


@pytest.mark.asyncio
async def test_connections_that_close_meanwhile_keep_none_from_being_ended(gateways: Gateways) -> None:
    """PostgreSQL: the row of one is being deleted while all of a key are marked. (SQLite has one writer.)"""
    opened = [await gateways.open(gateways.there, ALICE) for _ in range(3)]
    if gateways.database.url.get_backend_name() == "postgresql":
        engine = create_engine(gateways.database.url)
        with engine.begin() as connection:
            connection.execute(delete(OpenSession).where(OpenSession.id == opened[1].id))
            marking = asyncio.create_task(gateways.here.end_by_key("alice", None, [KEY]))
            await until(lambda: gateways.database.run(_somebody_waits))
        engine.dispose()
        assert await marking == 2
    else:
        gateways.there.closed(opened[1].id)
        assert await gateways.here.end_by_key("alice", None, [KEY]) in (2, 3)
    await until(lambda: _is(bool(opened[0].ends and opened[2].ends)))


@pytest.mark.asyncio
async def test_an_end_takes_its_connections_along(gateways: Gateways) -> None:
    await gateways.open(gateways.here, ALICE)
    await gateways.here.close()
    assert await gateways.there.list() == []


@pytest.mark.asyncio
async def test_without_a_database_connections_open_and_are_told_later(gateways: Gateways) -> None:
    connection = Connection("", ALICE)
    nowhere = Database("sqlite:////nowhere/at/all.sqlite")
    broken = Sessions(nowhere, poll=0.02)
    login = Login(ALICE, "password", "", "192.0.2.7", may_start=True)
    id = await broken.opened(login, connection.ends.append, lambda: (0, 0))
    broken._database = gateways.database
    await nowhere.close()

    async def told() -> bool:
        return id in await ids(broken)

    await until(told)
    await broken.close()
