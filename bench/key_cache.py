"""``python -m bench.key_cache [COUNT]``: a full rebuild of the key cache for COUNT (10,000) user servers, and logins meanwhile.

Hub and user servers are simulated over real HTTP (1 % of them hang, 1 % answer garbage); the gateway and its refresh are real
processes. Prints the figures with their bounds; exit status 1 if one is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import psutil

from jhssh_ext.gateway.authenticate.key_cache import KeyCache
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.authenticate.key_sources.hub_page import HubPageKeys
from jhssh_ext.gateway.authenticate.key_sources.user_server import UserServerKeys
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.gateway.authenticate.user_keys import UserKeys
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import parse_line

from .simulated_hub import name_of

REBUILD_BOUND, LOGIN_BOUND, MEMORY_BOUND, AUTHORIZE_BOUND = 60.0, 2.0, 300.0, 1.0
IDLE_LOGINS = 60
PAUSE = 0.1
"""seconds between two logins"""
LOGIN_USERS = 20

CONFIG = """
c = get_config()
c.Gateway.ssh_address = "127.0.0.1"
c.Gateway.ssh_port = {ssh_port}
c.Gateway.http_port = {http_port}
c.Gateway.hub_api_url = "http://127.0.0.1:{hub_port}/hub/api"
c.Gateway.hub_api_token = {token!r}
c.Gateway.keys_dir = {keys!r}
c.Gateway.database_url = {database!r}
c.Gateway.public_url = "http://127.0.0.1:{hub_port}/"
c.Gateway.ssh_host = "127.0.0.1"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {timeout:g} s for {what}")
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def process(arguments: list[str], folder: Path, log: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / log).open("wb") as output:
        child = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def request(method: str, url: str, token: str, body: Any = None) -> Any:
    prepared = urllib.request.Request(
        url, method=method, data=None if body is None else json.dumps(body).encode(), headers={"Authorization": f"token {token}"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(prepared, timeout=30) as answer:
        return json.loads(answer.read())


class Memory:
    """The most that the gateway's processes ever had in memory, together; bytes."""

    def __init__(self, pid: int) -> None:
        self._process, self.most = psutil.Process(pid), 0

    def look(self) -> None:
        total = 0
        for each in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
        self.most = max(self.most, total)


async def login(port: int, user: str, key: asyncssh.SSHKey) -> float:
    began = time.perf_counter()
    connection = await asyncssh.connect(
        "127.0.0.1", port, username=user, client_keys=[key], known_hosts=None, agent_path=None, config=None,
        kex_algs=["curve25519-sha256"], preferred_auth=["publickey"],
    )  # fmt: skip
    took = time.perf_counter() - began
    connection.close()
    await connection.wait_closed()
    return took


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def authorizations(database_url: str, key_line: str) -> list[float]:
    """Seconds of each: is this key registered, by a copy that is fresh?"""
    database = Database(database_url)

    async def fetch(target: UserServer) -> Fetched:
        raise AssertionError("a warm cache asks nobody")

    keys = RegisteredKeys([UserServerKeys(KeyCache(KeyCopies(database, "server"), fetch)), HubPageKeys(UserKeys(database))])
    key, target, took = parse_line(key_line), UserServer(name_of(100)), []
    for _ in range(1000):
        began = time.perf_counter()
        assert await keys.holds(target, key, may_fetch=False)
        took.append(time.perf_counter() - began)
    await database.close()
    return took


async def measure(folder: Path, count: int) -> list[tuple[str, float, float, str]]:
    """(what, figure, bound, unit) of each."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    line = key.export_public_key().decode().strip()
    (folder / "login_key.pub").write_text(line)
    subprocess.run([sys.executable, "-m", "jhssh_ext.gateway", "keys", "init", "--dir", str(folder / "keys")], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    with contextlib.ExitStack() as simulated:
        for what in ("servers", "hub"):
            simulated.enter_context(process(["-m", "bench.simulated_hub", str(folder), str(count), what], folder, f"{what}.log"))
            wait_for((folder / f"{what}.json").exists, f"the simulated {what}")
        hub = json.loads((folder / "hub.json").read_text())
        ssh_port, http_port, database = free_port(), free_port(), sqlite_url(str(folder / "gateway.sqlite"))
        (folder / "config.py").write_text(
            CONFIG.format(ssh_port=ssh_port, http_port=http_port, hub_port=hub["http"], token=hub["gateway"],
                          keys=str(folder / "keys"), database=database)
        )  # fmt: skip
        with process(["-m", "jhssh_ext.gateway", "-f", str(folder / "config.py")], folder, "gateway.log") as gateway:
            api = f"http://127.0.0.1:{http_port}/services/ssh/api/refresh"

            def ready() -> bool:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ssh_port), timeout=1):
                    return bool(request("GET", api.replace("api/refresh", "health"), "x")["status"] == "ok")
                return False

            wait_for(ready, f"the gateway (see {folder}/gateway.log)")
            users = [name_of(100 * number) for number in range(min(LOGIN_USERS, count // 100))]
            memory = Memory(gateway.pid)
            for user in users:  # from now on their keys are in the cache
                await login(ssh_port, user, key)
            idle = []
            for number in range(IDLE_LOGINS):
                idle.append(await login(ssh_port, users[number % len(users)], key))
                await asyncio.sleep(PAUSE)
            await asyncio.to_thread(request, "POST", api, hub["admin"], {"full": True})
            began, busy, status = time.monotonic(), [], {"running": True}
            while status["running"]:
                busy.append(await login(ssh_port, users[len(busy) % len(users)], key))
                memory.look()
                await asyncio.sleep(PAUSE)
                status = await asyncio.to_thread(request, "GET", api, hub["admin"])
            wall = time.monotonic() - began
            report = status["last"]
    print(f"{count} user servers: {json.dumps(report)}")
    for name, logins in (("idle", idle), ("meanwhile", busy)):
        print(f"{len(logins)} logins {name}: median {1000 * statistics.median(logins):.1f} ms, p95 {1000 * p95(logins):.1f} ms")
    took = await authorizations(database, line)
    print(f"authorizing from a warm cache: median {1000 * statistics.median(took):.2f} ms, p95 {1000 * p95(took):.2f} ms")
    good = sum(1 for number in range(count) if number % 100 not in (1, 2))
    assert report["fetched"] == good, "all but those that hang or answer garbage"
    return [
        ("full rebuild", wall, REBUILD_BOUND, "s"),
        ("p95 of a cached login, meanwhile to idle", p95(busy) / p95(idle), LOGIN_BOUND, "times"),
        ("memory of the gateway and its refresh", memory.most / 2**20, MEMORY_BOUND, "MiB"),
        ("authorizing from a warm cache", 1000 * statistics.median(took), AUTHORIZE_BOUND, "ms"),
    ]


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="jhssh-bench-") as name:
        figures = asyncio.run(measure(Path(name), count))
    for what, figure, bound, unit in figures:
        print(f"{'ok  ' if figure < bound else 'MISS'} {what}: {figure:.2f} {unit} (bound {bound:g})")
    return int(any(figure >= bound for _, figure, bound, _ in figures))


if __name__ == "__main__":
    sys.exit(main())
