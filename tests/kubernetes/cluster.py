"""A Kubernetes cluster that takes our pods, seen through kubectl; and what is missing where there is none."""

from __future__ import annotations

import functools
import io
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIDECAR_IMAGE = os.environ.get("JHSSH_SIDECAR_IMAGE", "localhost/jhssh-sidecar:test")
NOTEBOOK_IMAGE = os.environ.get("JHSSH_NOTEBOOK_IMAGE", "localhost/jhssh-notebook:test")
"""has our package"""
PLAIN_NOTEBOOK_IMAGE = os.environ.get("JHSSH_PLAIN_NOTEBOOK_IMAGE", "localhost/jhssh-notebook-plain:test")
"""has not"""
IMAGES_TIMEOUT = 120.0


@functools.cache
def why_not() -> str:
    """What these tests lack here, but for images; empty if nothing."""
    if not os.environ.get("KUBECONFIG"):
        return f"no cluster: {os.environ.get('JHSSH_NO_CLUSTER') or 'KUBECONFIG is not set'}"
    if not os.environ.get("JHSSH_HOST_ON_POD_NET"):
        return "JHSSH_HOST_ON_POD_NET is not set: this machine's address as pods see it"
    if shutil.which("kubectl") is None:
        return "kubectl is not installed"
    tried = subprocess.run(["kubectl", "get", "--raw", "/readyz", "--request-timeout=10s"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"the cluster does not answer: {tried.stderr.decode(errors='replace').strip()[:200]}"


def why_no_images() -> str:
    """Which images pods can't have here; empty if none. A pod that ends at once tries them, wherever they come from."""
    images = (SIDECAR_IMAGE, NOTEBOOK_IMAGE, PLAIN_NOTEBOOK_IMAGE)
    name = f"jhssh-test-images-{secrets.token_hex(4)}"
    containers = [
        {"name": f"image-{number}", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", "exit 0"]}
        for number, image in enumerate(images)
    ]
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": containers}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    kubectl("create", "--filename", "-", input=json.dumps(pod).encode())
    deadline = time.monotonic() + IMAGES_TIMEOUT
    try:
        while True:
            status = json.loads(kubectl("get", "pod", name, "--output", "json"))["status"]
            reason = missing_images(status)
            if reason is not None:
                return reason
            if time.monotonic() > deadline:
                return f"the cluster started no pod with its images in {IMAGES_TIMEOUT:.0f} s"
            time.sleep(0.5)
    finally:
        kubectl("delete", "pod", name, "--now", "--wait=false")


def missing_images(status: dict[str, Any]) -> str | None:
    """By the status of a pod: the images it can't have, empty if it has all; None while that is open."""
    found = status.get("containerStatuses") or []
    waiting = {each["image"]: each["state"]["waiting"].get("reason", "") for each in found if "waiting" in each["state"]}
    missing = [f"{image} ({reason})" for image, reason in sorted(waiting.items()) if "Image" in reason]
    if missing:
        return f"images are not there: {', '.join(missing)}"
    return None if waiting or not found else ""


def host_on_pod_net() -> str:
    return os.environ["JHSSH_HOST_ON_POD_NET"]


@dataclass(frozen=True)
class Namespace:
    """A namespace of the test's own; with it goes all that is in it."""

    name: str = field(default_factory=lambda: f"jhssh-test-{secrets.token_hex(4)}")

    def create(self) -> None:
        kubectl("create", "namespace", self.name)

    def delete(self) -> None:
        kubectl("delete", "namespace", self.name, "--wait=false")
        kubectl("delete", "pods", "--all", "--namespace", self.name, "--now", timeout=120)

    def pod(self, name: str) -> Pod:
        return Pod(self.name, name)

    def pods(self, selector: str = "") -> list[str]:
        found = kubectl("get", "pods", "--namespace", self.name, "--selector", selector, "--output", "json")
        return [each["metadata"]["name"] for each in json.loads(found)["items"]]


@dataclass(frozen=True)
class Pod:
    """A user server's pod."""

    namespace: str
    name: str

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(kubectl("get", "pod", self.name, "--namespace", self.namespace, "--output", "json"))
        return found

    def exists(self) -> bool:
        command = ["kubectl", "get", "pod", self.name, "--namespace", self.namespace]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    @property
    def ip(self) -> str:
        return str(self.manifest()["status"]["podIP"])

    def containers(self) -> list[str]:
        return [each["name"] for each in self.manifest()["spec"]["containers"]]

    def restarts(self, container: str) -> int:
        return sum(each["restartCount"] for each in self.manifest()["status"]["containerStatuses"] if each["name"] == container)

    def command(self, *argv: str, container: str = "notebook", stdin: bool = False) -> list[str]:
        options = ["--stdin"] if stdin else []
        return ["kubectl", "exec", *options, "--namespace", self.namespace, self.name, "--container", container, "--", *argv]

    def call(
        self, *argv: str, container: str = "notebook", input: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command in a container, in its image's environment; does not check the exit status."""
        command = self.command(*argv, container=container, stdin=input is not None)
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        return subprocess.run(command, capture_output=True, timeout=timeout, check=False, **stdin)

    def run(self, *argv: str, container: str = "notebook", input: bytes | None = None, timeout: float = 60) -> str:
        done = self.call(*argv, container=container, input=input, timeout=timeout)
        assert done.returncode == 0, f"{argv}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode(errors="replace")

    def processes(self, container: str = "notebook") -> dict[int, str]:
        """Command lines by process id, as the container sees them, without this look at them."""
        script = 'for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr "\\0" " " <$p/cmdline 2>/dev/null)"; done 2>/dev/null; echo $$'
        *lines, own = self.run("/bin/sh", "-c", script, container=container).splitlines()
        found = {}
        for line in lines:
            pid, _, command = line.partition(" ")
            if command.strip() and script[:20] not in command and int(pid) != int(own):
                found[int(pid)] = command.strip()
        return found

    def find(self, word: str, container: str = "notebook") -> list[int]:
        return sorted(pid for pid, command in self.processes(container).items() if word in command)

    def kill(self, *pids: int, signal: str = "KILL", container: str = "notebook") -> None:
        self.run("/bin/sh", "-c", 'kill "$@"', "kill", f"-{signal}", *map(str, pids), container=container)

    def copy_in(self, paths: dict[str, Path], folder: str) -> None:
        """Files and folders of this machine, by what they are called in ``folder``, without what Python compiled."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, path in paths.items():
                archive.add(path, name, filter=lambda member: None if "__pycache__" in member.name else member)
        self.run("mkdir", "-p", folder)
        self.run("tar", "-x", "--no-same-owner", "-C", folder, input=buffer.getvalue())

    def memory(self, container: str) -> int:
        """Bytes that the container's cgroup counts, less file pages that can be dropped (as kubectl top's working set)."""
        script = (
            "cd /sys/fs/cgroup; if [ -e memory.current ]; then cat memory.current; grep '^inactive_file ' memory.stat; "
            "else cd memory; cat memory.usage_in_bytes; grep '^total_inactive_file ' memory.stat; fi"
        )
        total, inactive = self.run("/bin/sh", "-c", script, container=container).splitlines()
        return int(total) - int(inactive.split()[1])


def kubectl(*arguments: str, input: bytes | None = None, timeout: float = 60) -> str:
    stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    done = subprocess.run(["kubectl", *arguments], capture_output=True, timeout=timeout, check=False, **stdin)
    assert done.returncode == 0, f"kubectl {' '.join(arguments[:4])}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode()
