from __future__ import annotations

import json
from typing import Any

import pytest

from jhssh_ext.gateway.connect.hub_models import (
    EventLines,
    TokenModel,
    WrongShape,
    may,
    may_start,
    parse_object,
    start_answer,
    token_model,
    user_model,
)
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState

STATE = ServerState("127.0.0.1", 2022, "alice", "ssh-ed25519 AAAA", "http://127.0.0.1:9/user/alice/", "a" * 64, "spawn", "hub")
ALICE, GPU = UserServer("alice"), UserServer("alice", "gpu")


@pytest.mark.parametrize(
    ("scopes", "default", "named"),
    [
        ([], False, False),
        (["access:servers"], True, True),
        (["access:servers!user=alice"], True, True),
        (["access:servers!server=alice/"], True, False),
        (["access:servers!server=alice/gpu"], False, True),
        (["access:servers!user=bob"], False, False),
        (["access:servers!user=alic"], False, False),
        (["access:servers!server=bob/"], False, False),
        (["access:servers!group=everybody"], False, False),
        (["access:servers!service=ssh"], False, False),
        (["access:servers!user"], False, False),
        (["servers", "read:users!user=alice"], False, False),
        (["access:services"], False, False),
    ],
)
def test_may_counts_exactly_the_scopes_that_reach_the_server(scopes: list[str], default: bool, named: bool) -> None:
    token = TokenModel("alice", "user", frozenset(scopes))
    assert may(token, "access:servers", ALICE) is default
    assert may(token, "access:servers", GPU) is named


@pytest.mark.parametrize("name", ["alice+gpu", "a b", "x\ny", "*", "a!b", "ä"])
def test_may_takes_strange_names_literally(name: str) -> None:
    assert may(TokenModel(name, "user", frozenset({f"access:servers!user={name}"})), "access:servers", UserServer(name))
    assert not may(TokenModel(name, "user", frozenset({f"access:servers!user={name}"})), "access:servers", ALICE)


def test_a_slash_cannot_make_one_users_server_anothers() -> None:
    token = TokenModel("a", "user", frozenset({"access:servers!server=a/b/"}))
    assert not may(token, "access:servers", UserServer("a/b"))
    assert not may(token, "access:servers", UserServer("a", "b/"))


def test_starting_takes_servers_or_the_scope_that_jupyterhub_6_has_for_it() -> None:
    assert may_start(TokenModel("alice", "user", frozenset({"servers!user=alice"})), GPU)
    assert may_start(TokenModel("alice", "user", frozenset({"start:servers!server=alice/gpu"})), GPU)
    assert not may_start(TokenModel("alice", "user", frozenset({"access:servers"})), GPU)


def test_a_user_model_always_has_the_default_server() -> None:
    model = user_model({"name": "alice", "servers": {}})
    assert model.servers[""].ready is False
    assert model.servers[""].pending is None


def test_state_counts_only_while_the_server_is_ready() -> None:
    server = {"name": "", "ready": True, "pending": None, "user_options": {"a": 1}, "state": STATE.to_state()}
    ready = user_model({"name": "alice", "servers": {"": server}}).servers[""]
    assert (ready.ready, ready.state, ready.state_known, ready.user_options) == (True, STATE, True, {"a": 1})
    stopped = user_model({"name": "alice", "servers": {"": {**server, "ready": False, "pending": "stop"}}}).servers[""]
    assert (stopped.ready, stopped.pending, stopped.state) == (False, "stop", None)


@pytest.mark.parametrize(
    ("server", "known"),
    [
        ({"ready": True}, False),
        ({"ready": True, "state": {}}, True),
        ({"ready": True, "state": None}, True),
        ({"ready": True, "state": {"jhssh": None}}, True),
        ({"ready": True, "state": {"jhssh": {"host": 1}}}, False),
        ({"ready": True, "state": {"jhssh": "x"}}, False),
    ],
)
def test_a_state_not_shown_or_of_another_shape_is_not_taken_for_ssh_switched_off(server: dict[str, Any], known: bool) -> None:
    model = user_model({"name": "alice", "servers": {"": server}}).servers[""]
    assert model.state is None
    assert model.state_known is known


@pytest.mark.parametrize("options", [None, [], "x", 1])
def test_user_options_of_another_shape_count_as_none(options: Any) -> None:
    assert user_model({"name": "a", "servers": {"": {"user_options": options}}}).servers[""].user_options == {}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"name": "a"},
        {"name": "a", "servers": None},
        {"name": "a", "servers": {"": 1}},
        {"servers": {}},
        {"name": 1, "servers": {}},
    ],
)
def test_a_user_model_of_another_shape_is_refused(found: dict[str, Any]) -> None:
    with pytest.raises(WrongShape):
        user_model(found)


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"name": "a", "kind": "user"},
        {"name": "a", "kind": "user", "scopes": [1]},
        {"kind": "user", "scopes": []},
        {"name": "a", "scopes": []},
    ],
)
def test_a_token_model_of_another_shape_is_refused(found: dict[str, Any]) -> None:
    with pytest.raises(WrongShape):
        token_model(found)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"<html>", b"\xff", b"[" * 100000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(WrongShape):
        parse_object(body)


@pytest.mark.parametrize(
    ("status", "message", "retry_after", "kind", "seconds"),
    [
        (201, "", None, "ready", None),
        (202, "", None, "pending", None),
        (400, "alice is already running", None, "already", None),
        (400, "alice:gpu is pending stop", None, "busy", None),
        (400, "Named servers are not enabled.", None, "refused", None),
        (429, "Too many users", "35", "busy", 35.0),
        (429, "Active user limit", None, "busy", None),
        (429, "Too many users", "Wed, 21 Oct 2026 07:28:00 GMT", "busy", None),
        (429, "Too many users", "-1", "busy", None),
        (403, "You have no quota left", None, "refused", None),
        (500, "Internal Server Error", None, "failed", None),
    ],
)
def test_each_answer_to_a_start(status: int, message: str, retry_after: str | None, kind: str, seconds: float | None) -> None:
    answer = start_answer(status, message, retry_after)
    assert (answer.kind, answer.retry_after) == (kind, seconds)


def events(*found: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in found)


def test_events_are_found_however_the_stream_is_cut() -> None:
    stream = (
        b"\n\n"
        + events({"progress": 10, "message": "ä"}, {"progress": 100, "ready": True, "message": "done"})
        + b"\n\n: comment\n"
    )
    for size in (1, 2, 7, len(stream)):
        lines = EventLines()
        found = [event for start in range(0, len(stream), size) for event in lines.feed(stream[start : start + size])]
        assert [(event.percent, event.message, event.ready) for event in found] == [(10, "ä", False), (100, "done", True)]


@pytest.mark.parametrize(
    ("event", "percent", "message"),
    [
        ({"progress": 250, "message": "\x1b[2Jclear"}, 100, " [2Jclear"),
        ({"progress": -3, "message": 5}, 0, ""),
        ({"progress": "50", "message": "x" * 1000}, None, "x" * 199 + "…"),
        ({"progress": float("nan")}, None, ""),
        ({"ready": "yes", "failed": 1}, None, ""),
    ],
)
def test_events_are_made_fit_to_show(event: dict[str, Any], percent: int | None, message: str) -> None:
    (found,) = EventLines().feed(events(event))
    assert (found.percent, found.message, found.ready, found.failed) == (percent, message, False, False)


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 200 + b"\n", b"x" * 200, b"\n" * 2000, b"data: []\n", b"data: {\n"])
def test_a_stream_over_its_bounds_or_of_another_shape_is_refused(stream: bytes) -> None:
    with pytest.raises(WrongShape):
        EventLines(max_line=100, max_total=1000).feed(stream)


def test_an_infinite_percentage_is_no_percentage() -> None:
    (found,) = EventLines().feed(b'data: {"progress": Infinity}\n')
    assert found.percent is None
