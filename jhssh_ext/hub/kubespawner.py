"""KubeSpawner with SSH: each pod has a sidecar that runs sshd, and the notebook image needs no change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kubernetes_asyncio import client
from kubespawner import KubeSpawner
from traitlets import TraitError, default, validate

from ..payloads import ENVIRONMENT_PREFIX, SIDECAR, ServerEnvironment
from . import pod_manifest
from .sidecar_settings import SidecarSettings
from .spawner_mixin import SSHSpawnerMixin

PORT = 2222
UNFIT_SENTENCE = "SSH can't be offered in this server's pod. Ask the hub's admin."


class SSHKubeSpawner(SSHSpawnerMixin, SidecarSettings, KubeSpawner):
    """KubeSpawner with SSH. Settings: ``c.SSHSpawnerMixin``, ``c.SSHKubeSpawner``, ``c.KubeSpawner``."""

    _ssh_socket_folders: tuple[str, ...] = ()

    @default("ssh_port")
    def _default_ssh_port(self) -> int:
        return PORT

    @default("ssh_listen_address")
    def _default_ssh_listen_address(self) -> str:
        return ""  # every address of the pod, IPv4 and IPv6

    @validate("ssh_port")
    def _check_ssh_port(self, proposal: Any) -> int:
        if proposal.value < 1024:
            raise TraitError("ssh_port: the sidecar's sshd is not root, so its port must be 1024 or higher")
        return int(proposal.value)

    def check_ssh_settings(self) -> None:
        super().check_ssh_settings()
        if not self.sidecar_image:
            raise ValueError("c.SSHKubeSpawner.sidecar_image is not set. Build images/sidecar, push it, and name it there")

    async def get_ssh_address(self) -> tuple[str, int]:
        """The pod's IP: under ``services_enabled`` and ``pod_connect_ip`` the server's URL names what has no port for sshd."""
        pod = self.pod_reflector.pods[f"{self.namespace}/{self.pod_name}"]
        return pod["status"]["podIP"], self.ssh_listen_port

    def get_ssh_socket_folders(self) -> tuple[str, ...]:
        return self._ssh_socket_folders

    def is_pod_running(self, pod: Any) -> bool:
        """As KubeSpawner's, but a sidecar that does not come up, or is just restarted, holds up nothing."""
        statuses = pod["status"].get("containerStatuses") if pod else None
        if statuses:
            others = [each for each in statuses if each["name"] != pod_manifest.SSHD]
            pod = {**pod, "status": {**pod["status"], "containerStatuses": others}}
        return bool(super().is_pod_running(pod))

    def get_env(self) -> dict[str, str]:
        """The notebook container's. What is for sshd alone, its private host key above all, is not in it."""
        env: dict[str, str] = super().get_env()
        assert self._ssh_spawn is not None
        kept = {name: value for name, value in env.items() if not name.startswith(ENVIRONMENT_PREFIX)}
        return {**kept, **_for_notebook(self._ssh_spawn.environment, self._ssh_spawn.host_key)}

    async def get_pod_manifest(self) -> Any:
        """The pod as KubeSpawner makes it, profiles applied, with the sidecar. ``modify_pod_hook`` comes after, and sees it."""
        pod = await super().get_pod_manifest()
        spawn = self._ssh_spawn
        if spawn is not None and spawn.environment.enabled:
            sidecar = pod_manifest.Sidecar(
                image=self.sidecar_image,
                image_pull_policy=self.sidecar_image_pull_policy,
                port=spawn.environment.listen_port,
                environment=_for_sshd(spawn.environment, self.get_ssh_user()),
                requests=self.sidecar_requests,
                limits=self.sidecar_limits,
                native=self.sidecar_native,
                home=self.sidecar_home,
            )
            try:
                parts = pod_manifest.build(plain(pod), sidecar)
                _add(pod, parts)
                self._ssh_socket_folders = parts.socket_folders
            except pod_manifest.PodUnfit as error:
                self.log.error("No SSH for %s: %s.", self._ssh_log_name(), error)
                self._ssh_turn_off(UNFIT_SENTENCE)
        _set_own_environment(pod.spec.containers[0], self.get_env())
        return pod

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> Any:
        """KubeSpawner calls it, with the pod as ``modify_pod_hook`` left it."""
        for complaint in pod_manifest.complaints(plain(pod)):
            self.log.error("The pod of %s: %s.", self._ssh_log_name(), complaint)
        return await super()._make_create_pod_request(pod, request_timeout)


def _for_notebook(environment: ServerEnvironment, host_key: str) -> dict[str, str]:
    """What the server extension needs, where the image has it: not what only sshd needs."""
    if environment.enabled:
        environment = replace(environment, sshd=SIDECAR, public_host_key=host_key)
        environment = replace(environment, host_key="", user_ca_keys="", principal="")
    return {name: value for name, value in environment.to_environ().items() if value}


def _for_sshd(environment: ServerEnvironment, account: str) -> dict[str, str]:
    given = {
        "HOST_KEY": environment.host_key,
        "USER_CA_KEYS": environment.user_ca_keys,
        "PRINCIPAL": environment.principal,
        "LISTEN_PORT": str(environment.listen_port),
        "LISTEN_ADDRESS": environment.listen_address,
        "ACCOUNT": account,
    }
    return {ENVIRONMENT_PREFIX + name: value for name, value in given.items() if value}


def plain(value: Any) -> Any:
    """A model of the Kubernetes client as it stands in YAML. KubeSpawner mixes models and dicts freely."""
    if hasattr(value, "attribute_map"):
        fields = {name: getattr(value, attribute) for attribute, name in value.attribute_map.items()}
        return {name: plain(each) for name, each in fields.items() if each is not None}
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def _model(kind: str, value: Any) -> Any:
    """The other way round, for parts that we made: an admin's ``modify_pod_hook`` finds models, as in KubeSpawner's own."""
    if kind.startswith("list["):
        return [_model(kind[5:-1], each) for each in value]
    cls = getattr(client, kind, None)
    if cls is None:
        return value
    fields = {attribute: name for attribute, name in cls.attribute_map.items() if name in value}
    return cls(**{attribute: _model(cls.openapi_types[attribute], value[name]) for attribute, name in fields.items()})


def _add(pod: Any, parts: pod_manifest.Parts) -> None:
    spec, notebook = pod.spec, pod.spec.containers[0]
    pod.metadata.labels = {**(pod.metadata.labels or {}), **parts.labels}
    spec.volumes = [*(spec.volumes or []), *_model("list[V1Volume]", parts.volumes)]
    spec.init_containers = [*(spec.init_containers or []), *_model("list[V1Container]", parts.init_containers)]
    spec.containers = [*spec.containers, *_model("list[V1Container]", parts.containers)]
    notebook.env = [*(notebook.env or []), *_model("list[V1EnvVar]", parts.notebook_environment)]
    notebook.volume_mounts = [*(notebook.volume_mounts or []), *_model("list[V1VolumeMount]", parts.notebook_mounts)]
    lifecycle = {**plain(notebook.lifecycle or {}), "postStart": parts.notebook_post_start}
    notebook.lifecycle = _model("V1Lifecycle", lifecycle)


def _set_own_environment(notebook: Any, env: dict[str, str]) -> None:
    """Our variables as they are: a user's name may hold what Kubernetes would expand."""
    own = {name: value for name, value in env.items() if name.startswith(ENVIRONMENT_PREFIX)}
    others = [each for each in notebook.env or [] if not plain(each)["name"].startswith(ENVIRONMENT_PREFIX)]
    notebook.env = [*others, *_model("list[V1EnvVar]", pod_manifest.environment(own))]
