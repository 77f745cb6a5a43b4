from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jhssh_ext.errors import HubUnavailable, ServerUnreachable
from jhssh_ext.gateway.authenticate import key_rebuild
from jhssh_ext.gateway.authenticate.key_cache import KeyCache
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.authenticate.key_rebuild import KeyRebuild
from jhssh_ext.gateway.authenticate.key_sources.hub_page import HubPageKeys
from jhssh_ext.gateway.authenticate.key_sources.user_server import UserServerKeys
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.gateway.authenticate.user_keys import UserKeys
from jhssh_ext.gateway.connect.hub_models import ServerModel, UserModel
from jhssh_ext.gateway.database import Database
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState
from jhssh_ext.public_keys import PublicKey

from .conftest import Clock
from .test_key_cache import ALICE, BOB, FIRST, KEY, LATER, OTHER

STATE = ServerState("127.0.0.1", 22, "x", "ssh-ed25519 AAAA", "http://127.0.0.1:1/", "s" * 64, "1", "hub")
GPU = UserServer("alice", "gpu")


def user(name: str, *servers: str, created: str = FIRST) -> UserModel:
    """Of these, "" is stopped where it is not named."""
    models = {"": ServerModel("", ready=False, pending=None)}
    models |= {server: ServerModel(server, ready=True, pending=None, state=STATE) for server in servers}
    return UserModel(name, models, created)


class House:
    """A Hub, its user servers, and the gateway's keys."""

    def __init__(self, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = {"alice": user("alice", "", "gpu"), "bob": user("bob", "")}
        self.left_out: set[str] = set()
        self.down = False
        self.asked: list[UserServer] = []
        self.silent: set[UserServer] = set()
        self.odd: set[UserServer] = set()
        self.page = UserKeys(database, clock)
        self.cache = KeyCache(KeyCopies(database, "server"), self._never, clock=clock)
        self.keys = RegisteredKeys([UserServerKeys(self.cache), HubPageKeys(self.page)])
        self.rebuild = KeyRebuild(self, self.keys, self.page, self.cache)  # type: ignore[arg-type]
        monkeypatch.setattr(key_rebuild, "fetch_keys", self._fetch_keys)

    async def users(self) -> AsyncIterator[UserModel]:
        for each in list(self.there.values()):
            if self.down:
                raise HubUnavailable
            if each.name not in self.left_out:
                yield each

    async def user(self, name: str) -> UserModel | None:
        return self.there.get(name)

    async def _never(self, target: UserServer) -> Fetched:
        raise AssertionError("a rebuild asks in its own way")

    async def _fetch_keys(self, state: ServerState, target: UserServer) -> frozenset[PublicKey]:
        assert state == STATE
        self.asked.append(target)
        if target in self.silent:
            raise ServerUnreachable
        if target in self.odd:
            raise TypeError("nobody thought of it")
        return frozenset({KEY})


@pytest.fixture
def house(sqlite: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(sqlite, clock, monkeypatch)


@pytest.mark.asyncio
async def test_all_servers_that_run_are_asked_and_what_fails_is_counted(house: House) -> None:
    house.silent = {BOB}
    report = await house.rebuild.run(full=True)
    assert sorted(house.asked) == [ALICE, GPU, BOB]
    assert report.shown() | {"seconds": 0} == {
        "users": 2, "servers": 3, "fetched": 2, "fresh": 0, "failed": {"SERVER_UNREACHABLE": 1}, "forgotten": 0, "seconds": 0,
    }  # fmt: skip
    assert await house.keys.holds(GPU, KEY, may_fetch=False)
    assert not await house.keys.knows(BOB, KEY)


@pytest.mark.asyncio
async def test_one_server_whose_answer_nobody_thought_of_ends_no_rebuild(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.odd = {ALICE}
    report = await house.rebuild.run(full=True)
    assert (report.fetched, report.failed) == (2, {"ERROR": 1})
    assert "keys of alice/ were not fetched" in caplog.text
    assert await house.keys.holds(BOB, KEY, may_fetch=False)


@pytest.mark.parametrize("name", ["\0", "\ud800", "a\nb", "x" * 255])
@pytest.mark.asyncio
async def test_names_that_nobody_can_log_in_with_are_passed_over(house: House, name: str) -> None:
    house.there["alice"] = user("alice", "", name)
    report = await house.rebuild.run(full=True)
    assert sorted(house.asked) == [ALICE, BOB]
    assert (report.servers, report.fetched) == (2, 2)


@pytest.mark.asyncio
async def test_what_is_fresh_is_asked_only_for_a_full_one(house: House, clock: Clock) -> None:
    await house.rebuild.run()
    clock.now += 119
    report = await house.rebuild.run()
    assert (report.fetched, report.fresh) == (0, 3)
    assert (await house.rebuild.run(full=True)).fetched == 3
    clock.now += 121
    assert (await house.rebuild.run()).fetched == 3
    await house.keys.expire(ALICE)
    assert (await house.rebuild.run()).fetched == 1


@pytest.mark.asyncio
async def test_of_some_users_nothing_else_is_touched(house: House) -> None:
    await house.rebuild.run()
    house.asked.clear()
    del house.there["bob"]
    report = await house.rebuild.run(["alice", "nobody"], full=True)
    assert sorted(house.asked) == [ALICE, GPU]
    assert report.forgotten == 0
    assert await house.keys.knows(BOB, KEY)


@pytest.mark.asyncio
async def test_who_is_gone_is_forgotten_and_who_was_left_out_of_a_page_is_not(house: House) -> None:
    await house.page.add("bob", FIRST, OTHER, "page")
    await house.page.add("carol", FIRST, OTHER, "page")
    house.there["carol"] = user("carol")
    await house.rebuild.run()
    house.left_out = {"alice", "carol"}
    del house.there["bob"]
    assert (await house.rebuild.run()).forgotten == 1
    assert await house.keys.knows(ALICE, KEY)
    assert await house.keys.knows(UserServer("carol"), OTHER)
    assert not await house.keys.knows(BOB, KEY)
    assert not await house.keys.knows(BOB, OTHER)
    house.left_out, house.there["alice"] = set(), user("alice", "")
    assert (await house.rebuild.run()).forgotten == 1
    assert not await house.keys.knows(GPU, KEY)


@pytest.mark.asyncio
async def test_a_user_made_anew_loses_the_keys_of_the_one_before(house: House) -> None:
    await house.page.add("alice", FIRST, OTHER, "page")
    await house.rebuild.run()
    house.there["alice"] = user("alice", "gpu", created=LATER)
    assert (await house.rebuild.run()).forgotten == 1
    for key in (KEY, OTHER):
        assert not await house.keys.knows(ALICE, key)


@pytest.mark.asyncio
async def test_a_hub_that_breaks_off_has_nobody_forgotten(house: House) -> None:
    await house.rebuild.run()
    house.down = True
    with pytest.raises(HubUnavailable):
        await house.rebuild.run(full=True)
    assert await house.keys.knows(BOB, KEY)
