"""One namespace, Hub and gateway for the run. Where there is no cluster, all here is skipped, by name and with the reason."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..harness.hub import Hub
from ..harness.ssh import SSHClient
from .cluster import NOTEBOOK_IMAGE, PLAIN_NOTEBOOK_IMAGE, SIDECAR_IMAGE, Namespace, Pod, host_on_pod_net, why_no_images, why_not

# Pods reach Hub and gateway at this machine's address on their network: these listen there, not on loopback alone.
CONFIG = """
c.JupyterHub.hub_bind_url = "http://{host}:{hub_port}"
c.JupyterHub.hub_connect_url = "http://{host}:{hub_port}"
c.Spawner.pre_spawn_hook = None
c.Spawner.default_url = "/tree"
c.KubeSpawner.namespace = {namespace!r}
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
c.KubeSpawner.uid = 1000
c.KubeSpawner.gid = 100
c.KubeSpawner.fs_gid = 100
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_capacity = "100Mi"
c.KubeSpawner.volumes = [{{"name": "home", "persistentVolumeClaim": {{"claimName": "{{pvc_name}}"}}}}]
c.KubeSpawner.volume_mounts = [{{"name": "home", "mountPath": "/home/jovyan", "subPath": "home"}}]
c.KubeSpawner.profile_list = [
    {{"display_name": "With our package", "slug": "ours", "default": True, "kubespawner_override": {{"image": {image!r}}}}},
    {{"display_name": "Without", "slug": "plain", "kubespawner_override": {{"image": {plain!r}}}}},
    {{"display_name": "Always", "slug": "always", "kubespawner_override": {{"image": {image!r}, "ssh_policy": "always"}}}},
    {{
        "display_name": "With hooks",
        "slug": "hooks",
        "kubespawner_override": {{
            "image": {image!r},
            "lifecycle_hooks": {{"postStart": {{"exec": {{"command": ["sh", "-c", "echo done > /tmp/admins-hook"]}}}}}},
            "extra_containers": [{{"name": "helper", "image": {sidecar!r}, "command": ["sleep", "1000"]}}],
        }},
    }},
    {{
        "display_name": "Any uid",
        "slug": "any-uid",
        "kubespawner_override": {{
            "image": {plain!r},
            "uid": 1000650000,
            "gid": 0,
            "environment": {{"HOME": "/home/jovyan"}},
        }},
    }},
]
c.Spawner.group_overrides = {{"staff": {{"groups": ["staff"], "spawner_override": {{"ssh_policy": "always"}}}}}}
c.SSHKubeSpawner.sidecar_image = {sidecar!r}
c.SSHKubeSpawner.sidecar_image_pull_policy = "IfNotPresent"
c.SSHSpawnerMixin.ssh_gateway_url = "http://{host}:{gateway_port}/services/ssh/"
"""
GATEWAY_CONFIG = """
c.Gateway.ssh_address = "0.0.0.0"
c.Gateway.http_address = "0.0.0.0"
c.Gateway.public_url = {url!r}
"""
PROFILES = {"with our package": "ours", "without": "plain"}


class Cluster:
    """The Hub, its gateway and the namespace of its pods."""

    def __init__(self, folder: Path) -> None:
        self.namespace = Namespace()
        self.hub = Hub(folder, spawner="jhssh_ext.hub.kubespawner.SSHKubeSpawner")
        gateway = self.hub.gateway
        assert gateway is not None
        self.gateway = gateway
        gateway.config = GATEWAY_CONFIG.format(url=f"{self.hub.url}/")
        self.hub.config = CONFIG.format(
            host=host_on_pod_net(),
            hub_port=self.hub.hub_port,
            gateway_port=gateway.http_port,
            namespace=self.namespace.name,
            image=NOTEBOOK_IMAGE,
            plain=PLAIN_NOTEBOOK_IMAGE,
            sidecar=SIDECAR_IMAGE,
        )

    def start(self) -> None:
        self.namespace.create()
        self.hub.start()

    def stop(self) -> None:
        try:
            self.hub.stop()
        finally:
            self.namespace.delete()

    def server(self, user: str, profile: str = "ours", server: str = "", **options: object) -> Pod:
        """Starts it and waits until it is ready."""
        self.hub.start_server(user, server, {"profile": profile, **options})
        return self.pod(user, server)

    def pod(self, user: str, server: str = "") -> Pod:
        return self.namespace.pod(str(self.hub.server_state(user, server)["pod_name"]))

    def client(self, folder: Path, user: str, login_name: str = "", options: tuple[str, ...] = ()) -> SSHClient:
        """Logs in with a token, as every image allows."""
        token = self.hub.token(user)
        gateway = self.gateway
        return SSHClient(
            folder,
            port=gateway.ssh_port,
            host_key=gateway.host_key,
            user=login_name or user,
            password=token,
            options=options,
            mark=self.hub.mark,
        )


def once(tmp_path_factory: pytest.TempPathFactory, name: str, find_out: Callable[[], str]) -> str:
    """What ``find_out`` says, asked once in a run, however many workers of pytest-xdist there are."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / f"once-{name}").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = file.read()
        if not found:
            found = f"{name}: {find_out()}"
            file.write(found)
    return found.partition(": ")[2]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = why_not() or once(tmp_path_factory, "images", why_no_images)
    if reason:
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def ssh(cluster: Cluster, tmp_path: Path) -> Callable[..., SSHClient]:
    """Makes clients: ``ssh("alice")``."""
    count = iter(range(1000))
    return lambda user, *more, **keywords: cluster.client(tmp_path / f"client-{next(count)}", user, *more, **keywords)
