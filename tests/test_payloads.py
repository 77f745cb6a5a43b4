"""What the Hub hands to the gateway and to a user server."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from jhssh_ext.payloads import ServerEnvironment, ServerState

STATE = ServerState("10.0.0.5", 2222, "jovyan", "ssh-ed25519 AAAA", "http://10.0.0.5:8888/user/a/", "s" * 64, "spawn-1", "hub-1")


def test_a_state_survives_the_hub() -> None:
    assert ServerState.from_state({"pid": 1, **STATE.to_state()}) == STATE


@pytest.mark.parametrize("state", [None, {}, {"pid": 1}, {"jhssh": None}, [], "x"])
def test_no_state_means_ssh_is_off(state: Any) -> None:
    assert ServerState.from_state(state) is None


@pytest.mark.parametrize(
    "change",
    [
        {"port": "2222"},
        {"port": True},
        {"port": 0},
        {"port": 70000},
        {"host": ""},
        {"host": 5},
        {"secret": None},
        {"host_key": ["x"]},
    ],
)
def test_a_state_of_another_shape_is_an_error(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        ServerState.from_state({"jhssh": STATE.to_state()["jhssh"] | change})


def test_a_state_that_is_no_object_is_an_error() -> None:
    with pytest.raises(ValueError, match="object"):
        ServerState.from_state({"jhssh": "on"})


@pytest.mark.parametrize(
    "environment",
    [
        ServerEnvironment(False, disabled_because="Not ticked.", can_be_enabled=True),
        ServerEnvironment(True, listen_port=2222, principal="p", login_name="a b"),
    ],
)
def test_an_environment_survives_the_spawn(environment: ServerEnvironment) -> None:
    environ = environment.to_environ()
    assert all(name.startswith("JHSSH_") and isinstance(value, str) for name, value in environ.items())
    assert ServerEnvironment.from_environ({"PATH": "/bin", **environ}) == environment


def test_without_a_hub_there_is_no_environment() -> None:
    assert ServerEnvironment.from_environ({"PATH": "/bin"}) is None


def test_a_port_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="x"):
        ServerEnvironment.from_environ({"JHSSH_ENABLED": "1", "JHSSH_LISTEN_PORT": "x"})


def test_secrets_stay_out_of_tracebacks_and_logs() -> None:
    assert STATE.secret not in repr(STATE)
    shown = repr(ServerEnvironment(True, host_key="PRIVATE", secret="SECRET"))
    assert "PRIVATE" not in shown
    assert "SECRET" not in shown


def test_the_folders_of_sockets_survive_the_hubs_json() -> None:
    state = replace(STATE, socket_folders=("/home/a", "/run/user"))
    assert ServerState.from_state(json.loads(json.dumps(state.to_state()))) == state
    older = {name: value for name, value in STATE.to_state()["jhssh"].items() if name != "socket_folders"}
    assert ServerState.from_state({"jhssh": older}) == STATE
