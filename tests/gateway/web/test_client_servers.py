"""Starts and stops by the jhssh command that meet others, or that fail. test_client_api.py has those that are alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jhssh_ext.gateway.connect.hub_models import ServerModel, StartAnswer
from jhssh_ext.login_names import UserServer

from ..connect.test_server_starter import until
from .test_client_api import API, api

__all__ = ["api"]

pytestmark = pytest.mark.asyncio

GPU = UserServer("alice", "gpu")


@pytest.fixture
def turn(api: API) -> asyncio.Event:
    """The Hub is busy, and the start waits until this is set to ask it again."""
    came = asyncio.Event()

    async def wait(seconds: float) -> None:
        await came.wait()

    api.hub.answer = StartAnswer("busy", "too many pending spawns", 3600.0)
    api.starter._sleep = wait
    return came


async def start(api: API, token: str, **options: Any) -> tuple[int, Any]:
    return await api.ask("POST", "servers/start", {"server": "gpu", **({"options": options} if options else {})}, token=token)


async def test_options_are_never_lost_to_a_start_that_waits(api: API, turn: asyncio.Event) -> None:
    token = await api.token()
    assert (await start(api, token, profile="small"))[0] == 202
    await until(lambda: len(api.hub.started) == 1)
    status, answer = await start(api, token, profile="big")
    assert (status, answer["code"]) == (409, "CONFLICT")
    assert "stop it first" in answer["message"]
    assert (await start(api, token))[0] == 202, "what it would do is being done"
    assert [(event, values["options"]) for event, values in api.notes] == [("server started", "profile")]


async def test_nor_to_that_of_an_ssh_login(api: API, turn: asyncio.Event) -> None:
    token = await api.token()
    api.hub.change(GPU, ServerModel("gpu", False, None))
    login = asyncio.create_task(api.starter.running(GPU, may_start=True, on_progress=lambda said: None))
    await until(lambda: len(api.hub.started) == 1)
    assert (await start(api, token, profile="big"))[0] == 409
    assert api.notes == []
    api.hub.answer = StartAnswer("ready")
    turn.set()
    await login


async def test_a_stop_ends_a_start_that_waits(api: API, turn: asyncio.Event) -> None:
    token = await api.token()
    await start(api, token, profile="small")
    await until(lambda: len(api.hub.started) == 1)
    assert (await api.ask("POST", "servers/stop", {"server": "gpu"}, token=token))[0] == 202
    assert api.hub.stopped == [GPU]
    _, me = await api.ask("GET", "me", token=token)
    (gpu,) = [server for server in me["servers"] if server["name"] == "gpu"]
    assert (gpu["ready"], gpu["pending"], "message" in gpu) == (False, None, False)
    api.hub.answer = StartAnswer("ready")
    turn.set()
    assert (await start(api, token, profile="big"))[0] == 202
    await until(lambda: api.hub.users["alice"].servers["gpu"].ready)
    assert [options["profile"] for _, options in api.hub.started] == ["small", "big"]


async def test_a_stop_leaves_a_start_for_which_an_ssh_login_waits(api: API, turn: asyncio.Event) -> None:
    token = await api.token()
    await start(api, token)
    await until(lambda: len(api.hub.started) == 1)
    api.hub.change(GPU, ServerModel("gpu", False, None))
    login = asyncio.create_task(api.starter.running(GPU, may_start=True, on_progress=lambda said: None))
    await until(lambda: len(api.starter._starts[GPU]._listeners) == 2)
    assert (await api.ask("POST", "servers/stop", {"server": "gpu"}, token=token))[0] == 202
    api.hub.answer = StartAnswer("ready")
    turn.set()
    assert (await login)[1]


async def test_null_takes_a_saved_option_away(api: API) -> None:
    token = await api.token()
    api.hub.change(GPU, ServerModel("gpu", False, None, {"profile": "typo", "image": None, "cpus": 1}))
    await start(api, token, profile=None, cpus=2)
    await until(lambda: api.hub.users["alice"].servers["gpu"].ready)
    assert api.hub.started == [(GPU, {"image": None, "cpus": 2, "enable_ssh": True})]


@pytest.mark.parametrize(("options", "hint"), [({"b": "x", "a b": 1}, "-o 'a b':=null"), ({"profile": None}, ""), ({}, "")])
async def test_a_start_that_fails_says_how_its_options_are_taken_back(api: API, options: dict[str, Any], hint: str) -> None:
    token = await api.token()
    api.hub.answer = StartAnswer("refused", "No such profile. " * 50)
    await start(api, token, **options)
    await until(lambda: bool(api.hub.started) and not api.servers.starting(GPU))
    said = api.servers.message(GPU)
    assert "The Hub says: No such profile" in said
    assert said.endswith(hint) if hint else "null" not in said


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("NaN", 400),
        ("-Infinity", 400),
        ("[1e999]", 400),
        ("1.5e3", 202),
        (nested(14), 202),
        (nested(15), 400),
        (nested(900), 400),
        ('{"a":' * 15 + "1" + "}" * 15, 400),
    ],
)
async def test_options_are_what_any_reader_of_json_copes_with(api: API, value: str, status: int) -> None:
    """The Hub keeps them, and shows them in each answer about that user."""
    body = f'{{"server": "gpu", "options": {{"x": {value}}}}}'.encode()
    assert (await api.ask("POST", "servers/start", body, token=await api.token()))[0] == status
