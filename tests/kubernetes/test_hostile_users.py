"""What the user of a pod, who may do anything in the notebook container, can not do to its sidecar or to others'."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conformance.targets import keygen
from ..harness.processes import wait_until
from ..harness.ssh import SSHClient
from .cluster import Pod
from .conftest import Cluster
from .test_pods import sftp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SECRET = "PRIVATE KEY"


def enter_with_certificate(
    cluster: Cluster, folder: Path, principal: str, pod: Pod, host_key: str
) -> subprocess.CompletedProcess[bytes]:
    """Straight to a sidecar, with a certificate as the gateway makes them."""
    folder.mkdir()
    key, ca = folder / "id", cluster.gateway.keys / "user_ca"
    keygen("-t", "ed25519", "-N", "", "-f", key)
    keygen("-s", ca, "-I", "test", "-n", principal, "-V", "-5m:+5m", folder / "id.pub")
    (folder / "known_hosts").write_text(f"[{pod.ip}]:2222 {host_key}\n")
    options = {
        "IdentityFile": key,
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "UserKnownHostsFile": folder / "known_hosts",
        "StrictHostKeyChecking": "yes",
        "Port": 2222,
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    command = ["ssh", "-F", "/dev/null", *flags, f"jovyan@{pod.ip}", "echo in"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)


def test_a_certificate_for_one_server_opens_no_other(cluster: Cluster, tmp_path: Path) -> None:
    pods = {user: cluster.server(user) for user in ("alice", "bob")}
    states = {user: cluster.hub.server_state(user)["jhssh"] for user in pods}
    principal = next(
        each["value"]
        for container in pods["alice"].manifest()["spec"]["containers"]
        for each in container.get("env", [])
        if each["name"] == "JHSSH_PRINCIPAL"
    )
    own = enter_with_certificate(cluster, tmp_path / "own", principal, pods["alice"], states["alice"]["host_key"])
    assert own.stdout == b"in\n", own.stderr
    other = enter_with_certificate(cluster, tmp_path / "other", principal, pods["bob"], states["bob"]["host_key"])
    assert other.returncode == 255
    assert b"Permission denied" in other.stderr


def test_the_notebook_container_has_nothing_of_sshds(cluster: Cluster) -> None:
    pod = cluster.server("curious")
    assert pod.run("id", "-u").strip() == "1000"
    assert SECRET not in pod.run("/bin/sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true")
    assert pod.run("/bin/sh", "-c", f"grep -rIl '{SECRET}' /run /tmp /etc /home 2>/dev/null; true").strip() == ""
    assert not [command for command in pod.processes().values() if "sshd" in command]
    assert pod.call("ls", "/run/sidecar").returncode != 0
    for path in ("/run/jhssh/lib/agent.py", "/run/jhssh/lib/start-agent", "/run/jhssh/lib/new", "/run/jhssh/tmp/new"):
        assert pod.call("/bin/sh", "-c", f"echo >> {path}").returncode != 0, path
    mounts = pod.run("cat", "/proc/mounts")
    assert "serviceaccount" not in mounts


def test_neither_container_has_privileges_or_a_token(cluster: Cluster) -> None:
    pod = cluster.server("curious")
    for container in ("sshd", "notebook"):
        status = pod.run("cat", "/proc/self/status", container=container)
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["NoNewPrivs"] == "1", container
        assert fields["CapEff"].strip("0") == "", container
        assert "serviceaccount" not in pod.run("cat", "/proc/mounts", container=container)
    assert pod.call("/bin/sh", "-c", "echo > /opt/jhssh/new", container="sshd").returncode != 0


def test_files_of_the_user_run_nothing_beside_the_host_key(cluster: Cluster, ssh: Callable[..., SSHClient]) -> None:
    """~/.bashrc, ~/.profile, ~/.ssh/rc and ~/.ssh/environment are the user's: they count in the notebook container alone."""
    pod = cluster.server("plants")
    trap = "if [ -e /run/sidecar ]; then echo caught > ~/caught; cat /run/sidecar/*/* > ~/stolen 2>/dev/null; fi\n"
    for name in (".bashrc", ".bash_profile", ".profile", ".ssh/rc", ".kshrc"):
        pod.run("/bin/sh", "-c", f"mkdir -p ~/.ssh; cat > ~/{name}", input=trap.encode())
    pod.run("/bin/sh", "-c", "echo BASH_ENV=/home/jovyan/.bashrc > ~/.ssh/environment")
    client = ssh("plants")
    for command in ("true", "bash -lc true"):
        assert client.run(command).returncode == 0
    assert client.run("true", options=["-tt"]).returncode == 0
    sftp(client, "ls")
    assert pod.call("/bin/sh", "-c", "ls ~/caught ~/stolen").returncode != 0


def test_a_replaced_agent_gets_no_more_than_the_session(cluster: Cluster, ssh: Callable[..., SSHClient]) -> None:
    """The socket is the user's own to replace: what answers there can end their sessions, and learns nothing of sshd's."""
    pod = cluster.server("liar")
    client = ssh("liar")
    assert client.run("true").returncode == 0
    wait_until(lambda: len(pod.find("agent.py")) == 2, what="the end of the session")
    pod.kill(*pod.find("agent.py"))
    liar = (
        "import socket, os, threading\n"
        "path = '/run/jhssh/run/agent.sock'\n"
        "os.path.exists(path) and os.unlink(path)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()\n"
        "def talk(c):\n"
        "    try:\n"
        "        while True: c.sendall(os.urandom(65536))\n"
        "    except OSError: pass\n"
        "while True: threading.Thread(target=talk, args=(s.accept()[0],), daemon=True).start()\n"
    )
    pod.run("/bin/sh", "-c", "cat > /tmp/liar.py", input=liar.encode())
    pod.run("/bin/sh", "-c", "setsid python3 /tmp/liar.py >/dev/null 2>&1 </dev/null &")
    memory = pod.memory("sshd")
    done = client.run("echo in", timeout=60)
    assert done.returncode != 0 or done.stdout == b"in\n"
    assert pod.restarts("sshd") == 0
    assert pod.memory("sshd") < memory + (64 << 20)


@pytest.mark.parametrize("folder", ["/run/jhssh/user", "/home/jovyan"])
def test_links_in_shared_folders_lead_sshd_nowhere(
    cluster: Cluster, ssh: Callable[..., SSHClient], folder: str, tmp_path: Path
) -> None:
    """A forwarded Unix socket is opened by sshd, in its own container: a link must not make it open or remove sshd's files."""
    pod = cluster.server("links")
    pod.run("/bin/sh", "-c", f"ln -sfn /run/sidecar/sshd/host_key {folder}/link; ln -sfn /run/sidecar/sshd {folder}/folder")
    client = ssh("links")
    for place in (f"{folder}/link", f"{folder}/folder/host_key", "/run/sidecar/sshd/host_key"):
        forwarding = client.forward("-R", f"{place}:{tmp_path}/none")
        try:
            forwarding.wait(5)
        except subprocess.TimeoutExpired:
            forwarding.kill()
        finally:
            forwarding.communicate()
    assert client.run("echo in").stdout == b"in\n"
    assert "PRIVATE KEY" in pod.run("cat", "/run/sidecar/sshd/host_key", container="sshd")
