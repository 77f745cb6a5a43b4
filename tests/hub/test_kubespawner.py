"""KubeSpawner's own manifests, with the sidecar. No cluster: nothing here calls a Kubernetes API."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from kubespawner import KubeSpawner
from traitlets import TraitError

from jhssh_ext.hub import SSHKubeSpawner, options_form
from jhssh_ext.hub.kubespawner import UNFIT_SENTENCE, plain
from jhssh_ext.payloads import ServerEnvironment
from jhssh_ext.singleuser.environment import take

from .test_pod_manifest import VERSIONS, mounts

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: nobody, user: {token: none}}]
contexts: [{name: none, context: {cluster: none, user: nobody}}]
current-context: none
"""
MakeSpawner = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def no_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A spawner makes a client when it is made; here it leads nowhere, whatever KUBECONFIG says."""
    from kubernetes_asyncio.config import kube_config
    from kubespawner.clients import load_config

    file = tmp_path_factory.mktemp("kube") / "config"
    file.write_text(KUBECONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        load_config.cache_clear()
        yield
    load_config.cache_clear()


@pytest_asyncio.fixture
async def make(make_spawner: MakeSpawner) -> MakeSpawner:
    """Makes an SSHKubeSpawner with a sidecar image; keywords are traits of it."""

    def make(name: str = "alice", server: str = "", *, user_options: Any = None, **traits: Any) -> Any:
        config = traits.pop("config", {})
        spawner = make_spawner(name, server, user_options, spawner_class=SSHKubeSpawner, config=config)
        spawner.namespace = "hub"
        for trait, value in {"sidecar_image": "jhssh-sidecar:1", "uid": 1000, "cmd": ["jupyterhub-singleuser"], **traits}.items():
            setattr(spawner, trait, value)
        return spawner

    return make


async def manifest(spawner: Any) -> dict[str, Any]:
    """As the API server gets it."""
    await spawner.load_user_options()
    pod = await spawner.get_pod_manifest()
    if spawner.modify_pod_hook:
        pod = spawner.modify_pod_hook(spawner, pod)
    found = spawner.api.api_client.sanitize_for_serialization(pod)
    assert found == spawner.api.api_client.sanitize_for_serialization(plain(pod))
    kubernetes_validate.validate(found, VERSIONS[-1], strict=True)
    assert isinstance(found, dict)
    return found


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]}


def environment(container: dict[str, Any]) -> dict[str, str]:
    """As the process finds it (Kubernetes makes ``$`` of ``$$``)."""
    return {each["name"]: each["value"].replace("$$", "$") for each in container.get("env") or [] if "value" in each}


def ours(container: dict[str, Any]) -> set[str]:
    return {name for name in environment(container) if name.startswith("JHSSH_")}


# ---- who gets what ----


@pytest.mark.asyncio
async def test_only_sshd_has_what_only_sshd_needs(make: MakeSpawner, user_ca_key: str) -> None:
    spawner = make()
    found = containers(await manifest(spawner))
    assert list(found) == ["notebook", "sshd", "jhssh-install"]
    assert ours(found["sshd"]) == {
        "JHSSH_HOST_KEY",
        "JHSSH_USER_CA_KEYS",
        "JHSSH_PRINCIPAL",
        "JHSSH_LISTEN_PORT",
        "JHSSH_ACCOUNT",
    }
    assert ours(found["notebook"]) == {
        "JHSSH_ENABLED",
        "JHSSH_CAN_BE_ENABLED",
        "JHSSH_SSHD",
        "JHSSH_PUBLIC_HOST_KEY",
        "JHSSH_LISTEN_PORT",
        "JHSSH_AUDIENCE",
        "JHSSH_SECRET",
        "JHSSH_CONNECT_PORT",
        "JHSSH_LOGIN_NAME",
    }
    assert ours(found["jhssh-install"]) == set()
    given = environment(found["sshd"])
    assert given["JHSSH_USER_CA_KEYS"] == user_ca_key
    assert given["JHSSH_LISTEN_PORT"] == "2222"
    assert given["JHSSH_ACCOUNT"] == "jovyan"
    private = load_ssh_private_key(given["JHSSH_HOST_KEY"].encode(), None)
    assert private
    assert given["JHSSH_HOST_KEY"] not in str(found["notebook"])
    assert "PRIVATE KEY" not in str(spawner.get_env())


@pytest.mark.asyncio
async def test_the_server_extension_sees_the_sidecar(make: MakeSpawner) -> None:
    found = containers(await manifest(make()))
    taken = take(environment(found["notebook"]))
    assert taken.enabled
    assert taken.sshd == "sidecar"
    assert taken.public_host_key.startswith("ssh-ed25519 ")


@pytest.mark.asyncio
async def test_names_are_not_expanded_by_kubernetes(make: MakeSpawner) -> None:
    found = containers(await manifest(make("$(JHSSH_SECRET)$HOME")))
    (login_name,) = (each["value"] for each in found["notebook"]["env"] if each["name"] == "JHSSH_LOGIN_NAME")
    assert login_name == "$$(JHSSH_SECRET)$$HOME"


# ---- on and off ----


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("user_options", "config"),
    [({"enable_ssh": False}, {}), ({}, {"ssh_default": False}), ({"enable_ssh": True}, {"ssh_policy": "never"})],
)
async def test_where_ssh_is_off_the_pod_is_kubespawners_own(
    make: MakeSpawner, user_options: dict[str, Any], config: dict[str, Any]
) -> None:
    pod = await manifest(make(user_options=user_options, config=config))
    assert list(containers(pod)) == ["notebook"]
    assert "jhssh/enabled" not in pod["metadata"]["labels"]
    assert pod["spec"]["volumes"] == []
    notebook = containers(pod)["notebook"]
    assert not notebook.get("lifecycle")
    assert "XDG_RUNTIME_DIR" not in environment(notebook)
    taken = take(environment(notebook))
    assert not taken.enabled
    assert taken.disabled_because


@pytest.mark.asyncio
async def test_pods_with_a_sidecar_have_the_label(make: MakeSpawner) -> None:
    labels = (await manifest(make(extra_labels={"team": "a"})))["metadata"]["labels"]
    assert labels["jhssh/enabled"] == "true"
    assert labels["team"] == "a"


@pytest.mark.asyncio
async def test_a_profile_may_switch_it_on_and_change_the_sidecar(make: MakeSpawner) -> None:
    profiles = [
        {"display_name": "Plain", "slug": "plain", "default": True},
        {
            "display_name": "SSH",
            "slug": "ssh",
            "kubespawner_override": {"ssh_policy": "always", "sidecar_limits": {"memory": "2Gi", "cpu": "1"}, "image": "gpu:2"},
        },
    ]
    for choice, on in (("plain", False), ("ssh", True)):
        spawner = make(profile_list=profiles, user_options={"profile": choice}, config={"ssh_default": False})
        found = containers(await manifest(spawner))
        assert ("sshd" in found) is on
    assert found["sshd"]["resources"]["limits"] == {"memory": "2Gi", "cpu": "1"}
    assert found["notebook"]["image"] == "gpu:2"
    assert make().sidecar_limits == {"memory": "1Gi"}, "no other spawner is changed"


@pytest.mark.asyncio
async def test_a_group_may_switch_it_on(make: MakeSpawner) -> None:
    spawner = make(config={"ssh_default": False})
    spawner.group_overrides = {"a": {"groups": ["staff"], "spawner_override": {"ssh_policy": "always"}}}
    spawner.user.__dict__["groups"] = [SimpleNamespace(name="staff")]
    await spawner.apply_group_overrides()
    assert "sshd" in containers(await manifest(spawner))


@pytest.mark.asyncio
async def test_without_an_image_ssh_is_off_and_the_admin_is_told(make: MakeSpawner, caplog: pytest.LogCaptureFixture) -> None:
    spawner = make(sidecar_image="")
    spawner.log = logging.getLogger("hub")
    assert "sshd" not in containers(await manifest(spawner))
    assert "c.SSHKubeSpawner.sidecar_image" in caplog.text


@pytest.mark.asyncio
async def test_a_pod_that_can_have_no_sidecar_starts_without(make: MakeSpawner, caplog: pytest.LogCaptureFixture) -> None:
    spawner = make(uid=0)
    spawner.log = logging.getLogger("hub")
    found = containers(await manifest(spawner))
    assert list(found) == ["notebook"]
    assert "KubeSpawner.uid" in caplog.text
    taken = take(environment(found["notebook"]))
    assert (taken.enabled, taken.disabled_because) == (False, UNFIT_SENTENCE)
    assert await spawner._ssh_describe(("10.0.0.1", 8888)) is None


# ---- with what admins have ----


@pytest.mark.asyncio
async def test_containers_of_the_admin_stay_where_they_are(make: MakeSpawner) -> None:
    spawner = make(
        extra_containers=[{"name": "helper", "image": "h", "command": ["x"]}],
        init_containers=[{"name": "chown", "image": "c"}],
        volumes={"home": {"name": "home", "persistentVolumeClaim": {"claimName": "claim-{username}"}}},
        volume_mounts={"home": {"name": "home", "mountPath": "/home/jovyan", "subPath": "{username}"}},
        service_account="notebooks",
        automount_service_account_token=True,
    )
    pod = await manifest(spawner)
    assert [each["name"] for each in pod["spec"]["containers"]] == ["notebook", "helper", "sshd"]
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["chown", "jhssh-install"]
    found = containers(pod)
    assert mounts(found["sshd"])["/home/jovyan"] == mounts(found["notebook"])["/home/jovyan"]
    assert mounts(found["sshd"])["/home/jovyan"]["subPath"] == "alice"
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in mounts(found["sshd"])


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["dict", "object", "extra_container_config"])
async def test_hooks_of_the_admin_run_too(make: MakeSpawner, how: str) -> None:
    from kubernetes_asyncio.client import V1ExecAction, V1LifecycleHandler

    own: dict[str, Any] = {"exec": {"command": ["sh", "-c", "echo"]}}
    if how == "object":
        own = V1LifecycleHandler(_exec=V1ExecAction(command=["sh", "-c", "echo"]))  # type: ignore[assignment]
    hooks = {"postStart": own, "preStop": {"exec": {"command": ["bye"]}}}
    traits = {"extra_container_config": {"lifecycle": hooks}} if how == "extra_container_config" else {"lifecycle_hooks": hooks}
    lifecycle = containers(await manifest(make(**traits)))["notebook"]["lifecycle"]
    assert lifecycle == {
        "postStart": {"exec": {"command": ["/bin/sh", "/run/jhssh/lib/start-agent", "sh", "-c", "echo"]}},
        "preStop": {"exec": {"command": ["bye"]}},
    }


@pytest.mark.asyncio
async def test_modify_pod_hook_sees_the_sidecar_as_objects(make: MakeSpawner) -> None:
    def hook(spawner: Any, pod: Any) -> Any:
        assert pod.spec.containers[0].name == "notebook"
        for container in pod.spec.containers:
            assert isinstance({each.name for each in container.env}, set)
            assert isinstance({each.mount_path for each in container.volume_mounts}, set)
        pod.spec.containers[-1].resources.limits["memory"] = "1Gi"
        pod.spec.containers[0].security_context["readOnlyRootFilesystem"] = True
        return pod

    found = containers(await manifest(make(modify_pod_hook=hook)))
    assert found["sshd"]["resources"]["limits"]["memory"] == "1Gi"
    assert found["notebook"]["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: None, ""),
        (lambda spec: setattr(spec, "share_process_namespace", True), "shareProcessNamespace"),
        (lambda spec: setattr(spec, "host_pid", True), "hostPID"),
        (lambda spec: spec.containers[0].security_context.update(runAsUser=7), "set KubeSpawner.uid"),
        (lambda spec: (spec.containers.pop(), setattr(spec, "host_pid", True)), ""),
    ],
)
async def test_what_a_hook_spoils_is_logged_with_the_setting(
    make: MakeSpawner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, change: Any, said: str
) -> None:
    created = []

    async def create(_spawner: Any, pod: Any, _timeout: float) -> bool:
        created.append(pod)
        return True

    monkeypatch.setattr(KubeSpawner, "_make_create_pod_request", create)
    spawner = make()
    await spawner.load_user_options()
    pod = await spawner.get_pod_manifest()
    change(pod.spec)
    with caplog.at_level(logging.ERROR):
        assert await spawner._make_create_pod_request(pod, 3)
    assert created == [pod]
    assert [said in record.getMessage() for record in caplog.records] == ([True] if said else [])


@pytest.mark.asyncio
@pytest.mark.parametrize("uid", [None, 1000650000, lambda _spawner: 4711])
async def test_any_uid(make: MakeSpawner, uid: Any) -> None:
    found = containers(await manifest(make(uid=uid, gid=uid, fs_gid=100)))
    expected = uid(None) if callable(uid) else uid
    for container in ("sshd", "jhssh-install"):
        context = found[container]["securityContext"]
        assert context.get("runAsUser") == context.get("runAsGroup") == expected


@pytest.mark.asyncio
async def test_servers_of_one_user_have_pods_keys_and_namespaces_of_their_own(make: MakeSpawner) -> None:
    found = []
    for server in ("", "gpu"):
        spawner = make("bob", server, config={"enable_user_namespaces": True})
        pod = await manifest(spawner)
        found.append((pod["metadata"]["name"], environment(containers(pod)["sshd"])["JHSSH_PRINCIPAL"]))
    assert len(set(found)) == len({principal for _, principal in found}) == 2


@pytest.mark.asyncio
async def test_a_native_sidecar(make: MakeSpawner) -> None:
    pod = await manifest(make(sidecar_native=True, init_containers=[{"name": "chown", "image": "c"}]))
    assert [each["name"] for each in pod["spec"]["containers"]] == ["notebook"]
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["chown", "jhssh-install", "sshd"]


@pytest.mark.asyncio
async def test_every_sort_of_pod_is_valid_in_every_supported_kubernetes(make: MakeSpawner) -> None:
    everything: dict[str, Any] = {
        "fs_gid": 100,
        "extra_containers": [{"name": "helper", "image": "h"}],
        "init_containers": [{"name": "chown", "image": "c"}],
        "lifecycle_hooks": {"postStart": {"exec": {"command": ["x"]}}},
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "c"}}],
        "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan", "subPath": "x"}],
        "sidecar_image_pull_policy": "Always",
        "extra_pod_config": {"securityContext": {"runAsNonRoot": True}},
    }
    pods = [await manifest(make(**traits)) for traits in ({}, everything)]
    for version in VERSIONS:
        for pod in pods:
            kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.asyncio
async def test_fancy_profiles_keeps_its_form_below_our_checkbox(make: MakeSpawner) -> None:
    fancy = pytest.importorskip("jupyterhub_fancy_profiles")
    spawner = make(
        additional_profile_form_template_paths=fancy.TEMPLATE_PATHS,
        profile_list=[{"display_name": "One", "slug": "one", "default": True}],
    )
    form = await spawner.get_options_form()
    assert form.startswith('<div class="form-check')
    assert f'name="{options_form.OPTION}"' in form
    assert "fancy-profiles" in form
    sent = {"profile": ["one"], "enable_ssh": ["on"]}
    assert await spawner.run_options_from_form(sent) == {"profile": "one", "enable_ssh": True}


# ---- where it is ----


@pytest.mark.asyncio
@pytest.mark.parametrize("traits", [{}, {"services_enabled": True}, {"pod_connect_ip": "x.{username}.example"}])
async def test_the_address_is_the_pods_own(make: MakeSpawner, traits: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "c"}}]
    spawner = make(**traits, volumes=volumes, volume_mounts=[{"name": "home", "mountPath": "/home/jovyan"}])
    await manifest(spawner)
    pods = {f"hub/{spawner.pod_name}": {"status": {"podIP": "10.1.2.3"}}}
    monkeypatch.setattr(type(spawner), "pod_reflector", SimpleNamespace(pods=pods))
    state = await spawner._ssh_describe("http://somewhere-else:8888")
    assert (state.host, state.port, state.user) == ("10.1.2.3", 2222, "jovyan")
    assert state.socket_folders == ("/run/jhssh/user", "/home/jovyan")
    given = environment(containers(await manifest(spawner))["notebook"])
    assert state.host_key == given["JHSSH_PUBLIC_HOST_KEY"]
    assert state.secret == given["JHSSH_SECRET"]


def running(**ready: bool) -> dict[str, Any]:
    statuses = [{"name": name, "ready": value} for name, value in ready.items()]
    return {"metadata": {}, "status": {"phase": "Running", "podIP": "10.1.2.3", "containerStatuses": statuses}}


@pytest.mark.asyncio
async def test_a_sidecar_holds_up_no_server(make: MakeSpawner) -> None:
    spawner = make()
    assert spawner.is_pod_running(running(notebook=True, sshd=False))
    assert not spawner.is_pod_running(running(notebook=False, sshd=True))
    assert not spawner.is_pod_running(running(notebook=True, helper=False, sshd=True))
    assert not spawner.is_pod_running(None)


@pytest.mark.asyncio
@pytest.mark.parametrize("port", [0, 22, 1023])
async def test_ports_that_sshd_may_not_have_are_refused(make: MakeSpawner, port: int) -> None:
    with pytest.raises(TraitError, match="1024"):
        make(ssh_port=port)


@pytest.mark.asyncio
async def test_an_address_to_listen_on_is_handed_on(make: MakeSpawner) -> None:
    found = containers(await manifest(make(ssh_listen_address="0.0.0.0", ssh_port=2200, ssh_user="me")))
    given = environment(found["sshd"])
    assert given["JHSSH_LISTEN_ADDRESS"] == "0.0.0.0"
    assert given["JHSSH_LISTEN_PORT"] == "2200"
    assert given["JHSSH_ACCOUNT"] == "me"
    assert found["sshd"]["ports"][0]["containerPort"] == 2200


@pytest.mark.slow
def test_the_hubs_part_is_imported_without_kubespawner() -> None:
    code = "import sys, jhssh_ext.hub; assert not {'kubespawner', 'kubernetes_asyncio'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_an_attribute_error() -> None:
    import jhssh_ext.hub

    with pytest.raises(AttributeError, match="SSHNoSpawner"):
        getattr(jhssh_ext.hub, "SSHNoSpawner")  # noqa: B009 - a name that mypy must not see


def test_environment_of_a_sidecar_survives_the_spawn() -> None:
    given = ServerEnvironment(True, sshd="sidecar", public_host_key="k", audience="a", secret="s", listen_port=2222)
    assert ServerEnvironment.from_environ(given.to_environ()) == given
