"""Who gets a sidecar, what sessions find, and what beside it goes on."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..conftest import register_key
from ..harness.processes import wait_until
from ..harness.ssh import HOST, SSHClient, make_key
from .cluster import Pod
from .conftest import PROFILES, Cluster
from .terminal import JupyterTerminal

SSH = Callable[..., SSHClient]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOOK = (
    'mkdir -p {0} && cd {0} && (cd "$OLDPWD"; which python; echo; pwd; echo; id; echo; ls /) > look'
    " && env -0 | sort -z > env && echo > done\n"
)
# What sshd and each terminal (terminado: PYXTERM) set for themselves.
OF_THE_SESSION = ("SSH_", "TERM", "PYXTERM_", "SHLVL", "_", "OLDPWD", "PWD", "COLUMNS", "LINES", "JHSSH_")


def looked(pod: Pod, folder: str) -> tuple[str, dict[str, str]]:
    wait_until(lambda: pod.call("test", "-e", f"{folder}/done").returncode == 0, what=folder)
    entries = pod.run("cat", f"{folder}/env").split("\0")
    env = dict(entry.split("=", 1) for entry in entries if entry)
    return pod.run("cat", f"{folder}/look"), {n: v for n, v in env.items() if not n.startswith(OF_THE_SESSION)}


@pytest.mark.asyncio
@pytest.mark.parametrize("image", PROFILES)
async def test_a_session_finds_what_a_jupyter_terminal_finds(cluster: Cluster, ssh: SSH, image: str) -> None:
    user = f"looks-{PROFILES[image]}"
    pod = cluster.server(user, PROFILES[image])
    async with JupyterTerminal(cluster.hub, user) as terminal:
        await terminal.type(LOOK.format("/tmp/of-jupyter"))
        expected = looked(pod, "/tmp/of-jupyter")
    session = ssh(user).terminal()
    try:
        session.sendline(LOOK.format("/tmp/of-ssh").rstrip())
        found = looked(pod, "/tmp/of-ssh")
    finally:
        session.close(force=True)
    assert found[0] == expected[0]
    names = found[1].keys() | expected[1].keys()
    assert {
        name: (found[1].get(name), expected[1].get(name)) for name in names if found[1].get(name) != expected[1].get(name)
    } == {}
    assert "/opt/venv/bin/python\n" in expected[0]
    assert expected[1]["JUPYTERHUB_USER"] == user


@pytest.mark.parametrize(
    ("user", "profile", "options", "on"),
    [
        ("off", "ours", {"enable_ssh": False}, False),
        ("on", "ours", {"enable_ssh": True}, True),
        ("by-profile", "always", {"enable_ssh": False}, True),
        ("by-group", "ours", {"enable_ssh": False}, True),
    ],
)
def test_who_gets_a_sidecar(cluster: Cluster, ssh: SSH, user: str, profile: str, options: dict[str, bool], on: bool) -> None:
    if user == "by-group":
        cluster.hub.create_user(user)
        cluster.hub.api("POST", "groups/staff")
        assert cluster.hub.api("POST", "groups/staff/users", {"users": [user]}).status == 200
    pod = cluster.server(user, profile, **options)
    assert ("sshd" in pod.containers()) is on
    assert pod.manifest()["metadata"]["labels"].get("jhssh/enabled") == ("true" if on else None)
    assert (pod.name in cluster.namespace.pods("jhssh/enabled=true")) is on
    done = ssh(user).run("echo in")
    if on:
        assert (done.stdout, done.returncode) == (b"in\n", 0), done.stderr
    else:
        assert done.returncode == 255
        said = done.stderr.decode()
        assert "SSH_NOT_ENABLED" in said
        assert f"{cluster.hub.url}/hub/spawn/{user}" in said


def test_a_connection_starts_a_server_with_a_sidecar_unless_its_user_switched_ssh_off(cluster: Cluster, ssh: SSH) -> None:
    hub = cluster.hub
    for user, options, on in (("starts", {}, True), ("starts-not", {"enable_ssh": False}, False)):
        cluster.server(user, **options)
        hub.stop_server(user)
        done = ssh(user).run("hostname", timeout=120)
        assert (done.returncode == 0) is on, done.stderr
        assert hub.running(user) is on
        if on:
            assert "sshd" in cluster.pod(user).containers()
        else:
            assert b"SSH_NOT_ENABLED" in done.stderr


def test_a_named_server_is_a_pod_of_its_own(cluster: Cluster, ssh: SSH) -> None:
    default, named = cluster.server("named"), cluster.server("named", server="gpu")
    assert default.name != named.name
    for login_name, pod in (("named", default), ("named+gpu", named)):
        assert ssh("named", login_name).run("hostname").stdout.decode().strip() == pod.name


def test_keys_are_registered_where_the_image_has_our_package(cluster: Cluster, tmp_path: Path) -> None:
    cluster.server("keys")
    key = make_key(tmp_path / "id")
    register_key(cluster.hub, "keys", key)
    gateway = cluster.gateway
    client = SSHClient(
        tmp_path / "c", port=gateway.ssh_port, host_key=gateway.host_key, user="keys", key=key, mark=cluster.hub.mark
    )
    done = client.run("echo in")
    assert done.stdout == b"in\n", done.stderr
    status = cluster.hub.server_api("GET", "keys", "jhssh/status").json
    assert status["enabled"]
    assert status["sshd"]["implementation"] == "sidecar"
    assert status["sshd"]["state"] == "running"
    assert status["sshd"]["host_keys"] == [cluster.hub.server_state("keys")["jhssh"]["host_key"]]


def test_unix_sockets_elsewhere_are_refused_with_a_sentence(cluster: Cluster, ssh: SSH, tmp_path: Path) -> None:
    cluster.server("keys")
    here = tmp_path / "here"
    forwarding = ssh("keys").forward("-L", f"{here}:/tmp/of-the-notebook")
    try:
        wait_until(here.exists)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(here))
            assert connection.recv(1) == b""
        assert forwarding.stderr is not None
        said = forwarding.stderr.readline()
    finally:
        forwarding.kill()
        forwarding.communicate(timeout=60)
    assert "Unix sockets can be reached under /run/jhssh/user and /home/jovyan only" in said.decode()


def test_the_admins_hook_and_container_are_there_too(cluster: Cluster, ssh: SSH) -> None:
    pod = cluster.server("hooks", "hooks")
    assert pod.containers() == ["notebook", "helper", "sshd"]
    assert ssh("hooks").run("cat /tmp/admins-hook").stdout == b"done\n"


def test_a_uid_without_a_passwd_entry(cluster: Cluster, ssh: SSH) -> None:
    cluster.server("any-uid", "any-uid")
    client = ssh("any-uid")
    done = client.run("id -u; pwd")
    assert done.stdout.split()[:1] == [b"1000650000"], done.stderr
    sftp(client, f"put {__file__} /tmp/there")
    assert client.run("cat /tmp/there").stdout == Path(__file__).read_bytes()


def sftp(client: SSHClient, commands: str) -> None:
    """Not by -b, which would switch password authentication off."""
    done = client.call(["sftp", "-F", str(client.config), HOST], input=f"{commands}\n".encode())
    assert done.returncode == 0, done.stderr


# ---- what fails, and what goes on ----


def in_again(ssh: SSHClient, within: float = 10.0) -> float:
    """Seconds until a login works."""
    began = time.monotonic()
    wait_until(lambda: ssh.run("echo in", options=["-o", "ConnectTimeout=5"]).stdout == b"in\n", within, what="the next login")
    return time.monotonic() - began


@contextmanager
def a_session(client: SSHClient, pod: Pod) -> Iterator[subprocess.Popen[bytes]]:
    """One that answers each line."""
    running = client.popen("exec cat")
    try:
        assert answers(running)
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def answers(session: subprocess.Popen[bytes]) -> bool:
    assert session.stdin is not None
    assert session.stdout is not None
    try:
        session.stdin.write(b"line\n")
        session.stdin.flush()
    except BrokenPipeError:
        return False
    return session.stdout.readline() == b"line\n"


def ended_with(session: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, said = session.communicate(timeout=30)
    return session.returncode, said.decode(errors="replace")


def test_a_killed_kernel_ends_no_session(cluster: Cluster, ssh: SSH) -> None:
    pod = cluster.server("kernel")
    made = cluster.hub.server_api("POST", "kernel", "api/kernels", {})
    assert made.status == 201, made
    (kernel,) = wait_until(lambda: pod.find("ipykernel_launcher"), 30)
    with a_session(ssh("kernel"), pod) as session:
        pod.kill(kernel)
        assert answers(session)
    in_again(ssh("kernel"))


def test_a_killed_sshd_comes_back(cluster: Cluster, ssh: SSH) -> None:
    pod = cluster.server("sshd")
    client = ssh("sshd")
    with a_session(client, pod) as session:
        listener = pod.find("[listener]", "sshd") or pod.find("/usr/sbin/sshd -D", "sshd")
        pod.kill(listener[0], container="sshd")
        # The session has an sshd of its own.
        assert answers(session)
        in_again(client)
    assert pod.restarts("notebook") == 0


def test_a_killed_sidecar_comes_back(cluster: Cluster, ssh: SSH) -> None:
    pod = cluster.server("sidecar")
    client = ssh("sidecar")
    before = pod.processes()
    with a_session(client, pod) as session:
        pod.call("/bin/sh", "-c", "kill -TERM 1", container="sshd")
        status, said = ended_with(session)
        assert status == 255
        assert said.strip(), "a reason is given"
        in_again(client)
    assert pod.restarts("notebook") == 0
    wait_until(lambda: pod.processes().keys() <= before.keys(), what="what was attached to end")


def test_a_killed_agent_comes_back(cluster: Cluster, ssh: SSH) -> None:
    """It is two processes, each of which starts the other anew. A session has a process of its own, and goes on."""
    pod = cluster.server("agent")
    client = ssh("agent")
    for which in (0, 1):
        with a_session(client, pod) as session:
            pod.kill(pod.find("agent.py")[which])
            assert answers(session)
            in_again(client)
    assert pod.restarts("notebook") == pod.restarts("sshd") == 0


def test_nothing_is_left_of_a_hundred_sessions(cluster: Cluster, ssh: SSH) -> None:
    pod = cluster.server("hundred")
    client = ssh("hundred")
    assert client.run("true").returncode == 0
    before = {name: pod.processes(name) for name in ("notebook", "sshd")}
    for kind in range(4):
        started = [
            client.popen("sleep 0.2 & true" if kind % 2 else "sh -c 'sleep 1000'", options=["-tt"] if kind < 2 else ["-T"])
            for _ in range(25)
        ]
        for number, session in enumerate(started):
            if not kind % 2:
                time.sleep(0 if number else 2)
                session.kill()
            session.communicate(timeout=60)

    def left() -> dict[str, dict[int, str]]:
        now = {name: pod.processes(name) for name in before}
        return {name: {pid: text for pid, text in now[name].items() if pid not in before[name]} for name in before}

    try:
        wait_until(lambda: not any(left().values()))
    except AssertionError:
        raise AssertionError(f"left over: {left()}") from None


# ---- what it costs ----


def test_an_idle_sidecar_takes_little_memory(cluster: Cluster, ssh: SSH) -> None:
    """Of one that has served. How much later its pod is ready: bench_start.py."""
    pod = cluster.server("cost", enable_ssh=True)
    assert ssh("cost").run("true").returncode == 0
    wait_until(lambda: not pod.find("enter", "sshd"))
    wait_until(lambda: pod.memory("sshd") < 15 << 20, what="little memory")
