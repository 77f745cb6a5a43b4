"""What a user server's pod needs for its sidecar, worked out from the pod's manifest. ``jhssh_ext/sidecar`` says why each is so.

Pure: plain manifests (camelCase, as in YAML) in, plain parts out. Knows neither KubeSpawner nor a Kubernetes client.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

Manifest = dict[str, Any]

SSHD = "sshd"
"""name of the sidecar's container"""
INSTALL = "jhssh-install"
"""name of the init container"""
SHARED_VOLUME = "jhssh"
SSHD_VOLUME = "jhssh-sshd"
NO_TOKEN_VOLUME = "jhssh-no-token"  # noqa: S105 - the name of an empty volume
LABELS = {"jhssh/enabled": "true"}
"""what NetworkPolicies select pods with a sidecar by"""

SHARED = "/run/jhssh"
START_AGENT = ["/bin/sh", f"{SHARED}/lib/start-agent"]
RUNTIME_DIR = f"{SHARED}/user"
AGENT_SOCKETS = f"{SHARED}/tmp"  # noqa: S108 - a folder of the shared volume
SSHD_DIR = "/run/sidecar"
SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
SHARED_LIMIT = "256Mi"
"""of the shared volume: some 15 MB are programs, the rest is the user's. A pod that exceeds it is evicted"""

# Volumes that no home is on: they hold secrets and settings, which are not sshd's business.
_NEVER_HOME = ("secret", "configMap", "projected", "downwardAPI", "image")
# What sshd's container runs from, reads or writes itself: a volume of the user's there would be code beside the host key.
_PROGRAMS = ("/opt/jhssh", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OTHERS = ("/etc", "/run", "/var/run", "/var/lock", "/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - no file is made here
_OF_THE_IMAGE = tuple(map(PurePosixPath, (*_PROGRAMS, *_OTHERS)))
_REFERENCE = re.compile(r"\$\(([^)]+)\)")


class PodUnfit(ValueError):
    """This pod can have no sidecar; the message is for the admin and names the setting to mend."""


@dataclass(frozen=True)
class Sidecar:
    """What the admin and the Hub say about the sidecar of one spawn."""

    image: str
    port: int
    environment: Mapping[str, str] = field(repr=False)
    """of the container sshd alone: the private host key is in it"""
    image_pull_policy: str = ""
    requests: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    native: bool = False
    """as an init container that goes on running (Kubernetes 1.29 and later)"""
    home: str = ""
    """the user's home in the notebook container; empty: found out from the manifest"""


@dataclass(frozen=True)
class Parts:
    """What is added to a pod."""

    volumes: list[Manifest]
    init_containers: list[Manifest]
    containers: list[Manifest]
    notebook_environment: list[Manifest]
    notebook_mounts: list[Manifest]
    notebook_post_start: Manifest
    """replaces the notebook container's, which has been worked into it"""
    socket_folders: tuple[str, ...]
    """where a Unix socket is one and the same in both containers"""
    labels: Mapping[str, str] = field(default_factory=lambda: dict(LABELS))


def build(pod: Manifest, sidecar: Sidecar) -> Parts:
    """The parts for this pod, whose first container is the notebook's. Raises PodUnfit."""
    spec = pod["spec"]
    notebook = spec["containers"][0]
    _check(spec, notebook, sidecar.port)
    security = _security_context(spec, notebook)
    hides_token = spec.get("automountServiceAccountToken") is not False
    no_token = [_mount(NO_TOKEN_VOLUME, SERVICE_ACCOUNT_DIR, read_only=True)] if hides_token else []
    homes = _home_mounts(spec, notebook, sidecar.home)
    sshd = _container(
        sidecar,
        SSHD,
        ["run"],
        security,
        env=[*_referenced(notebook, homes), *environment(sidecar.environment)],
        ports=[{"name": "ssh", "containerPort": sidecar.port, "protocol": "TCP"}],
        volumeMounts=[
            _mount(SHARED_VOLUME, f"{SHARED}/run", "run", read_only=True),
            _mount(SHARED_VOLUME, RUNTIME_DIR, "user"),
            _mount(SHARED_VOLUME, "/tmp", "tmp"),  # noqa: S108 - where sshd puts the sockets of forwarded agents
            _mount(SSHD_VOLUME, SSHD_DIR),
            *homes,
            *no_token,
        ],
    )
    install = _container(sidecar, INSTALL, ["install", SHARED], security, volumeMounts=[_mount(SHARED_VOLUME, SHARED), *no_token])
    if sidecar.native:
        sshd["restartPolicy"] = "Always"
    return Parts(
        volumes=[
            {"name": SHARED_VOLUME, "emptyDir": {"sizeLimit": SHARED_LIMIT}},
            {"name": SSHD_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            *([{"name": NO_TOKEN_VOLUME, "emptyDir": {}}] if hides_token else []),
        ],
        init_containers=[install, *([sshd] if sidecar.native else [])],
        containers=[] if sidecar.native else [sshd],
        notebook_environment=_notebook_environment(notebook),
        notebook_mounts=[
            _mount(SHARED_VOLUME, f"{SHARED}/lib", "lib", read_only=True),
            _mount(SHARED_VOLUME, f"{SHARED}/run", "run"),
            _mount(SHARED_VOLUME, AGENT_SOCKETS, "tmp", read_only=True),
            _mount(SHARED_VOLUME, RUNTIME_DIR, "user"),
        ],
        notebook_post_start=_post_start(notebook),
        socket_folders=(RUNTIME_DIR, *(mount["mountPath"] for mount in homes)),
    )


def complaints(pod: Manifest) -> list[str]:
    """What is wrong with a pod that has its sidecar, after an admin's hook has changed it: sentences that name the setting."""
    spec = pod["spec"]
    sshd = next((each for each in [*spec["containers"], *(spec.get("initContainers") or [])] if each["name"] == SSHD), None)
    if sshd is None:
        return []
    found = []
    if spec.get("shareProcessNamespace") or spec.get("hostPID"):
        found.append("its users can read the memory of sshd: modify_pod_hook must not set shareProcessNamespace or hostPID")
    users = [_effective(spec, container).get("runAsUser") for container in (spec["containers"][0], sshd)]
    if users[0] != users[1]:
        found.append(f"notebook and sshd are of users {users[0]} and {users[1]}: set KubeSpawner.uid, not modify_pod_hook")
    return found


def environment(values: Mapping[str, str]) -> list[Manifest]:
    """An ``env`` list in which the values are taken literally: Kubernetes would expand ``$(NAME)``, and ``$$`` is its ``$``."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in values.items()]


def _check(spec: Manifest, notebook: Manifest, port: int) -> None:
    if spec.get("shareProcessNamespace") or spec.get("hostPID"):
        raise PodUnfit("in a shared process namespace users could read sshd's memory: take shareProcessNamespace/hostPID away")
    if _effective(spec, notebook).get("runAsUser") == 0:
        raise PodUnfit("the notebook container runs as root: set KubeSpawner.uid (singleuser.uid)")
    containers = [*spec["containers"], *(spec.get("initContainers") or [])]
    taken = {each["name"] for each in containers} & {SSHD, INSTALL}
    if taken:
        raise PodUnfit(f"another container is called {taken.pop()}: rename it")
    if any(each.get("containerPort") == port for container in containers for each in container.get("ports") or []):
        raise PodUnfit(f"port {port} is another container's: set c.SSHSpawnerMixin.ssh_port to one that is free")


def _effective(spec: Manifest, notebook: Manifest) -> Manifest:
    """The notebook's security context: what the container says counts before what the pod says."""
    return {**(spec.get("securityContext") or {}), **(notebook.get("securityContext") or {})}


def _security_context(spec: Manifest, notebook: Manifest) -> Manifest:
    """The level "restricted" of the Pod Security Standards, under the notebook's own identity.

    Where the manifest names no uid, the same is left to the cluster: OpenShift gives both containers one and the same.
    """
    same = _effective(spec, notebook)
    identity = {name: same[name] for name in ("runAsUser", "runAsGroup", "seLinuxOptions") if same.get(name) is not None}
    return {
        **identity,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container(sidecar: Sidecar, name: str, args: list[str], security: Manifest, **more: Any) -> Manifest:
    made: Manifest = {"name": name, "image": sidecar.image, "args": args, "securityContext": security, **more}
    if sidecar.image_pull_policy:
        made["imagePullPolicy"] = sidecar.image_pull_policy
    resources = {kind: dict(values) for kind, values in (("requests", sidecar.requests), ("limits", sidecar.limits)) if values}
    if resources:
        made["resources"] = resources
    return made


def _mount(volume: str, path: str, sub_path: str = "", *, read_only: bool = False) -> Manifest:
    return {
        "name": volume,
        "mountPath": path,
        **({"subPath": sub_path} if sub_path else {}),
        **({"readOnly": True} if read_only else {}),
    }


def _home_mounts(spec: Manifest, notebook: Manifest, home: str) -> list[Manifest]:
    """The notebook's mounts that are part of the home, or that it is part of, for the container sshd: less what would hide,
    or lie in, what is the container's own.
    """
    kinds = {volume["name"]: volume for volume in spec.get("volumes") or []}
    named = (_path(each) for each in (home, _value(notebook, "HOME"), notebook.get("workingDir") or "") if each)
    place = next((each for each in named if each != PurePosixPath("/")), PurePosixPath("/home"))
    found = []
    for mount in notebook.get("volumeMounts") or []:
        path = _path(mount["mountPath"])
        secret = any(kind in kinds.get(mount["name"], {}) for kind in _NEVER_HOME)
        if not secret and _overlap(path, place) and not any(_overlap(path, own) for own in _OF_THE_IMAGE):
            # Propagation out of a container needs privileges; sshd mounts nothing anyway.
            found.append({name: value for name, value in mount.items() if name != "mountPropagation"})
    # Container runtimes follow links when they mount. One in a volume of the user's would lead the next to where sshd's code is.
    planted = [_path(mount["mountPath"]) for mount in found if not mount.get("readOnly")]
    return [mount for mount in found if not any(each in _path(mount["mountPath"]).parents for each in planted)]


def _path(text: str) -> PurePosixPath:
    """As a container runtime takes it: absolute, without ``..``."""
    return PurePosixPath(posixpath.normpath("/" + text.lstrip("/")))


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _value(container: Manifest, name: str) -> str:
    """A variable of the container's manifest, if it stands there literally."""
    for each in container.get("env") or []:
        if each["name"] == name:
            value = each.get("value") or ""
            return value if value.startswith("/") and not _REFERENCE.search(value) else ""
    return ""


def _referenced(notebook: Manifest, mounts: Iterable[Manifest]) -> list[Manifest]:
    """The notebook's variables that a ``subPathExpr`` of these mounts is made of, and those they are made of."""
    wanted = {name for mount in mounts for name in _REFERENCE.findall(mount.get("subPathExpr") or "")}
    defined = list(notebook.get("env") or [])
    while True:
        more = {
            name for each in defined if each["name"] in wanted for name in _REFERENCE.findall(each.get("value") or "")
        } - wanted
        if not more:
            return [each for each in defined if each["name"] in wanted]
        wanted |= more


def _notebook_environment(notebook: Manifest) -> list[Manifest]:
    given = {each["name"] for each in notebook.get("env") or []}
    return [] if "XDG_RUNTIME_DIR" in given else [{"name": "XDG_RUNTIME_DIR", "value": RUNTIME_DIR}]


def _post_start(notebook: Manifest) -> Manifest:
    """Starts the session agent, then does what the admin's own hook does: a container has only one."""
    own = {kind: value for kind, value in ((notebook.get("lifecycle") or {}).get("postStart") or {}).items() if value}
    then: list[str] = []
    if "exec" in own:
        then = list(own["exec"].get("command") or [])
    elif "sleep" in own:
        then = ["sleep", str(own["sleep"]["seconds"])]
    elif own:
        kind = next(iter(own))
        raise PodUnfit(f"lifecycle_hooks.postStart is of the kind {kind}, which can't be joined with ours: make it exec")
    return {"exec": {"command": [*START_AGENT, *then]}}
