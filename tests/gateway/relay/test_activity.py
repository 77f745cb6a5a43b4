from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from jhssh_ext.errors import HubUnavailable
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.relay.activity import MAX_REPORTS, ActivityReporter
from jhssh_ext.login_names import UserServer

ALICE, GPU = UserServer("alice"), UserServer("alice", "gpu")
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class FakeHub(HubClient):
    """Takes reports, or fails."""

    def __init__(self) -> None:
        self.reports: list[tuple[UserServer, datetime]] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def report_activity(self, target: UserServer, when: datetime) -> None:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        self.reports.append((target, when))
        if self.error is not None:
            raise self.error


async def until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), 30)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.asyncio
async def test_the_first_data_is_told_at_once_and_what_follows_once_an_interval() -> None:
    hub, clock = FakeHub(), Clock()
    reporter = ActivityReporter(hub, interval=0.1, now=clock)
    reporter.saw_data(ALICE, 10)
    await until(lambda: len(hub.reports) == 1)
    for second in range(1, 50):
        clock.now = START + timedelta(seconds=second)
        reporter.saw_data(ALICE, 10)
    assert hub.reports == [(ALICE, START)]
    await until(lambda: len(hub.reports) == 2)
    assert hub.reports[1] == (ALICE, START + timedelta(seconds=49))
    await until(lambda: not reporter._seen)
    assert len(hub.reports) == 2, "without data nothing is told"
    reporter.saw_data(ALICE, 1)
    await until(lambda: len(hub.reports) == 3)
    await reporter.close()


@pytest.mark.asyncio
async def test_no_bytes_are_no_activity() -> None:
    hub = FakeHub()
    reporter = ActivityReporter(hub, interval=0.01)
    reporter.saw_data(ALICE, 0)
    await asyncio.sleep(0.02)
    assert hub.reports == []
    assert not reporter._seen


@pytest.mark.asyncio
async def test_each_user_server_for_itself() -> None:
    hub = FakeHub()
    reporter = ActivityReporter(hub, now=Clock())
    reporter.saw_data(ALICE, 1)
    reporter.saw_data(GPU, 1)
    await until(lambda: len(hub.reports) == 2)
    assert {target for target, _ in hub.reports} == {ALICE, GPU}
    await reporter.close()


@pytest.mark.asyncio
async def test_a_hub_that_is_away_is_logged_once_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    hub = FakeHub()
    hub.error = HubUnavailable(explanation="away")
    reporter = ActivityReporter(hub, interval=0.01)
    reporter.saw_data(ALICE, 1)
    for count in (1, 2, 3):
        await until(lambda count=count: len(hub.reports) >= count)
        reporter.saw_data(ALICE, 1)
    hub.error = None
    await until(lambda: len(hub.reports) >= 4)
    await reporter.close()
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [("away" in message, "again" in message) for message in messages] == [(True, False), (False, True)]


@pytest.mark.asyncio
async def test_a_slow_hub_is_not_asked_by_all_at_once() -> None:
    hub = FakeHub()
    hub.gate.clear()
    reporter = ActivityReporter(hub)
    for number in range(50):
        reporter.saw_data(UserServer(f"user{number}"), 1)
    await until(lambda: hub.waiting == MAX_REPORTS)
    hub.gate.set()
    await until(lambda: len(hub.reports) == 50)
    await reporter.close()
    assert not reporter._seen
