from __future__ import annotations

import asyncio

import pytest

from jhssh_ext.errors import BadRequest, ImportUnavailable, JHSSHError, KeyAccountUnknown, KeyRefused
from jhssh_ext.public_keys import MAX_TEXT, parse_line, parse_lines
from jhssh_ext.singleuser.key_import import KeyImporter

from ..fakes.http_server import Answer, Request, answering, http_server, response
from ..harness.processes import free_port
from .keys import new_line


async def imported(
    answer: Answer, user: str = "alice", provider: str = "github", timeout: float = 30
) -> tuple[object, list[Request]]:
    """What came of it, result or error, and what the provider was asked."""
    async with http_server(answer) as server:
        try:
            found: object = await KeyImporter({"github": server.url + "/", "gitlab": ""}, timeout=timeout).fetch(provider, user)
        except JHSSHError as error:
            found = error
        return found, server.requests


@pytest.mark.asyncio
async def test_keys_are_fetched_and_named_after_where_they_came_from() -> None:
    bare, named = new_line("").strip(), new_line("work")
    found, (request,) = await imported(answering(200, f"{bare}\n{named}\n".encode()))
    assert (request.method, request.path) == ("GET", "/alice.keys")
    first, second = parse_lines(found.text)  # type: ignore[attr-defined]
    assert (first, second) == (parse_line(bare), parse_line(named))
    assert first.comment == found.origin  # type: ignore[attr-defined]
    assert (first.comment.endswith("/alice"), second.comment) == (True, "work")


@pytest.mark.asyncio
async def test_a_key_that_is_not_taken_does_not_keep_the_others_out() -> None:
    line = new_line("x")
    found, _ = await imported(answering(200, f"ssh-dss AAAA\n{line}\n".encode()))
    assert found.text == line  # type: ignore[attr-defined]
    alone, _ = await imported(answering(200, b"ssh-dss AAAA\n"))
    assert isinstance(alone, KeyRefused)
    assert "DSA" in alone.sentence


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "user",
    [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "a?b",
        "a#b",
        "a%2fb",
        "a@b",
        "a:b",
        "a b",
        "a\nb",
        "a\\b",
        "a..b",
        "-a",
        "a.",
        "ä",
        "x" * 101,
    ],
)
async def test_a_user_name_can_name_no_other_place(user: str) -> None:
    found, requests = await imported(answering(200, b""), user)
    assert isinstance(found, BadRequest)
    assert not requests


@pytest.mark.asyncio
@pytest.mark.parametrize("provider", ["gitlab", "http://127.0.0.1", ""])
async def test_only_the_admins_providers_are_asked(provider: str) -> None:
    found, requests = await imported(answering(200, b""), provider=provider)
    assert isinstance(found, BadRequest)
    assert not requests


@pytest.mark.asyncio
async def test_redirects_are_not_followed() -> None:
    found, requests = await imported(answering(301, b"", Location="/elsewhere"))
    assert isinstance(found, ImportUnavailable)
    assert len(requests) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "body"), [(404, b"Not Found"), (302, b""), (200, b"\n")])
async def test_no_such_user_and_no_keys(status: int, body: bytes) -> None:
    found, _ = await imported(answering(status, body))
    assert isinstance(found, KeyAccountUnknown)


@pytest.mark.asyncio
async def test_what_is_too_long_too_slow_or_an_error_is_told() -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (2 * MAX_TEXT))

    async def too_long(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b"x" * (MAX_TEXT + 1)))

    for answer in (silent, endless, too_long, answering(500, b"oops")):
        found, _ = await imported(answer, timeout=0.5)
        assert isinstance(found, ImportUnavailable), answer
        assert "Paste the keys instead" in found.sentence


@pytest.mark.asyncio
async def test_off_line_is_told_by_the_hosts_name() -> None:
    port = free_port()
    with pytest.raises(ImportUnavailable, match=r"can't reach 127\.0\.0\.1"):
        await KeyImporter({"github": f"http://127.0.0.1:{port}"}).fetch("github", "alice")
