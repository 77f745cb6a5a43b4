"""`make demo`, as a newcomer types it: what it prints is true, two can run, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from .harness.processes import describe, free_port, stop_child, wait_until
from .harness.ssh import SSHClient

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


class Demo:
    """One demo as a child process in a process group of its own, as a terminal would have it."""

    def __init__(self, folder: Path, hub_port: int, ssh_port: int) -> None:
        self.folder = folder
        self.hub_port, self.ssh_port = hub_port, ssh_port
        self.log = folder / f"printed-{hub_port}"
        environment = {**os.environ, "DEMO_FOLDER": str(folder), "HUB_PORT": str(hub_port), "SSH_PORT": str(ssh_port)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["make", "--no-print-directory", "demo"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def wait_until_ready(self) -> None:
        wait_until(lambda: "Ctrl-C ends the demo" in self.printed or self.process.poll() is not None, 120, what="the demo")
        assert self.process.poll() is None, self.printed

    def client(self, folder: Path) -> SSHClient:
        """As the printed text says: address, token as password, host key by fingerprint."""
        assert f"ssh -p {self.ssh_port} alice@127.0.0.1" in self.printed
        found = re.search(r'password:"\s+(\S+)', self.printed)
        assert found
        host_key = (self.folder / "keys/host_key.pub").read_text()
        listed = subprocess.run(["ssh-keygen", "-lf", "-"], input=host_key, capture_output=True, text=True, check=True).stdout
        assert listed.split()[1] in self.printed
        return SSHClient(folder, port=self.ssh_port, host_key=" ".join(host_key.split()[:2]), user="alice", password=found[1])

    def processes(self) -> list[psutil.Process]:
        """All of this demo: by what their environment or arguments say of its folder."""
        here = str(self.folder / str(self.hub_port))
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                texts = [*process.environ().values(), *process.cmdline(), process.cwd()]
                if any(here in text or text == f"http://127.0.0.1:{self.hub_port}/" for text in texts):
                    found.append(process)
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def start(hub_port: int = 0, ssh_port: int = 0) -> Demo:
        demos.append(Demo(tmp_path, hub_port or free_port(), ssh_port or free_port()))
        return demos[-1]

    yield start
    for each in demos:
        if each.process.poll() is None:
            os.killpg(each.process.pid, signal.SIGINT)
        stop_child(each.process, timeout=60)


def test_two_demos_let_alice_in_and_ctrl_c_leaves_nothing(demo: Callable[..., Demo], tmp_path: Path) -> None:
    demos = [demo(), demo()]
    for each in demos:
        each.wait_until_ready()
        done = each.client(tmp_path / f"client-{each.hub_port}").run("pwd; nohup sleep 1000 >/dev/null 2>&1 &")
        assert done.stdout.decode().strip() == str(tmp_path / str(each.hub_port) / "home/alice"), done
        assert len(each.processes()) > 4
    for each in demos:
        os.killpg(each.process.pid, signal.SIGINT)
        each.process.wait(60)
        left = each.processes()
        assert not left, describe(left)


def test_demo_whose_make_is_killed_leaves_nothing(demo: Callable[..., Demo]) -> None:
    one = demo()
    one.wait_until_ready()
    one.process.kill()
    one.process.wait(60)
    wait_until(lambda: not one.processes(), 60, what="the demo to end")
    assert not one.processes()


def test_taken_port_is_told_with_what_to_type_instead(demo: Callable[..., Demo]) -> None:
    one = demo()
    one.wait_until_ready()
    other = demo(hub_port=one.hub_port)
    assert other.process.wait(60) != 0
    assert re.search(rf"Port {one.hub_port} is taken. Choose others: make demo HUB_PORT=\d+ SSH_PORT=\d+", other.printed)
    assert one.process.poll() is None
