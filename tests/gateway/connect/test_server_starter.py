"""Against a scripted Hub. Real ones: test_real_hubs.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from jhssh_ext.errors import (
    HubUnavailable,
    JHSSHError,
    KeyUnknown,
    ServerStopped,
    ShuttingDown,
    SpawnFailed,
    SSHNotEnabled,
)
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.connect.hub_models import Progress, ServerModel, StartAnswer, UserModel
from jhssh_ext.gateway.connect.server_starter import ServerStarter
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState

ALICE, GPU = UserServer("alice"), UserServer("alice", "gpu")
STATE = ServerState("127.0.0.1", 2022, "alice", "ssh-ed25519 AAAA", "http://127.0.0.1:9/user/alice/", "a" * 64, "spawn", "hub")
STOPPED = ServerModel("", ready=False, pending=None, user_options={"profile": "big"})
SPAWNING = ServerModel("", ready=False, pending="spawn")
STOPPING = ServerModel("", ready=True, pending="stop", state=STATE)
RUNNING = ServerModel("", ready=True, pending=None, state=STATE)


class ScriptedHub(HubClient):
    """A Hub with one user server: ``answers`` to starts, one after the other, and what a start does to the model."""

    def __init__(self, model: ServerModel | None = STOPPED, *answers: StartAnswer | JHSSHError) -> None:
        self.model = model
        self.answers = list(answers) or [StartAnswer("ready")]
        self.started: list[dict[str, Any]] = []
        self.events: list[Progress] = []
        self.looked = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.after_looks: dict[int, ServerModel | None] = {}

    async def user(self, name: str) -> UserModel | None:
        self.looked += 1
        await asyncio.sleep(0)
        if self.away:
            raise HubUnavailable(explanation="away")
        self.model = self.after_looks.get(self.looked, self.model)
        return None if self.model is None else UserModel(name, {"": self.model})

    async def start(self, target: UserServer, user_options: dict[str, Any]) -> StartAnswer:
        self.started.append(user_options)
        answer = self.answers.pop(0)
        if isinstance(answer, JHSSHError):
            raise answer
        if answer.kind in ("ready", "pending"):
            self.model = SPAWNING
        await self.gate.wait()
        if answer.kind in ("ready", "already"):
            self.model = RUNNING
        return answer

    async def progress(self, target: UserServer) -> AsyncGenerator[Progress, None]:
        for event in list(self.events):
            await asyncio.sleep(0)
            if event.ready:
                self.model = RUNNING
            if event.failed:
                self.model = STOPPED
            yield event


class Waits:
    """Stands for sleep: no time passes, but it is written down."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def starter(hub: ScriptedHub, **keywords: Any) -> ServerStarter:
    keywords.setdefault("sleep", Waits())
    return ServerStarter(hub, lambda target: f"https://hub.example.org/hub/spawn/{target.user}", **keywords)


async def login(
    made: ServerStarter, target: UserServer = ALICE, *, may_start: bool = True
) -> tuple[ServerState, bool, list[str]]:
    told: list[str] = []
    state, started = await made.running(target, may_start=may_start, on_progress=told.append)
    return state, started, told


async def until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(poll(), 30)


@pytest.mark.parametrize("may_start", [True, False])
@pytest.mark.asyncio
async def test_a_server_that_runs_is_not_started(may_start: bool) -> None:
    hub = ScriptedHub(RUNNING)
    assert await login(starter(hub), may_start=may_start) == (STATE, False, [])
    assert hub.started == []


@pytest.mark.asyncio
async def test_a_stopped_server_is_started_with_its_saved_options_and_ssh() -> None:
    hub = ScriptedHub()
    state, started, told = await login(starter(hub))
    assert (state, started) == (STATE, True)
    assert hub.started == [{"profile": "big", "enable_ssh": True}]
    assert told == ["Starting your server."]


@pytest.mark.parametrize("model", [STOPPED, SPAWNING, ServerModel("", ready=False, pending="stop")])
@pytest.mark.asyncio
async def test_who_may_not_start_does_not_wait_either(model: ServerModel) -> None:
    hub = ScriptedHub(model)
    with pytest.raises(ServerStopped):
        await login(starter(hub), may_start=False)
    assert (hub.started, hub.looked) == ([], 1)


@pytest.mark.parametrize(("model", "target"), [(None, ALICE), (STOPPED, GPU), (RUNNING, GPU)])
@pytest.mark.asyncio
async def test_what_does_not_exist_is_never_started(model: ServerModel | None, target: UserServer) -> None:
    hub = ScriptedHub(model)
    with pytest.raises(KeyUnknown):
        await login(starter(hub), target)
    assert hub.started == []


@pytest.mark.parametrize(
    ("options", "started"),
    [
        ({}, {"profile": "big", "enable_ssh": True}),
        ({"profile": "gpu"}, {"profile": "gpu", "enable_ssh": True}),
        ({"enable_ssh": False}, {"profile": "big", "enable_ssh": False}),
    ],
)
@pytest.mark.asyncio
async def test_options_of_this_start_go_over_those_saved(options: dict[str, Any], started: dict[str, Any]) -> None:
    hub = ScriptedHub(ServerModel("", ready=False, pending=None, user_options={"profile": "big", "enable_ssh": False}))
    await starter(hub).running(ALICE, may_start=True, on_progress=lambda said: None, options=options)
    assert hub.started == [started]


@pytest.mark.asyncio
async def test_a_server_whose_user_unticked_the_box_is_not_started_and_the_page_is_named() -> None:
    hub = ScriptedHub(ServerModel("", ready=False, pending=None, user_options={"enable_ssh": False}))
    with pytest.raises(SSHNotEnabled) as caught:
        await login(starter(hub))
    assert caught.value.sentence.endswith("https://hub.example.org/hub/spawn/alice")
    assert hub.started == []


@pytest.mark.parametrize("value", [None, 0, "", "false", [], "no"])
@pytest.mark.asyncio
async def test_only_a_real_false_is_an_unticked_box(value: Any) -> None:
    hub = ScriptedHub(ServerModel("", ready=False, pending=None, user_options={"enable_ssh": value}))
    await login(starter(hub))
    assert hub.started == [{"enable_ssh": True}]


@pytest.mark.asyncio
async def test_a_server_that_runs_without_ssh_is_refused_with_the_page() -> None:
    hub = ScriptedHub(ServerModel("", ready=True, pending=None))
    with pytest.raises(SSHNotEnabled, match="SSH_NOT_ENABLED") as caught:
        await login(starter(hub))
    assert "/hub/spawn/alice" in caught.value.sentence
    plain = ServerStarter(hub, lambda target: "")
    with pytest.raises(SSHNotEnabled, match="public_url"):
        await login(plain)


@pytest.mark.asyncio
async def test_a_state_that_the_hub_does_not_show_is_the_admins_matter() -> None:
    hub = ScriptedHub(ServerModel("", ready=True, pending=None, state_known=False))
    with pytest.raises(HubUnavailable, match="admin:server_state"):
        await login(starter(hub))


@pytest.mark.asyncio
async def test_many_at_once_make_one_start_and_all_see_its_progress() -> None:
    hub = ScriptedHub(STOPPED, StartAnswer("pending"))
    hub.gate.clear()
    hub.events = [Progress(10, "Server requested"), Progress(50, "Spawning server..."), Progress(100, "done", ready=True)]
    made = starter(hub)
    logins = [asyncio.create_task(login(made)) for _ in range(10)]
    await until(lambda: hub.started != [])
    late = asyncio.create_task(login(made))
    await until(lambda: len(next(iter(made._starts.values()))._listeners) == 11)
    logins[0].cancel()
    hub.gate.set()
    found = await asyncio.gather(*logins[1:], late)
    assert len(hub.started) == 1
    assert {(state, started) for state, started, _ in found} == {(STATE, True)}
    assert found[0][2] == ["Starting your server.", "Server requested", "Spawning server..."]
    assert found[-1][2] == ["Starting your server.", "Server requested", "Spawning server..."]
    assert logins[0].cancelled()
    assert not made._starts


@pytest.mark.asyncio
async def test_progress_is_shown_while_the_hub_holds_its_answer_back() -> None:
    hub = ScriptedHub()
    hub.gate.clear()
    hub.events = [Progress(10, "Pulling image")]
    told: list[str] = []
    made = starter(hub)
    task = asyncio.create_task(made.running(ALICE, may_start=True, on_progress=told.append))
    await until(lambda: "Pulling image" in told)
    hub.gate.set()
    assert (await task)[0] == STATE
    assert told == ["Starting your server.", "Pulling image"]


@pytest.mark.asyncio
async def test_a_spawn_that_someone_else_started_is_waited_for() -> None:
    hub = ScriptedHub(SPAWNING)
    hub.events = [Progress(10, "Spawning server..."), Progress(100, "", ready=True)]
    state, started, told = await login(starter(hub))
    assert (state, started, told) == (STATE, True, ["Spawning server..."])
    assert hub.started == []


@pytest.mark.asyncio
async def test_a_server_that_stops_is_waited_for_and_started_again() -> None:
    hub = ScriptedHub(ServerModel("", ready=False, pending="stop"))
    hub.after_looks = {5: STOPPED}
    state, _, told = await login(starter(hub))
    assert state == STATE
    assert told == ["Your server is being stopped: waiting until it can be started again.", "Starting your server."]
    assert len(hub.started) == 1


@pytest.mark.asyncio
async def test_spawn_limits_are_waited_out_as_long_as_the_hub_says() -> None:
    hub = ScriptedHub(STOPPED, StartAnswer("busy", "Too many users.", 35.0), StartAnswer("busy"), StartAnswer("ready"))
    waits = Waits()
    state, _, told = await login(starter(hub, sleep=waits))
    assert state == STATE
    assert len(hub.started) == 3
    assert 35.0 <= waits.seconds[0] <= 42.0
    assert 5.0 <= waits.seconds[1] <= 6.0
    assert told == ["Starting your server.", "Too many users.", "The Hub is busy: waiting for my turn."]


@pytest.mark.asyncio
async def test_nothing_is_started_for_nobody() -> None:
    hub = ScriptedHub(STOPPED, StartAnswer("busy", "", 1.0), StartAnswer("ready"))
    sleeping, wake = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        sleeping.set()
        await wake.wait()

    made = starter(hub, sleep=sleep)
    task = asyncio.create_task(login(made))
    await sleeping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wake.set()
    await until(lambda: not made._starts)
    assert len(hub.started) == 1


@pytest.mark.asyncio
async def test_a_spawn_goes_on_when_the_last_who_waits_goes() -> None:
    hub = ScriptedHub()
    hub.gate.clear()
    made = starter(hub)
    task = asyncio.create_task(login(made))
    await until(lambda: hub.started != [])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made._starts
    hub.gate.set()
    await until(lambda: not made._starts)
    assert hub.model == RUNNING


@pytest.mark.parametrize(
    ("answers", "event", "said"),
    [
        ([StartAnswer("pending")], Progress(100, "Spawn failed: no GPU left", failed=True), "no GPU left"),
        ([StartAnswer("refused", "You have no quota.")], Progress(100, "Spawn failed: older", failed=True), "You have no quota."),
        ([StartAnswer("failed", "error")], Progress(100, "Spawn failed: disk full", failed=True), "disk full"),
    ],
)
@pytest.mark.asyncio
async def test_a_failed_spawn_ends_with_the_hubs_words(answers: list[StartAnswer], event: Progress, said: str) -> None:
    hub = ScriptedHub(STOPPED, *answers)
    hub.events = [event]
    with pytest.raises(SpawnFailed) as caught:
        await login(starter(hub))
    assert caught.value.sentence == f"Your server could not be started. The Hub says: {said}"
    assert len(hub.started) == 1


@pytest.mark.parametrize("event", [Progress(100, "Spawn failed", failed=True), Progress(100, "", failed=True)])
@pytest.mark.asyncio
async def test_a_spawn_that_fails_without_a_word_says_where_to_look(event: Progress) -> None:
    hub = ScriptedHub(STOPPED, StartAnswer("pending"))
    hub.events = [event]
    with pytest.raises(SpawnFailed) as caught:
        await login(starter(hub))
    assert caught.value.sentence == SpawnFailed.default_sentence


@pytest.mark.asyncio
async def test_a_spawn_that_its_user_stopped_is_not_started_again() -> None:
    hub = ScriptedHub(SPAWNING)
    hub.after_looks = {3: STOPPED}
    with pytest.raises(SpawnFailed):
        await login(starter(hub))
    assert hub.started == []


@pytest.mark.parametrize("model", [RUNNING, SPAWNING])
@pytest.mark.asyncio
async def test_a_refusal_because_another_was_faster_is_none(model: ServerModel) -> None:
    hub = ScriptedHub(STOPPED, StartAnswer("failed", "Internal Server Error"))
    hub.after_looks = {3: model, 6: RUNNING}
    assert (await login(starter(hub)))[0] == STATE


@pytest.mark.asyncio
async def test_a_server_that_runs_already_is_fine() -> None:
    hub = ScriptedHub(STOPPED, StartAnswer("already", "alice is already running"))
    assert (await login(starter(hub)))[0] == STATE


@pytest.mark.asyncio
async def test_a_start_is_bounded() -> None:
    hub = ScriptedHub(SPAWNING)
    with pytest.raises(SpawnFailed, match="start_timeout"):
        await login(ServerStarter(hub, lambda target: "", start_timeout=0.2))


@pytest.mark.asyncio
async def test_a_hub_that_restarts_during_a_spawn_is_waited_for() -> None:
    hub = ScriptedHub(SPAWNING)
    made = starter(hub)
    told: list[str] = []
    task = asyncio.create_task(made.running(ALICE, may_start=True, on_progress=told.append))
    await until(lambda: hub.looked > 3)
    hub.away = True
    await until(lambda: told != [])
    hub.model, hub.away = RUNNING, False
    assert await task == (STATE, True)
    assert told == ["The Hub does not answer right now: waiting for it."]


@pytest.mark.asyncio
async def test_a_hub_that_stays_away_is_unavailable() -> None:
    hub = ScriptedHub(SPAWNING)
    made = starter(hub, hub_patience=0.05)
    task = asyncio.create_task(login(made))
    await until(lambda: hub.looked > 3)
    hub.away = True
    with pytest.raises(HubUnavailable):
        await task


@pytest.mark.asyncio
async def test_a_start_that_got_no_answer_is_looked_after_and_asked_again() -> None:
    hub = ScriptedHub(STOPPED, HubUnavailable(), StartAnswer("ready"))
    assert (await login(starter(hub)))[0] == STATE
    assert len(hub.started) == 2
    patient = ScriptedHub(STOPPED, HubUnavailable(explanation="no"))
    with pytest.raises(HubUnavailable, match="no"):
        await login(starter(patient, hub_patience=-1.0))


@pytest.mark.asyncio
async def test_a_user_who_is_deleted_meanwhile_is_unknown() -> None:
    hub = ScriptedHub(SPAWNING)
    hub.after_looks = {3: None}
    with pytest.raises(KeyUnknown):
        await login(starter(hub))


@pytest.mark.asyncio
async def test_one_whose_terminal_is_gone_does_not_hold_up_the_others() -> None:
    hub = ScriptedHub()
    hub.gate.clear()
    made = starter(hub)

    def broken(message: str) -> None:
        raise ConnectionError

    told: list[str] = []
    first = asyncio.create_task(made.running(ALICE, may_start=True, on_progress=broken))
    await until(lambda: hub.started != [])
    hub.events = [Progress(1, "one")]
    second = asyncio.create_task(made.running(ALICE, may_start=True, on_progress=told.append))
    await until(lambda: "one" in told)
    hub.gate.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert results[1] == (STATE, True)


@pytest.mark.asyncio
async def test_messages_are_bounded_in_number() -> None:
    hub = ScriptedHub(SPAWNING)
    hub.events = [Progress(1, f"message {number}") for number in range(10000)] + [Progress(100, "", ready=True)]
    assert len((await login(starter(hub)))[2]) == 200


@pytest.mark.asyncio
async def test_closing_ends_the_waiting() -> None:
    hub = ScriptedHub()
    hub.gate.clear()
    made = starter(hub)
    task = asyncio.create_task(login(made))
    await until(lambda: hub.started != [])
    await made.close()
    with pytest.raises(ShuttingDown):
        await task


@pytest.mark.asyncio
async def test_how_long_starts_take_is_measured() -> None:
    seconds: list[float] = []
    await login(starter(ScriptedHub(), started=seconds.append))
    assert len(seconds) == 1
    assert seconds[0] >= 0
