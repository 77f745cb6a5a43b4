"""Large data that needs no disk: any number of bytes, the same each time, that neither zlib nor luck can get right."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import sys
import threading
from collections.abc import Iterator
from typing import IO

BIG = int(os.environ.get("JHSSH_BIG_BYTES", 1 << 30))
"""bytes each way in the tests of big transfers"""
STALL = float(os.environ.get("JHSSH_STALL_SECONDS", 10))
"""seconds that the stopped reader stops for"""
BLOCK = 1 << 20

_SEED = "b = bytearray(random.Random(7).randbytes(1 << 20))"
_WRITER = f"""
import random, sys
{_SEED}
left, number = int(sys.argv[1]), 0
while left:
    b[:8] = number.to_bytes(8, 'big')
    left -= sys.stdout.buffer.write(memoryview(b)[:min(left, len(b))])
    number += 1
"""
_HASHER = """
import hashlib, sys
h = hashlib.sha256()
while data := sys.stdin.buffer.read(1 << 20):
    h.update(data)
print(h.hexdigest())
"""


def writer(count: int) -> str:
    """A shell command that writes ``count`` bytes of the pattern."""
    return shlex.join([sys.executable, "-c", _WRITER, str(count)])


def hasher() -> str:
    """A shell command that writes the SHA-256 of its input."""
    return shlex.join([sys.executable, "-c", _HASHER])


def blocks(count: int) -> Iterator[bytes]:
    block = bytearray(random.Random(7).randbytes(BLOCK))
    for number in range((count + BLOCK - 1) // BLOCK):
        block[:8] = number.to_bytes(8, "big")
        yield bytes(block[: min(BLOCK, count - number * BLOCK)])


def sha256(count: int) -> str:
    total = hashlib.sha256()
    for block in blocks(count):
        total.update(block)
    return total.hexdigest()


def read_sha256(stream: IO[bytes]) -> str:
    """Of everything up to the end of ``stream``."""
    total = hashlib.sha256()
    while data := stream.read(BLOCK):
        total.update(data)
    return total.hexdigest()


def feed(stream: IO[bytes], count: int) -> threading.Thread:
    """Write the pattern to ``stream`` and close it, while the caller reads elsewhere."""

    def work() -> None:
        with stream:
            for block in blocks(count):
                stream.write(block)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
