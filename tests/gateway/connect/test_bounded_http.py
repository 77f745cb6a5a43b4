from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tornado.httputil import HTTPInputError

from jhssh_ext.gateway.connect.bounded_http import BoundedClient, NoAnswer

from ...fakes.http_server import Answer, Request, answering, http_server
from ...harness.processes import free_port


@asynccontextmanager
async def bounded(**bounds: float) -> AsyncIterator[BoundedClient]:
    client = BoundedClient(
        max_body=int(bounds.get("max_body", 1000)),
        max_clients=int(bounds.get("max_clients", 2)),
        connect_timeout=bounds.get("connect_timeout", 30.0),
        request_timeout=bounds.get("request_timeout", 30.0),
    )
    try:
        yield client
    finally:
        client.close()


def raw(data: bytes) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_chunks(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"100\r\n" + b"x" * 256 + b"\r\n")
        await writer.drain()


async def endless_header(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Header: " + b"x" * 4096 + b"\r\n")
        await writer.drain()


async def endless_informational(request: Request, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()


async def never(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drip(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    for _ in range(900):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


FAULTS = {
    "1 GB announced": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nx"),
    "endless": endless,
    "endless chunks": endless_chunks,
    "endless header": endless_header,
    "endless 1xx": endless_informational,
    "never": never,
    "one byte at a time": drip,
    "closed at once": raw(b""),
    "closed in mid-body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"),
    "SSH": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "header without colon": raw(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"),
    "status is no number": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.asyncio
async def test_each_fault_of_a_server_becomes_no_answer(fault: str) -> None:
    async with http_server(FAULTS[fault]) as server, bounded(request_timeout=0.5) as client:
        with pytest.raises(NoAnswer):
            await client.fetch(server.url + "/x")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"http://127.0.0.1:{free_port()}/", id="a free port"),
        "https://127.0.0.1:1/",
        "http://nobody.invalid/",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://[::1/",
        "",
        "not a url",
        "http://\udc80/",
    ],
)
@pytest.mark.asyncio
async def test_each_url_that_leads_nowhere_becomes_no_answer(url: str) -> None:
    async with bounded() as client:
        with pytest.raises(NoAnswer):
            await client.fetch(url)


@pytest.mark.parametrize(
    "error",
    [OSError("os"), ssl.SSLError("tls"), ValueError("value"), RuntimeError("closed"), UnicodeError("text"), KeyError("method")],
)
@pytest.mark.asyncio
async def test_whatever_tornado_raises_becomes_no_answer(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded() as client:

        async def fails(*arguments: object, **keywords: object) -> None:
            raise error

        monkeypatch.setattr(client._client, "fetch", fails)
        with pytest.raises(NoAnswer, match=type(error).__name__):
            await client.fetch("http://127.0.0.1/")


@pytest.mark.asyncio
async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with http_server(answering(302, b"", Location="/elsewhere")) as server, bounded() as client:
        response = await client.fetch(server.url + "/x", headers={"Authorization": "token abc"})
        assert response.code == 302
        assert [request.path for request in server.requests] == ["/x"]


@pytest.mark.asyncio
async def test_compression_is_neither_asked_for_nor_undone() -> None:
    async with http_server(answering(200, b"not gzip", Content_Encoding="gzip")) as server, bounded() as client:
        response = await client.fetch(server.url)
        assert response.body == b"not gzip"
        assert "accept-encoding" not in server.requests[0].headers


@pytest.mark.asyncio
async def test_a_cancelled_wait_ends_at_once_and_its_later_failure_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    gone = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    async with bounded() as client:
        async with http_server(answer) as server:
            task = asyncio.create_task(client.fetch(server.url))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await gone.wait()
        await asyncio.sleep(0.3)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


@pytest.mark.asyncio
async def test_a_stream_ends_when_its_reader_says_so() -> None:
    seen: list[bytes] = []

    def reader() -> Callable[[bytes], None]:
        def received(chunk: bytes) -> None:
            seen.append(chunk)
            raise HTTPInputError("enough")

        return received

    async with http_server(endless) as server, bounded(max_body=10**9) as client:
        with pytest.raises(NoAnswer):
            await client.fetch(server.url, streaming_callback=reader())
    assert len(seen) == 1
