"""The session agent at work in a notebook container, seen through the sidecar's sshd."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jhssh_ext.sidecar import agent

from ..conformance.client import Client, pipe
from ..conformance.waiting import end, processes, wait_for
from .pod import ROOT, USER_ID, Pod, pod, why_not

OLDEST_PYTHON = Path.home() / ".pyenv" / "versions" / "3.8.18" / "bin" / "python3"
ClientOf = Callable[[Pod], Client]


def agents(of: Pod) -> list[int]:
    """The one that keeps, the one that serves, and those that attend to sessions."""
    return of.notebook.find("agent.py", "agent.sock")


def test_session_has_what_the_jupyter_server_has(client: Client, shared_pod: Pod) -> None:
    server = shared_pod.notebook.first
    lines = client.output(
        "umask; ulimit -n; ulimit -c; cat /proc/self/oom_score_adj; id -u; pwd; readlink /proc/self/ns/pid"
    ).splitlines()
    limits = {line[:25].strip(): line[26:].split()[0] for line in Path(f"/proc/{server}/limits").read_text().splitlines()}
    assert int(lines[0], 8) == int(_status(server, "Umask"), 8)
    assert lines[1] == limits["Max open files"]
    assert lines[2] == limits["Max core file size"]
    assert lines[3] == Path(f"/proc/{server}/oom_score_adj").read_text().strip()
    assert lines[4:] == [str(USER_ID), str(shared_pod.home), str(Path(f"/proc/{server}/ns/pid").readlink())]


def _status(pid: int, name: str) -> str:
    return next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:"))


def test_environment_is_the_jupyter_servers_and_the_ssh_sessions_and_nothing_more(client: Client, shared_pod: Pod) -> None:
    found = dict(item.split("=", 1) for item in client.output("env -0").rstrip("\0").split("\0"))
    own = {"PWD", "SHLVL", "_", "SSH_CLIENT", "SSH_CONNECTION"}
    assert {name: value for name, value in found.items() if name not in own} == shared_pod.user_environment()


def test_jupyter_servers_own_variables_are_those_of_its_terminals(client: Client, shared_pod: Pod) -> None:
    runtime = shared_pod.home / ".local/share/jupyter/runtime"
    runtime.mkdir(parents=True)
    (runtime / "jpserver-1.json").write_text(json.dumps({"root_dir": "/the/root", "url": "http://here/"}))
    try:
        assert client.output("echo $JUPYTER_SERVER_ROOT $JUPYTER_SERVER_URL") == "/the/root http://here/\n"
    finally:
        (runtime / "jpserver-1.json").unlink()


def test_sftp_sees_the_notebooks_files(client: Client, shared_pod: Pod) -> None:
    batch = b"ls /proc/1/cwd/\nget /proc/1/comm -\n"
    (shared_pod.home / "in the notebook").touch()
    result = client.call(
        "sftp", "-F", str(client.target.ssh_config), "-b", "-", client.target.host, input=batch[: batch.index(b"get")]
    )
    assert (result.returncode, b"in the notebook" in result.stdout) == (0, True), result.stderr


def test_orphans_are_reaped(client: Client, shared_pod: Pod) -> None:
    seconds = client.seconds()
    client.output(f"setsid sh -c 'sleep {seconds} & exec true' >/dev/null 2>&1 </dev/null")
    (sleeper,) = wait_for(lambda: processes("sleep", seconds), "it runs")
    keeper, server, *_ = agents(shared_pod)
    wait_for(lambda: int(_status(sleeper, "PPid")) in (keeper, server), "it is the agent's")
    os.kill(sleeper, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{sleeper}").exists(), "not even a zombie is left")


@pytest.mark.slow
def test_nothing_is_left_of_a_hundred_sessions(client: Client, shared_pod: Pod) -> None:
    wait_for(lambda: len(agents(shared_pod)) == 2, "earlier sessions have ended")
    containers = shared_pod.notebook, shared_pod.sidecar
    before = [len(each.processes()) for each in containers]
    master = client.master()
    running = []
    for number in range(100):
        terminal = "-tt" if number % 5 == 0 else "-T"
        running.append(client.start("true", "-S", master, terminal, stdin=subprocess.DEVNULL))
        if len(running) == 10:
            assert [process.wait(60) for process in running] == [0] * 10
            running.clear()
    assert client.run(None, "-S", master, "-O", "exit").returncode == 0
    wait_for(
        lambda: all(len(each.processes()) <= count for each, count in zip(containers, before, strict=True)),
        "there is no more in either container than there was",
    )
    assert not list((shared_pod.volume / "tmp").iterdir())


def test_a_session_that_was_hung_up_runs_its_trap_once(client: Client, shared_pod: Pod) -> None:
    mark, seconds = shared_pod.home / client.name(), client.seconds()
    running = client.start(f"exec 2>/dev/null; trap 'echo hung up >>{mark.name}' HUP; sleep {seconds}; sleep 0.2; exit")
    wait_for(lambda: processes("sleep", seconds), "it has set its trap, and waits")
    running.kill()
    wait_for(lambda: mark.exists() and len(agents(shared_pod)) == 2, "the session is gone")
    assert mark.read_text() == "hung up\n"


def test_a_session_that_is_hung_up_has_each_process_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    ) as session:
        sleeper = int(pipe(session.stdout).readline())
        told: list[tuple[int, int]] = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", lambda *what: told.append(what))
            agent.hang_up(session.pid)
        os.killpg(session.pid, signal.SIGKILL)
    assert told[0] == (session.pid, signal.SIGHUP), "before it starts anything more"
    assert sorted(told) == sorted((pid, sent) for pid in (session.pid, sleeper) for sent in (signal.SIGHUP, signal.SIGCONT))


def test_a_session_that_removes_its_xauthority_keeps_its_status(client: Client) -> None:
    result = client.run('test -f "$XAUTHORITY" && rm -f "$XAUTHORITY" && exit 7', "-Y", env={"DISPLAY": ":99"})
    assert result.returncode == 7, result.stderr


@pytest.mark.slow
def test_more_sessions_than_the_sidecar_can_bear_are_refused_with_a_sentence(own_pod: Pod, client_of: ClientOf) -> None:
    script = own_pod.volume / "lib" / "agent.py"
    text = script.read_text()
    assert "\nMAX_SESSIONS = 100\n" in text
    for pid in agents(own_pod):
        os.kill(pid, signal.SIGKILL)
    script.write_text(text.replace("\nMAX_SESSIONS = 100\n", "\nMAX_SESSIONS = 1\n"))
    wait_for(lambda: not agents(own_pod), "the agent is gone")
    own_pod.start_agent()
    client = client_of(own_pod)
    running = client.start("cat")
    pipe(running.stdin).write(b"x\n")
    pipe(running.stdin).flush()
    assert pipe(running.stdout).readline() == b"x\n"
    result = client.run("true")
    assert (result.returncode, b"Too many sessions are open on this server." in result.stderr) == (255, True), result.stderr
    running.communicate(timeout=60)
    wait_for(lambda: client.run("true").returncode == 0, "the next one is let in")


def test_signal_to_what_stands_for_the_session_reaches_it(client: Client, shared_pod: Pod) -> None:
    seconds = client.seconds()
    running = client.start(f"trap 'echo told; exit 9' USR1; echo ready; sleep {seconds} & wait")
    assert pipe(running.stdout).readline() == b"ready\n"
    wait_for(lambda: processes("sleep", seconds), "it sleeps")
    try:
        (enter,) = shared_pod.sidecar.find("enter.py")
        wait_for(lambda: int(_status(enter, "SigCgt"), 16) >> (signal.SIGUSR1 - 1) & 1, "its handlers stand")  # proc(5)
        os.kill(enter, signal.SIGUSR1)
        assert pipe(running.stdout).readline() == b"told\n"
    finally:
        end("sleep", seconds)
    assert running.wait(60) == 9


@pytest.mark.slow
def test_sessions_outlive_the_agent_and_the_next_is_served(own_pod: Pod, client_of: ClientOf) -> None:
    client = client_of(own_pod)
    for victim in (0, 1):
        running = client.start("cat")
        pipe(running.stdin).write(b"before\n")
        pipe(running.stdin).flush()
        assert pipe(running.stdout).readline() == b"before\n"
        os.kill(agents(own_pod)[victim], signal.SIGKILL)
        assert client.output("echo next", timeout=60) == "next\n"
        out, _ = running.communicate(b"after\n", timeout=60)
        assert (out, running.returncode) == (b"after\n", 0)
        wait_for(lambda: len(agents(own_pod)) == 2, "two agents are there again, and nothing more")


@pytest.mark.slow
@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_session_whose_attendant_is_killed_ends_with_a_reason(own_pod: Pod, client_of: ClientOf, terminal: str) -> None:
    client = client_of(own_pod)
    seconds = client.seconds()
    running = client.start(f"sleep {seconds}", terminal)
    wait_for(lambda: processes("sleep", seconds), "it runs")
    os.kill(agents(own_pod)[-1], signal.SIGKILL)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 255
    assert b"was stopped" in err or terminal == "-tt"  # a terminal has one stream alone
    wait_for(lambda: not processes("sleep", seconds), "it has ended")


@pytest.mark.slow
def test_notebook_container_that_ends_is_told_and_comes_back(own_pod: Pod, client_of: ClientOf) -> None:
    client = client_of(own_pod)
    running = client.start("cat")
    pipe(running.stdin).write(b"there\n")
    pipe(running.stdin).flush()
    assert pipe(running.stdout).readline() == b"there\n"
    own_pod.notebook.end()
    assert running.wait(60) == 255
    assert b"jhssh: The session ended because" in pipe(running.stderr).read()
    own_pod.start_notebook()
    assert client.output("echo again", timeout=60) == "again\n"


@pytest.mark.slow
def test_sidecar_that_ends_hangs_up_its_sessions_and_comes_back(own_pod: Pod, client_of: ClientOf) -> None:
    client = client_of(own_pod)
    attached, detached = client.seconds(), client.seconds()
    client.start(f"setsid sleep {detached} >/dev/null 2>&1 </dev/null & sleep {attached}")
    try:
        wait_for(lambda: processes("sleep", attached) and processes("sleep", detached), "both run")
        own_pod.sidecar.end()
        wait_for(lambda: not processes("sleep", attached), "what was attached has ended")
        own_pod.start_sidecar()
        own_pod.wait_until_up()
        assert client.output("echo again") == "again\n"
        assert processes("sleep", detached)
    finally:
        end("sleep", detached)


@pytest.mark.slow
def test_killed_sshd_is_started_again(own_pod: Pod, client_of: ClientOf) -> None:
    client = client_of(own_pod)
    running = client.start("cat")
    pipe(running.stdin).write(b"x\n")
    pipe(running.stdin).flush()
    assert pipe(running.stdout).readline() == b"x\n"
    for number in (signal.SIGKILL, signal.SIGTERM):  # sshd ends with 0 on the latter
        (listener,) = own_pod.sidecar.find("[listener]")
        os.kill(listener, number)
        wait_for(lambda listener=listener: set(own_pod.sidecar.find("[listener]")) - {listener}, "another listens")  # type: ignore[misc]
        wait_for(lambda: client.run("true").returncode == 0, "the next connection works")
    out, _ = running.communicate(b"y\n", timeout=60)
    assert out == b"y\n", "a session that was open goes on"


@pytest.mark.slow
def test_a_server_that_is_gone_is_a_sentence(own_pod: Pod, client_of: ClientOf) -> None:
    """The Jupyter server here is a child of a wrapper, and has ended."""
    own_pod.notebook.end()
    own_pod.start_notebook(wrapper=["/bin/sh", "-c", '"$@"; exec sleep 1000', "sh"])
    client = client_of(own_pod)
    assert client.output("cat /proc/$PPID/comm >/dev/null; pwd") == f"{own_pod.home}\n"
    (server,) = [
        pid for pid, words in own_pod.notebook.processes().items() if "server.py" in " ".join(words) and "/bin/sh" not in words
    ]
    os.kill(server, signal.SIGKILL)
    result = client.run("true", timeout=40)
    assert (result.returncode, b"jhssh: No Jupyter server runs" in result.stderr) == (255, True)


def test_the_hook_of_the_admin_is_run_and_its_status_counts(shared_pod: Pod) -> None:
    """start-agent finds the agent that is there, and becomes the hook."""
    result = shared_pod.start_agent("/bin/sh", "-c", 'echo "$1"; exit 5', "sh", "a  b")
    assert (result.returncode, result.stdout) == (5, b"a  b\n")
    wait_for(lambda: len(agents(shared_pod)) == 2, "no second agent stays")


def test_without_python_the_container_starts_all_the_same(shared_pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    script = (
        (ROOT / "images/sidecar/bin/start-agent")
        .read_text()
        .replace("/opt/conda/bin/python3 /usr/local/bin/python3 /usr/bin/python3", "")
    )
    result = subprocess.run([str(tmp_path / "sh"), "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"r",
        b"x\0\0\0\0",
        b"r\xff\xff\xff\xff",
        b"r\0\0\0\2{}",
        b"r\0\0\0\4null",
        b"r\0\0\0\5\xff\xff\xff\xff\xff",
        b"r" + (200_000).to_bytes(4, "big") + b"[" * 200_000,
    ],
)
def test_malformed_requests_end_that_session_alone(shared_pod: Pod, client: Client, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(15)
        connection.connect(str(shared_pod.agent_socket))
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert answer == b"" or answer[:1] == b"e"
    assert client.output("echo fine") == "fine\n"


@pytest.mark.slow
def test_the_agent_is_written_for_the_oldest_python() -> None:
    ast.parse((ROOT / "jhssh_ext/sidecar/agent.py").read_text(), feature_version=(3, 8))


@pytest.mark.slow
def test_every_way_in_works_with_the_oldest_python(client_of: ClientOf) -> None:
    reason = why_not() or ("" if OLDEST_PYTHON.exists() else f"{OLDEST_PYTHON} is not here")
    if reason:
        pytest.skip(reason)
    with pod(PATH=f"{OLDEST_PYTHON.parent}:{Path(sys.executable).parent}:/usr/bin:/bin") as old:
        client = client_of(old)
        (running, *_) = wait_for(lambda: agents(old), "the agent runs")
        assert Path(f"/proc/{running}/exe").resolve() == OLDEST_PYTHON.resolve()
        assert client.run("cat; exit 7", input=b"data").stdout == b"data"
        assert client.run("kill -TERM $$").returncode == 255
        assert client.run("tty; exit 9", "-tt").returncode == 9
        result = client.call("sftp", "-F", str(client.target.ssh_config), "-b", "-", client.target.host, input=b"pwd\n")
        assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_user_id_without_an_account(client_of: ClientOf) -> None:
    reason = why_not() or ("" if list(Path("/usr/lib").glob("*/libnss_wrapper.so")) else "not installed: libnss-wrapper")
    if reason:
        pytest.skip(reason)
    with pod(has_account=False) as made:
        client = client_of(made)
        assert client.output("id -u; getent passwd $(id -u) || echo nobody known") == f"{USER_ID}\nnobody known\n"
        assert client.run("true", "-tt").returncode == 0
        result = client.call("sftp", "-F", str(client.target.ssh_config), "-b", "-", client.target.host, input=b"pwd\n")
        assert result.returncode == 0, result.stderr
