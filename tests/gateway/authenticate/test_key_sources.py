"""One suite for all key sources: what each must do wherever keys are kept, and what user-wide ones do besides."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
import pytest_asyncio

from jhssh_ext.errors import KeySourceUnavailable, KeyUnknown, ServerStopped, ServerUnreachable
from jhssh_ext.gateway.authenticate.key_cache import KeyCache
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.authenticate.key_sources.hub_page import HubPageKeys
from jhssh_ext.gateway.authenticate.key_sources.source import KeySource
from jhssh_ext.gateway.authenticate.key_sources.url_template import URLTemplateKeys
from jhssh_ext.gateway.authenticate.key_sources.user_server import UserServerKeys
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.gateway.authenticate.user_keys import UserKeys
from jhssh_ext.gateway.connect.hub_models import UserModel
from jhssh_ext.gateway.database import Database
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import PublicKey

from ...fakes.http_server import FakeServer, Request, http_server, response
from .conftest import Clock
from .test_key_cache import ALICE, BOB, FIRST, KEY, LATER, OTHER, UP

GPU = UserServer("alice", "gpu")
OLD = 901


class FakeHub:
    """Knows when its users were made."""

    def __init__(self) -> None:
        self.created = {"alice": FIRST, "bob": FIRST}

    async def user(self, name: str) -> UserModel | None:
        return UserModel(name, {}, self.created[name]) if name in self.created else None


class Place(ABC):
    """Where alice keeps keys, and the source that knows of it."""

    source: KeySource

    def __init__(self) -> None:
        self.hub = FakeHub()

    @abstractmethod
    async def put(self, *keys: PublicKey) -> None:
        """These are her keys now."""

    @abstractmethod
    async def changed(self) -> None:
        """As much time passes, or is told, that the change counts."""

    async def holds(self, target: UserServer, key: PublicKey, created: str = FIRST, *, may_fetch: bool = True) -> bool:
        return await self.source.holds(target, key, may_fetch=may_fetch, created=created)


class OnServer(Place):
    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self.keys: frozenset[PublicKey] = frozenset()
        self.source = UserServerKeys(KeyCache(KeyCopies(database, "server"), self.fetch, clock=clock))

    async def fetch(self, target: UserServer) -> Fetched:
        created = self.hub.created.get(target.user)
        if created is None:
            raise KeyUnknown
        return Fetched(self.keys if target == ALICE else frozenset(), "1", created)

    async def put(self, *keys: PublicKey) -> None:
        self.keys = frozenset(keys)

    async def changed(self) -> None:
        assert isinstance(self.source, UserServerKeys)
        await self.source.cache.expire(ALICE)


class OnPage(Place):
    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self.keys = UserKeys(database, clock)
        self.source = HubPageKeys(self.keys)

    async def put(self, *keys: PublicKey) -> None:
        for there in await self.keys.list("alice", FIRST):
            await self.keys.remove("alice", there.fingerprint)
        for key in keys:
            await self.keys.add("alice", FIRST, key, "page")

    async def changed(self) -> None:
        """It counts at once."""


class OnSite(Place):
    """``answer`` is what the site says for alice, if it is set."""

    def __init__(self, database: Database, clock: Clock, site: FakeServer) -> None:
        super().__init__()
        self.clock, self.site, self.lines, self.answer = clock, site, "", b""
        template = site.url + "/{username}.keys"
        self.source = URLTemplateKeys(template, database, self.hub, clock=clock)  # type: ignore[arg-type]

    async def put(self, *keys: PublicKey) -> None:
        self.lines = "".join(f"{key.line}\n" for key in keys)

    async def changed(self) -> None:
        self.clock.now += OLD

    async def serve(self, request: Request, writer: asyncio.StreamWriter) -> None:
        lines = self.lines.encode() if request.path == "/alice.keys" else b""
        writer.write(self.answer or response(200 if lines else 404, lines))


@pytest_asyncio.fixture
async def site(sqlite: Database, clock: Clock) -> AsyncIterator[OnSite]:
    made: list[OnSite] = []

    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        await made[0].serve(request, writer)

    async with http_server(serve) as server:
        made.append(OnSite(sqlite, clock, server))
        yield made[0]
        await made[0].source.close()


@pytest_asyncio.fixture(params=["server", "page", "site"])
async def place(request: pytest.FixtureRequest, sqlite: Database, clock: Clock, site: OnSite) -> AsyncIterator[Place]:
    made = {"server": OnServer(sqlite, clock), "page": OnPage(sqlite, clock), "site": site}[request.param]
    yield made
    await made.source.close()


@pytest.mark.asyncio
async def test_a_key_counts_for_its_user_alone(place: Place) -> None:
    await place.put(KEY)
    assert not await place.source.knows(BOB, KEY)
    assert await place.holds(ALICE, KEY)
    assert await place.holds(ALICE, KEY, may_fetch=False)
    assert await place.source.knows(ALICE, KEY)
    assert not await place.holds(ALICE, OTHER)
    assert not await place.holds(BOB, KEY)
    assert await place.holds(GPU, KEY) is place.source.of_user


@pytest.mark.asyncio
async def test_of_many_keys_it_is_said_at_once_which_count(place: Place) -> None:
    await place.put(KEY)
    assert await place.source.held(BOB, {KEY, OTHER}) == set()
    await place.holds(ALICE, KEY)
    assert await place.source.held(ALICE, {KEY, OTHER}) == {KEY}
    assert await place.source.held(GPU, {KEY, OTHER}) == ({KEY} if place.source.of_user else set())
    assert await place.source.held(ALICE, set()) == set()


@pytest.mark.asyncio
async def test_what_is_added_and_removed_counts(place: Place) -> None:
    await place.put(KEY)
    assert await place.holds(ALICE, KEY)
    await place.put(OTHER)
    await place.changed()
    assert await place.holds(ALICE, OTHER)
    assert not await place.holds(ALICE, KEY)
    assert not await place.source.knows(ALICE, KEY)


@pytest.mark.asyncio
async def test_a_user_made_anew_has_no_keys_of_the_one_before(place: Place) -> None:
    await place.put(KEY)
    assert await place.holds(ALICE, KEY)
    place.hub.created["alice"] = LATER
    if not isinstance(place, OnPage):
        await place.put(OTHER)
    assert not await place.holds(ALICE, KEY, LATER)
    assert not await place.source.knows(ALICE, KEY)


@pytest.mark.asyncio
async def test_of_a_user_who_is_gone_nothing_is_left(place: Place) -> None:
    await place.put(KEY)
    assert await place.holds(ALICE, KEY)
    del place.hub.created["alice"]
    await place.source.forget_user("alice")
    assert not await place.source.knows(ALICE, KEY)
    assert not await place.holds(ALICE, KEY)


@pytest.mark.asyncio
async def test_sessions_of_removed_keys_end(place: Place) -> None:
    told: list[tuple[str, str | None, list[str]]] = []

    async def note(user: str, server: str | None, fingerprints: Collection[str]) -> None:
        told.append((user, server, list(fingerprints)))

    keys = RegisteredKeys([place.source], removed=note)
    await place.put(KEY)
    assert await keys.holds(ALICE, KEY, may_fetch=True, created=FIRST)
    await place.put()
    await place.changed()
    assert not await keys.holds(ALICE, KEY, may_fetch=True, created=FIRST)
    assert told == [("alice", None if place.source.of_user else "", [KEY.fingerprint])]


# the sources together


@pytest.mark.asyncio
async def test_a_key_that_another_source_has_is_held_up_by_no_server(sqlite: Database, clock: Clock) -> None:
    server, page = OnServer(sqlite, clock), OnPage(sqlite, clock)
    await page.put(KEY)
    never = asyncio.Event()

    async def hang(target: UserServer) -> Fetched:
        await never.wait()
        raise ServerUnreachable

    assert isinstance(server.source, UserServerKeys)
    server.source.cache._fetch = hang
    keys = RegisteredKeys([server.source, page.source])
    assert await asyncio.wait_for(keys.holds(ALICE, KEY, may_fetch=True, created=FIRST), 30)
    assert await asyncio.wait_for(keys.still_holds(ALICE, KEY, "2"), 30), "no live key store is needed: the image may have none"
    never.set()
    assert not await keys.holds(ALICE, OTHER, may_fetch=True, created=FIRST)
    await keys.close()


@pytest.mark.asyncio
async def test_a_key_removed_from_a_server_but_kept_on_the_page_ends_nothing(sqlite: Database, clock: Clock) -> None:
    told: list[Any] = []

    async def note(user: str, server: str | None, fingerprints: Collection[str]) -> None:
        told.append((user, server, list(fingerprints)))

    server, page = OnServer(sqlite, clock), OnPage(sqlite, clock)
    await server.put(KEY, OTHER)
    await page.put(KEY)
    keys = RegisteredKeys([server.source, page.source], removed=note)
    await keys.refresh(ALICE)
    await server.put()
    await keys.refresh(ALICE)
    assert told == [("alice", "", [OTHER.fingerprint])]
    assert await page.keys.remove("alice", KEY.fingerprint)
    assert told[1:] == [("alice", None, [KEY.fingerprint])]


@pytest.mark.parametrize(("answer", "counts"), [(UP, True), (frozenset(), False), (ServerStopped(), None)])
@pytest.mark.asyncio
async def test_after_a_start_the_live_key_store_decides(sqlite: Database, clock: Clock, answer: Any, counts: bool | None) -> None:
    server = OnServer(sqlite, clock)
    await server.put(KEY)
    keys = RegisteredKeys([server.source])
    await keys.refresh(ALICE)
    assert await keys.still_holds(ALICE, KEY, "1")

    async def fetch(target: UserServer) -> Fetched:
        if isinstance(answer, Exception):
            raise answer
        return Fetched(answer, "2", FIRST)

    assert isinstance(server.source, UserServerKeys)
    server.source.cache._fetch = fetch
    if counts is None:
        with pytest.raises(ServerStopped):
            await keys.still_holds(ALICE, KEY, "2")
    else:
        assert await keys.still_holds(ALICE, KEY, "2") is counts
        assert await keys.knows(ALICE, KEY) is counts


@pytest.mark.asyncio
async def test_keys_that_go_together_are_looked_up_together(
    sqlite: Database, clock: Clock, site: OnSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    async def note(user: str, server: str | None, fingerprints: Collection[str]) -> None:
        told.append(set(fingerprints))

    server = OnServer(sqlite, clock)
    many = [PublicKey("ssh-ed25519", bytes([number])) for number in range(100)]
    await site.put(KEY)
    await server.put(KEY, *many)
    keys = RegisteredKeys([server.source, site.source], removed=note)
    await keys.refresh(ALICE)
    assert await site.holds(ALICE, KEY)
    reads = 0
    select = Database.select

    async def counted(self: Database, *statements: Any) -> Any:
        nonlocal reads
        reads += 1
        return await select(self, *statements)

    monkeypatch.setattr(Database, "select", counted)
    await server.put()
    await keys.refresh(ALICE)
    assert told == [{key.fingerprint for key in many}]
    assert reads < 10


# sites


@pytest.mark.parametrize(
    "answer",
    [
        response(200, b"x" * 70000),
        response(302, b"", Location="https://example.org/"),
        response(500, b""),
        b"not HTTP\r\n\r\n",
    ],
)
@pytest.mark.asyncio
async def test_a_site_that_fails_is_no_site_without_keys(site: OnSite, answer: bytes) -> None:
    await site.put(KEY)
    assert await site.holds(ALICE, KEY)
    await site.changed()
    site.answer = answer
    with pytest.raises(KeySourceUnavailable):
        await site.holds(ALICE, KEY)
    assert not await site.holds(ALICE, OTHER), "who has no key there learns nothing"


@pytest.mark.asyncio
async def test_what_a_site_lists_is_parsed_strictly_and_names_are_escaped(site: OnSite) -> None:
    site.answer = response(200, f"<html>\n{KEY.line}\nno-pty {OTHER.line}\n".encode())
    assert await site.holds(ALICE, KEY)
    assert not await site.holds(ALICE, OTHER)
    name = "../a b?#%{username}"
    site.hub.created[name] = FIRST
    await site.holds(UserServer(name), KEY)
    assert site.site.requests[-1].path == "/..%2Fa%20b%3F%23%25%7Busername%7D.keys"
    count = len(site.site.requests)
    assert not await site.source.holds(UserServer("nobody"), KEY, may_fetch=True)
    assert len(site.site.requests) == count


@pytest.mark.parametrize(
    "template", ["http://example.org/{username}", "https://example.org/keys", "https://{username}.example.org/", "unknown", "file:///{username}"]
)  # fmt: skip
@pytest.mark.asyncio
async def test_templates_that_cannot_be_used(template: str, sqlite: Database) -> None:
    with pytest.raises(ValueError, match="key_sources"):
        URLTemplateKeys(template, sqlite, FakeHub())  # type: ignore[arg-type]
