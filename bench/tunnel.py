"""``python -m bench.tunnel [MB]``: SSH through the Hub's proxy and the gateway's tunnel, against TCP to the same gateway.

A real Hub with npm's configurable-http-proxy (PyPI's where there is no npm, or with --python-proxy), a user server with OpenSSH's
sshd, the stock client. MB (1024) each way are compared by their hashes; a reader stops for STALL seconds, and the memory of the
gateway and of the tunnel's end at the client is looked at. Prints the figures with their bounds; exit status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.conftest import register_key
from tests.harness.hub import Hub
from tests.harness.processes import memory
from tests.harness.ssh import HOST, SSHClient, make_key
from tests.tunnel.ways import tunnel_command, tunnels

RATIO_BOUND, MEMORY_BOUND, START_BOUND = 0.5, 64.0, 150.0
STALL = 60
LOGINS = 15
USER = "alice"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", nargs="?", type=int, default=1024)
    parser.add_argument("--stall", type=float, default=STALL, help="seconds for which the reader stops")
    parser.add_argument("--python-proxy", action="store_true", help="PyPI's configurable-http-proxy")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_hub(folder, python_proxy=given.python_proxy) as hub:
            assert hub.gateway is not None
            key = make_key(folder / "id")
            register_key(hub, USER, key)
            clients = {
                way: SSHClient(
                    folder / way,
                    port=hub.gateway.ssh_port,
                    host_key=hub.gateway.host_key,
                    user=USER,
                    key=key,
                    mark=hub.mark,
                    options=[f"ProxyCommand {tunnel_command(hub)}"] if way == "tunnel" else [],
                )
                for way in ("tcp", "tunnel")
            }
            met = [
                logins(clients),
                *throughput(clients, folder / "blob", given.megabytes),
                *stalled(hub, clients["tunnel"], given.stall),
            ]
    return 0 if all(met) else 1


@contextlib.contextmanager
def running_hub(folder: Path, *, python_proxy: bool) -> Iterator[Hub]:
    hub = Hub(folder / "hub")
    if not python_proxy and shutil.which("npm"):
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run([*command, "configurable-http-proxy"], check=True, stdin=subprocess.DEVNULL)
        program, proxy = str(folder / "node_modules/.bin/configurable-http-proxy"), "npm's"
        hub.config += f"\nc.ConfigurableHTTPProxy.command = [{program!r}]\n"
    else:
        proxy = "PyPI's"
    print(f"{proxy} configurable-http-proxy, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    hub.start()
    try:
        hub.start_server(USER)
        yield hub
    finally:
        hub.stop()


def logins(clients: dict[str, SSHClient]) -> bool:
    """From ssh's start to the end of ``true``: what is more of it through the tunnel is the tunnel's start."""
    taken: dict[str, list[float]] = {way: [] for way in clients}
    for number in range(LOGINS + 1):
        for way, client in clients.items():
            began = time.monotonic()
            assert client.run("true").returncode == 0
            if number:
                taken[way].append(1000 * (time.monotonic() - began))
    tcp, tunnel = (statistics.median(taken[way]) for way in ("tcp", "tunnel"))
    return shown(
        f"login, median of {LOGINS}: {tcp:.0f} ms by TCP, {tunnel:.0f} ms through the tunnel: more by", tunnel - tcp, START_BOUND
    )


def throughput(clients: dict[str, SSHClient], blob: Path, megabytes: int) -> list[bool]:
    """Each way, by either path, in turn."""
    piece, digest = os.urandom(1 << 20), hashlib.sha256()
    with blob.open("wb") as file:
        for _ in range(megabytes):
            file.write(piece)
            digest.update(piece)
    met = []
    directions: dict[str, Callable[[SSHClient, Path], str]] = {"download": download, "upload": upload}
    for direction, copy in directions.items():
        speeds: dict[str, float] = {}
        for way, client in clients.items():
            began = time.monotonic()
            found = copy(client, blob)
            speeds[way] = megabytes / (time.monotonic() - began)
            assert found == digest.hexdigest(), f"{direction} by {way}: something else arrived"
        ratio = speeds["tunnel"] / speeds["tcp"]
        text = f"{direction} of {megabytes} MB, identical: {speeds['tcp']:.0f} MB/s by TCP, {speeds['tunnel']:.0f} so: ratio"
        met.append(shown(text, ratio, RATIO_BOUND, at_least=True))
    return met


def download(client: SSHClient, blob: Path) -> str:
    digest = hashlib.sha256()
    with client.popen(f"cat {blob}", stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while data := process.stdout.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def upload(client: SSHClient, blob: Path) -> str:
    with blob.open("rb") as file:
        done = subprocess.run(
            [*client.ssh_command, HOST, "sha256sum"], stdin=file, capture_output=True, check=True, env=client.environment
        )
    return done.stdout.decode().split()[0]


def stalled(hub: Hub, client: SSHClient, seconds: float) -> list[bool]:
    """ssh itself stops, so that nothing takes what its tunnel has for it."""
    assert hub.gateway is not None
    idle = memory(hub.gateway.pid)
    process = client.popen("cat /dev/zero", stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.read(1 << 20)
    (tunnel,) = tunnels(hub)
    process.send_signal(signal.SIGSTOP)
    gateway_most, tunnel_most, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        gateway_most, tunnel_most = max(gateway_most, memory(hub.gateway.pid)), max(tunnel_most, memory(tunnel.pid))
        time.sleep(0.2)
    process.send_signal(signal.SIGCONT)
    alive = len(process.stdout.read(64 << 20)) == 64 << 20
    process.kill()
    process.communicate()
    with contextlib.suppress(psutil.TimeoutExpired):
        tunnel.wait(15)
    mega = 1 << 20
    return [
        shown(f"reader stopped for {seconds:.0f} s: tunnel's end at the client, MB at most", tunnel_most / mega, MEMORY_BOUND),
        shown(f"  gateway, {idle / mega:.0f} MB before: MB more at most", max(0, gateway_most - idle) / mega, MEMORY_BOUND),
        shown("  then 64 MB more arrive, and nothing is left", float(alive and not tunnel.is_running()), 1, at_least=True),
    ]


def shown(text: str, value: float, bound: float, *, at_least: bool = False) -> bool:
    met = value >= bound if at_least else value < bound
    sign = ">=" if at_least else "<"
    print(f"{'ok    ' if met else 'MISSED'} {text} {value:.2f} ({sign} {bound:g})", flush=True)
    return met


if __name__ == "__main__":
    sys.exit(main())
