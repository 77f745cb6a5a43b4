from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio

from jhssh_ext.errors import HubUnavailable, KeyDuplicate, KeyTooMany
from jhssh_ext.gateway.authenticate.user_keys import DAY, MAX_KEYS, UserKeys
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.public_keys import PublicKey, parse_line

FIRST, LATER = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def new_key(comment: str = "") -> PublicKey:
    return parse_line(asyncssh.generate_private_key("ssh-ed25519", comment or None).export_public_key().decode().strip())


KEY, OTHER = new_key("alice@laptop"), new_key()


class Store(UserKeys):
    """Keys with a clock of the test's, and who was told of removals."""

    def __init__(self, database: Database, **keywords: float) -> None:
        self.now = 1000.0
        self.told: list[tuple[str, str | None, list[str]]] = []
        super().__init__(database, lambda: self.now, removed=self._note, **keywords)

    async def _note(self, user: str, server: str | None, fingerprints: Collection[str]) -> None:
        self.told.append((user, server, list(fingerprints)))


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    postgresql = request.param == "postgresql"
    made = Database(request.getfixturevalue("postgresql") if postgresql else sqlite_url(str(tmp_path / "gateway.sqlite")))
    await made.migrate()
    yield made
    await made.close()


@pytest.mark.asyncio
async def test_keys_are_listed_with_all_that_is_known_of_them(database: Database) -> None:
    keys = Store(database)
    await keys.add("alice", FIRST, KEY, "page")
    keys.now += 10
    await keys.add("alice", FIRST, OTHER, "approval")
    await keys.used("alice", OTHER.fingerprint, "192.0.2.1")
    keys.now += 10
    await keys.used("alice", OTHER.fingerprint, "192.0.2.2")
    first, second = await keys.list("alice", FIRST)
    assert (first.fingerprint, first.comment, first.source, first.added, first.expires) == (
        KEY.fingerprint, "alice@laptop", "page", 1000.0, None,
    )  # fmt: skip
    assert first.public_key == KEY.line.removesuffix(" alice@laptop")
    assert (first.last_used, first.last_address) == (None, "")
    assert (second.source, second.last_used, second.last_address) == ("approval", 1020.0, "192.0.2.2")
    assert await keys.list("bob", FIRST) == []
    assert await keys.users() == {"alice": {FIRST}}


@pytest.mark.asyncio
async def test_a_key_counts_for_its_user_alone_until_it_is_removed(database: Database) -> None:
    keys = Store(database)
    await keys.add("alice", FIRST, KEY, "page")
    assert await keys.holds("alice", KEY)
    assert await keys.holds("alice", KEY, FIRST)
    assert not await keys.holds("alice", OTHER)
    assert not await keys.holds("bob", KEY)
    assert not await keys.remove("bob", KEY.fingerprint)
    assert keys.told == []
    assert await keys.remove("alice", KEY.fingerprint)
    assert not await keys.holds("alice", KEY)
    assert keys.told == [("alice", None, [KEY.fingerprint])]


@pytest.mark.asyncio
async def test_what_cannot_be_added(database: Database) -> None:
    keys = Store(database)
    await keys.add("alice", FIRST, KEY, "page")
    with pytest.raises(KeyDuplicate):
        await keys.add("alice", FIRST, KEY, "approval")
    with pytest.raises(HubUnavailable, match="read:users"):
        await keys.add("alice", "", OTHER, "page")
    for _ in range(MAX_KEYS - 1):
        await keys.add("alice", FIRST, new_key(), "page")
    with pytest.raises(KeyTooMany):
        await keys.add("alice", FIRST, OTHER, "page")
    await keys.add("bob", FIRST, KEY, "page")


@pytest.mark.asyncio
async def test_several_are_added_together_or_none_is(database: Database) -> None:
    keys = Store(database)
    await keys.add("alice", FIRST, KEY, "page")
    assert await keys.add_all("alice", FIRST, [KEY, OTHER, OTHER], "page") == [OTHER]
    assert await keys.add_all("alice", FIRST, [KEY, OTHER], "page") == []
    with pytest.raises(KeyTooMany):
        await keys.add_all("alice", FIRST, [new_key() for _ in range(MAX_KEYS - 1)], "page")
    assert len(await keys.list("alice", FIRST)) == 2


@pytest.mark.asyncio
async def test_the_same_key_twice_at_once_is_one(database: Database) -> None:
    keys = Store(database)
    added = [keys.add("alice", FIRST, KEY, "page") for _ in range(4)]
    outcomes = await asyncio.gather(*added, return_exceptions=True)
    assert {type(each) for each in outcomes} <= {type(None), KeyDuplicate}
    assert len(await keys.list("alice", FIRST)) == 1


async def told(keys: Store, key: PublicKey | None) -> set[str]:
    """What alice is told of at a login by this key, or by none."""
    keys.now += 1
    found = await keys.announce("alice", key.fingerprint if key else "")
    if key:
        await keys.used("alice", key.fingerprint, "192.0.2.1")
    return {each.fingerprint for each in found}


@pytest.mark.asyncio
async def test_a_remembered_key_is_announced_once_to_who_comes_in_otherwise(database: Database) -> None:
    keys = Store(database)
    await keys.add("alice", FIRST, KEY, "page")
    await keys.add("alice", FIRST, OTHER, "approval")
    assert await keys.announce("bob", "") == []
    assert await told(keys, OTHER) == set(), "who had it remembered is told nothing new"
    for way in (KEY, None):
        assert await told(keys, way) == {OTHER.fingerprint}
        assert await told(keys, way) == set()


@pytest.mark.asyncio
@pytest.mark.parametrize(("source", "count"), [("page", 0), ("approval", 1), ("client", 1)])
async def test_keys_that_were_not_added_on_the_page_are_announced(database: Database, source: str, count: int) -> None:
    keys = Store(database)
    await keys.used("alice", KEY.fingerprint, "192.0.2.1")
    await keys.add("alice", FIRST, OTHER, source)
    for fingerprint in (KEY.fingerprint, ""):
        assert [key.source for key in await keys.announce("alice", fingerprint)] == [source] * count


@pytest.mark.asyncio
async def test_who_adds_keys_cannot_use_up_what_the_holder_of_another_is_told(database: Database) -> None:
    """Who holds a token of the command adds two, and logs in with each, and with a token from within the server."""
    keys = Store(database)
    mine, evil, worse = new_key(), new_key(), new_key()
    await keys.add("alice", FIRST, mine, "client")
    assert await told(keys, mine) == set()
    keys.now += 1
    await keys.add_all("alice", FIRST, [evil, worse], "client")
    assert await told(keys, evil) == {mine.fingerprint, worse.fingerprint}
    assert await told(keys, worse) == {mine.fingerprint, evil.fingerprint}
    assert await told(keys, None) == {each.fingerprint for each in (mine, evil, worse)}
    assert await told(keys, None) == set()
    await keys.remove("alice", mine.fingerprint)
    await keys.add("alice", FIRST, mine, "client")
    assert await told(keys, mine) == {evil.fingerprint, worse.fingerprint}
    assert await told(keys, mine) == set(), "once"


@pytest.mark.asyncio
async def test_a_key_that_has_to_be_renewed_opens_nothing_and_is_there(database: Database) -> None:
    keys = Store(database, max_age=30)
    await keys.add("alice", FIRST, KEY, "page")
    keys.now += 31 * DAY
    assert not await keys.holds("alice", KEY)
    assert await keys.has("alice", KEY), "what it opened before stays open"
    assert not await keys.has("alice", OTHER)


@pytest.mark.asyncio
async def test_a_user_made_anew_owns_no_earlier_keys(database: Database) -> None:
    keys = Store(database)
    await keys.add("alice", FIRST, KEY, "page")
    assert not await keys.holds("alice", KEY, LATER)
    assert not await keys.renew("alice", LATER, KEY.fingerprint)
    await keys.add("alice", LATER, OTHER, "page")
    assert [key.fingerprint for key in await keys.list("alice", LATER)] == [OTHER.fingerprint]
    assert keys.told == [("alice", None, [KEY.fingerprint])]


@pytest.mark.asyncio
async def test_a_user_who_is_gone_leaves_nothing(database: Database) -> None:
    keys = Store(database)
    await keys.add("alice", FIRST, KEY, "page")
    await keys.used("alice", KEY.fingerprint, "192.0.2.1")
    await keys.forget("alice")
    assert await keys.list("alice", FIRST) == []
    assert keys.told == [("alice", None, [KEY.fingerprint])]
    await keys.add("alice", FIRST, KEY, "page")
    assert (await keys.list("alice", FIRST))[0].last_used is None


@pytest.mark.asyncio
async def test_keys_grow_old_where_the_admin_says_so(database: Database) -> None:
    keys = Store(database, max_age=30)
    await keys.add("alice", FIRST, KEY, "page")
    assert (await keys.list("alice", FIRST))[0].expires == 1000 + 30 * DAY
    keys.now += 30 * DAY - 1
    assert await keys.holds("alice", KEY, FIRST)
    keys.now += 1
    assert not await keys.holds("alice", KEY, FIRST)
    assert await keys.renew("alice", FIRST, KEY.fingerprint)
    assert await keys.holds("alice", KEY, FIRST)
    assert not await keys.renew("alice", FIRST, OTHER.fingerprint)
