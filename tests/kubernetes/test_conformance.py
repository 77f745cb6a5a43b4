"""The table of SSH behaviours, through the gateway into real pods.

It runs in the notebook container itself, where the files, processes and ports are those of the sessions; its client comes in
through the gateway on the test's machine, as from anywhere.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from ..conftest import register_key
from ..harness.hub import ROOT
from ..harness.ssh import make_key
from .cluster import Pod, host_on_pod_net
from .conftest import PROFILES, Cluster

FOLDER = "/tmp/jhssh-tests"
SSH_CONFIG = """\
Host server
    HostName {host}
    Port {port}
    User {user}
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    LogLevel ERROR
    NumberOfPasswordPrompts 1
    IdentitiesOnly yes
    IdentityFile {folder}/id
    PreferredAuthentications publickey,password
"""
# What each shell sets anew, and what sessions never get.
NOT_COMPARED = ("PWD", "OLDPWD", "SHLVL", "_")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("image", PROFILES)
def test_the_table_passes_in_a_pod(cluster: Cluster, image: str, tmp_path: Path) -> None:
    user = f"table-{PROFILES[image]}"
    pod = cluster.server(user, PROFILES[image])
    prepare(cluster, pod, user, tmp_path, key=PROFILES[image] == "ours")
    tests = [os.environ.get("JHSSH_TABLE") or "tests/conformance", "-q", "-ra", "-p", "no:cacheprovider"]
    environment = [
        f"PYTHONPATH={FOLDER}",
        f"JHSSH_TARGET={FOLDER}/target.json",
        f"SSH_ASKPASS={FOLDER}/askpass",
        "SSH_ASKPASS_REQUIRE=force",
        "PYTHONDONTWRITEBYTECODE=1",
    ]
    inside = f"cd {FOLDER} && exec env {' '.join(environment)} python3 -m pytest {shlex.join(tests)}"
    done = subprocess.run(
        pod.command("sh", "-c", inside), stdin=subprocess.DEVNULL, capture_output=True, timeout=1400, check=False
    )
    report = done.stdout.decode(errors="replace")
    print(report)
    assert done.returncode == 0, report[-20000:] + done.stderr.decode(errors="replace")[-2000:]
    assert " passed" in report.splitlines()[-1]


def prepare(cluster: Cluster, pod: Pod, user: str, folder: Path, *, key: bool) -> None:
    """The table, a client's files and the target's description in the notebook container."""
    pair = make_key(folder / "id")
    if key:
        register_key(cluster.hub, user, pair)
    host, port = host_on_pod_net(), cluster.gateway.ssh_port
    files = {
        "known_hosts": f"[{host}]:{port} {cluster.gateway.host_key}\n",
        "ssh_config": SSH_CONFIG.format(host=host, port=port, user=user, folder=FOLDER),
        "password": "" if key else cluster.hub.token(user),
        "askpass": f"#!/bin/sh\nexec cat {FOLDER}/password\n",
        "target.json": json.dumps(
            {
                "name": "pod",
                "ssh_config": f"{FOLDER}/ssh_config",
                "host": "server",
                "home": "/home/jovyan",
                "cwd": "/home/jovyan",
                "environment": environment_of_the_server(pod),
                "sockets": "/run/jhssh/user",
            }
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "askpass").chmod(0o700)
    for name in ("id", "password"):
        (folder / name).chmod(0o600)
    paths = {name: folder / name for name in (*files, "id", "id.pub")}
    paths |= {name: ROOT / name for name in ("pyproject.toml", "jhssh_ext")}
    paths |= {f"tests/{path.name}": path for path in (ROOT / "tests").iterdir() if path.name in NEEDED}
    pod.copy_in(paths, FOLDER)


NEEDED = ("__init__.py", "conftest.py", "conformance", "harness", "sidecar")


def environment_of_the_server(pod: Pod) -> dict[str, str]:
    entries = pod.run("cat", "/proc/1/environ").split("\0")
    found = dict(entry.split("=", 1) for entry in entries if entry)
    return {name: value for name, value in found.items() if not name.startswith("JHSSH_") and name not in NOT_COMPARED}
