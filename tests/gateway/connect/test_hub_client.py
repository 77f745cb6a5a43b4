"""Against a fake Hub, where a fault must be controlled. Real ones: test_real_hubs.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jhssh_ext.errors import HubUnavailable, KeyUnknown
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.connect.hub_models import Progress
from jhssh_ext.login_names import UserServer

from ...fakes.http_server import Answer, FakeServer, Request, answering, http_server, response
from ...harness.processes import free_port

ALICE, GPU = UserServer("alice"), UserServer("alice", "gpu")
USER = {"name": "alice", "kind": "user", "servers": {"gpu": {"name": "gpu", "ready": False, "pending": None, "user_options": {}}}}
TOKEN = {"name": "alice", "kind": "user", "scopes": ["access:servers!user=alice"]}
NOT_FOUND = {"status": 404, "message": "Not Found"}


@asynccontextmanager
async def hub(answer: Answer | dict[str, bytes], timeout: float = 30) -> AsyncIterator[tuple[HubClient, FakeServer]]:
    """A fake Hub; a mapping answers by "METHOD path"."""

    async def by_path(request: Request, writer: asyncio.StreamWriter) -> None:
        assert isinstance(answer, dict)
        writer.write(answer[f"{request.method} {request.path}"])

    async with http_server(by_path if isinstance(answer, dict) else answer) as server:
        names = ("connect_timeout", "request_timeout", "start_timeout", "progress_timeout")
        client = HubClient(server.url + "/hub/api/", "our-token", **dict.fromkeys(names, timeout))
        try:
            yield client, server
        finally:
            client.close()


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("alice", "alice"),
        ("a b", "a%20b"),
        ("x\ny", "x%0Ay"),
        ("*", "%2A"),
        ("a#b?c&d", "a%23b%3Fc%26d"),
        ("50%", "50%25"),
        ("a+b@c", "a%2Bb%40c"),
        ("ä", "%C3%A4"),
        ("..a", "..a"),
        ("%2e%2e", "%252e%252e"),
    ],
)
@pytest.mark.asyncio
async def test_names_go_into_urls_escaped(name: str, segment: str) -> None:
    async with hub(answering(200, {**USER, "name": name})) as (client, server):
        model = await client.user(name)
        assert model is not None
        assert model.name == name
        assert server.requests[0].path == f"/hub/api/users/{segment}?include_stopped_servers=1"
        assert server.requests[0].headers["authorization"] == "token our-token"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "x" * 256, "\udc80"])
@pytest.mark.asyncio
async def test_what_cannot_be_a_name_is_nobody_and_not_asked_for(name: str) -> None:
    async with hub(answering(200, USER)) as (client, server):
        assert await client.user(name) is None
        for target in (UserServer(name), UserServer("alice", name or "/")):
            with pytest.raises(KeyUnknown):
                await client.start(target, {})
            with pytest.raises(KeyUnknown):
                await anext(client.progress(target))
        with pytest.raises(KeyUnknown):
            await client.report_activity(UserServer(name), datetime.now(timezone.utc))
        assert server.requests == []


@pytest.mark.asyncio
async def test_a_user_and_the_servers_of_that_name_alone() -> None:
    async with hub(answering(200, USER)) as (client, _):
        found = await client.user("alice")
        assert found is not None
        assert set(found.servers) == {"", "gpu"}
        assert await client.user("Alice") is None, "a database that ignores case answers with another user"


@pytest.mark.parametrize("body", [NOT_FOUND, {"status": 404, "message": None}, {"status": 404, "message": ""}])
@pytest.mark.asyncio
async def test_no_such_user_is_none(body: dict[str, Any]) -> None:
    async with hub(answering(404, body)) as (client, _):
        assert await client.user("nobody") is None


OTHER_ANSWERS: dict[str, Answer] = {
    "a page of a proxy": answering(404, b"<html>404</html>", Content_Type="text/html"),
    "a page": answering(200, b"<html>", Content_Type="text/html"),
    "a redirect": answering(302, b"", Location="http://127.0.0.1:1/hub/login"),
    "our token is none": answering(403, {"status": 403, "message": "Missing or invalid credentials."}),
    "no permission": answering(
        403, {"status": 403, "message": "Action is not authorized with current scopes; requires any of [x]"}
    ),
    "bad gateway": answering(502, b"bad gateway"),
    "unavailable": answering(503, {"status": 503, "message": "starting"}),
    "failure": answering(500, {"status": 500, "message": "Internal Server Error"}),
    "no servers shown": answering(200, {"name": "alice"}),
    "a list": answering(200, b"[]"),
    "too large": answering(200, b"x" * ((1 << 20) + 1)),
    "no answer": answering(204, b""),
}


@pytest.mark.parametrize("what", OTHER_ANSWERS)
@pytest.mark.asyncio
async def test_any_other_answer_is_the_hub_being_unavailable_and_not_no_such_user(what: str) -> None:
    async with hub(OTHER_ANSWERS[what]) as (client, server):
        with pytest.raises(HubUnavailable) as caught:
            await client.user("alice")
        assert "our-token" not in caught.value.explanation
        assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_what_is_missing_is_named() -> None:
    async with hub(OTHER_ANSWERS["no permission"]) as (client, _):
        with pytest.raises(HubUnavailable, match="admin:server_state"):
            await client.user("alice")


@pytest.mark.asyncio
async def test_a_hub_that_is_away_is_unavailable_for_every_call() -> None:
    client = HubClient(f"http://127.0.0.1:{free_port()}/hub/api", "our-token", connect_timeout=1, request_timeout=1)
    calls = [
        client.user("alice"),
        client.identify("token"),
        client.start(ALICE, {}),
        client.report_activity(ALICE, datetime.now(timezone.utc)),
        client.major_version(),
        anext(client.progress(ALICE)),
    ]
    for call in calls:
        with pytest.raises(HubUnavailable):
            await call
    client.close()


@pytest.mark.asyncio
async def test_whose_a_token_is() -> None:
    async with hub(answering(200, TOKEN)) as (client, server):
        found = await client.identify("secret")
        assert found is not None
        assert (found.name, found.kind, found.scopes) == ("alice", "user", {"access:servers!user=alice"})
        assert (server.requests[0].path, server.requests[0].headers["authorization"]) == ("/hub/api/user", "token secret")
        await client.identify("secret")
        assert len(server.requests) == 2, "nothing is cached"


@pytest.mark.asyncio
async def test_nobodys_token_is_none() -> None:
    async with hub(answering(403, {"status": 403, "message": "Forbidden"})) as (client, _):
        assert await client.identify("wrong") is None


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "ü", "x" * 513, "\udc80"])
@pytest.mark.asyncio
async def test_what_cannot_be_a_token_is_not_sent(token: str) -> None:
    async with hub(answering(200, TOKEN)) as (client, server):
        assert await client.identify(token) is None
        assert server.requests == []


@pytest.mark.parametrize("status", [200, 403, 404, 500, 503])
@pytest.mark.asyncio
async def test_a_token_is_not_wrong_because_a_proxy_says_something(status: int) -> None:
    async with hub(answering(status, b"<html>")) as (client, _):
        with pytest.raises(HubUnavailable):
            await client.identify("token")


@pytest.mark.parametrize(
    ("version", "wrapped"), [("5.5.4", False), ("5.3.0", False), ("6.1.1", True), ("6.0.0b2", True), ("10.0.0", True)]
)
@pytest.mark.asyncio
async def test_options_are_sent_as_each_version_wants_them(version: str, wrapped: bool) -> None:
    answers = {
        "GET /hub/api/": response(200, {"version": version}),
        "POST /hub/api/users/alice/server": response(201, b""),
        "POST /hub/api/users/alice/servers/gpu": response(202, b""),
    }
    async with hub(answers) as (client, server):
        assert (await client.start(ALICE, {"enable_ssh": True})).kind == "ready"
        assert (await client.start(GPU, {"enable_ssh": True})).kind == "pending"
        bodies = [request.json for request in server.requests if request.method == "POST"]
        assert bodies == [{"user_options": {"enable_ssh": True}} if wrapped else {"enable_ssh": True}] * 2


@pytest.mark.parametrize("version", [{}, {"version": 5}, {"version": "new"}, {"version": None}])
@pytest.mark.asyncio
async def test_nothing_is_started_at_a_hub_of_no_known_version(version: dict[str, Any]) -> None:
    async with hub({"GET /hub/api/": response(200, version)}) as (client, _):
        with pytest.raises(HubUnavailable):
            await client.start(ALICE, {})


def start_answers(post: bytes) -> dict[str, bytes]:
    return {"GET /hub/api/": response(200, {"version": "6.1.1"}), "POST /hub/api/users/alice/server": post}


@pytest.mark.asyncio
async def test_too_many_spawns_say_when_to_come_again() -> None:
    post = response(429, {"status": 429, "message": "Too many users trying to log in right now."}, Retry_After="35")
    async with hub(start_answers(post)) as (client, _):
        answer = await client.start(ALICE, {})
        assert (answer.kind, answer.retry_after, answer.message) == ("busy", 35, "Too many users trying to log in right now.")


@pytest.mark.parametrize(
    "post",
    [
        response(403, {"status": 403, "message": "Action is not authorized with current scopes; requires any of [servers]"}),
        response(403, {"status": 403, "message": "Missing or invalid credentials."}),
        response(401, b""),
        response(200, b"<html>"),
        response(302, b""),
        response(502, b""),
        response(503, b"<html>"),
        response(504, b""),
    ],
)
@pytest.mark.asyncio
async def test_a_start_that_the_hub_did_not_decide_is_unavailable(post: bytes) -> None:
    async with hub(start_answers(post)) as (client, _):
        with pytest.raises(HubUnavailable):
            await client.start(ALICE, {})


@pytest.mark.asyncio
async def test_a_refused_start_brings_the_hubs_words_fit_to_show() -> None:
    post = response(403, {"status": 403, "message": "No quota\x1b[2J left"})
    async with hub(start_answers(post)) as (client, _):
        answer = await client.start(ALICE, {})
        assert (answer.kind, answer.message) == ("refused", "No quota [2J left")


@pytest.mark.asyncio
async def test_a_user_that_is_gone_is_not_started() -> None:
    async with hub(start_answers(response(404, NOT_FOUND))) as (client, _):
        with pytest.raises(KeyUnknown):
            await client.start(ALICE, {})


async def collected(client: HubClient, target: UserServer = ALICE) -> list[Progress]:
    return [event async for event in client.progress(target)]


def stream(*chunks: bytes, hold: bool = False) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
        if hold:
            await asyncio.Event().wait()

    return answer


def event(**values: Any) -> bytes:
    return b"data: " + json.dumps(values).encode() + b"\n\n"


@pytest.mark.parametrize(("last", "ready"), [({"ready": True}, True), ({"failed": True}, False)])
@pytest.mark.asyncio
async def test_progress_ends_with_the_event_that_says_so(last: dict[str, bool], ready: bool) -> None:
    answer = stream(b"\n\n", event(progress=0, message="one"), b"\n\n", event(progress=100, message="two", **last), hold=True)
    async with hub(answer) as (client, server):
        found = await collected(client)
        assert [(one.message, one.ready, one.failed) for one in found] == [("one", False, False), ("two", ready, not ready)]
        assert server.requests[0].path == "/hub/api/users/alice/server/progress"


@pytest.mark.asyncio
async def test_progress_of_a_named_server() -> None:
    async with hub(stream(event(ready=True))) as (client, server):
        await collected(client, GPU)
        assert server.requests[0].path == "/hub/api/users/alice/servers/gpu/progress"


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.asyncio
async def test_there_is_no_progress_of_what_is_not_starting(status: int) -> None:
    async with hub(answering(status, {"status": status, "message": "alice is not starting..."})) as (client, _):
        assert await collected(client) == []


BROKEN: dict[str, Answer] = {
    "forbidden": answering(403, {"status": 403, "message": "no"}),
    "gateway": answering(502, b""),
    "endless line": stream(b"data: " + b"x" * 100000),
    "endless": stream(*[b"\n" * 65536] * 20),
    "no JSON": stream(b"data: <html>\n\n"),
    "silence": stream(hold=True),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.asyncio
@pytest.mark.slow
async def test_progress_that_breaks_off_is_unavailable(what: str) -> None:
    async with hub(BROKEN[what], timeout=1) as (client, _):
        with pytest.raises(HubUnavailable):
            await collected(client)


@pytest.mark.asyncio
async def test_progress_that_ends_in_silence_is_no_failure() -> None:
    async with hub(stream(event(progress=5, message="one"))) as (client, _):
        assert [one.message for one in await collected(client)] == ["one"]


@pytest.mark.asyncio
async def test_activity_is_told_in_utc_for_exactly_that_server() -> None:
    when = datetime(2026, 11, 21, 23, 30, tzinfo=timezone(timedelta(hours=1)))
    async with hub(answering(200, b"")) as (client, server):
        await client.report_activity(GPU, when)
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/hub/api/users/alice/activity")
        assert request.json == {"servers": {"gpu": {"last_activity": "2026-11-21T22:30:00.000000Z"}}}


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.asyncio
async def test_activity_of_what_is_gone_is_nothing(status: int) -> None:
    async with hub(answering(status, {"status": status, "message": "No such server"})) as (client, server):
        await client.report_activity(GPU, datetime.now(timezone.utc))
        assert len(server.requests) == 1


@pytest.mark.parametrize("target", [ALICE, GPU])
@pytest.mark.asyncio
async def test_exactly_that_server_is_stopped_and_kept(target: UserServer) -> None:
    async with hub(answering(202, b"")) as (client, server):
        assert await client.stop(target) == ""
    (request,) = server.requests
    assert request.method == "DELETE"
    assert request.path == "/hub/api/users/alice" + ("/servers/gpu" if target.server else "/server")
    assert request.body == b"", "with remove: true a named server would be gone"


@pytest.mark.asyncio
async def test_a_stop_that_the_hub_refuses_brings_its_words_fit_to_show() -> None:
    async with hub(answering(400, {"status": 400, "message": "alice is pending\x1b[2J spawn"})) as (client, _):
        assert await client.stop(ALICE) == "alice is pending [2J spawn"
    async with hub(answering(400, {"status": 400, "message": ""})) as (client, _):
        assert "can't be stopped" in await client.stop(ALICE)
    async with hub(answering(404, NOT_FOUND)) as (client, _):
        with pytest.raises(KeyUnknown):
            await client.stop(ALICE)


@pytest.mark.parametrize("what", [what for what in OTHER_ANSWERS if what != "no answer"])
@pytest.mark.asyncio
async def test_any_other_answer_to_a_stop_is_the_hub_being_unavailable(what: str) -> None:
    async with hub(OTHER_ANSWERS[what]) as (client, _):
        with pytest.raises(HubUnavailable):
            await client.stop(ALICE)
