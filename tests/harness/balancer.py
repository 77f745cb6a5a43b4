"""A TCP load balancer: one port, behind which the first of several others that listens answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .processes import free_port


class Balancer:
    """``targets`` are ports of 127.0.0.1; change them at will. It connects to them from ``source``."""

    def __init__(self, targets: list[int], source: str) -> None:
        self.targets, self.port = targets, free_port()
        self._source = source
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        self._stopping.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            for target in self.targets:
                with contextlib.suppress(OSError):
                    there = await asyncio.open_connection("127.0.0.1", target, local_addr=(self._source, 0))
                    await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
                    break
        finally:
            writer.close()
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def balancing(targets: list[int], source: str) -> Iterator[Balancer]:
    """A running one, in a thread."""
    balancer, ready = Balancer(targets, source), threading.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=[balancer.serve(ready)])
    thread.start()
    assert ready.wait(60)
    try:
        yield balancer
    finally:
        loop.call_soon_threadsafe(balancer.stop)
        thread.join(10)
        loop.close()
