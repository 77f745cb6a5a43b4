from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest

from jhssh_ext.hub import pod_manifest
from jhssh_ext.hub.pod_manifest import PodUnfit, Sidecar, build

SIDECAR = Sidecar(
    image="registry.example.org/jhssh-sidecar:1",
    port=2222,
    environment={"JHSSH_HOST_KEY": "PRIVATE\nKEY\n", "JHSSH_PRINCIPAL": "ab" * 32},
    requests={"cpu": "10m", "memory": "32Mi"},
    limits={"memory": "512Mi"},
)
VERSIONS = [f"1.{minor}" for minor in range(27, 38)]


def make_pod(notebook: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """As KubeSpawner makes it; ``notebook`` changes the first container."""
    container = {"name": "notebook", "image": "nb:1", "ports": [{"name": "notebook-port", "containerPort": 8888}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "jupyter-alice", "labels": {"app": "jupyterhub"}},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "OnFailure",
            "containers": [{**container, **(notebook or {})}],
            "volumes": [],
            **spec,
        },
    }


def with_parts(pod: dict[str, Any], sidecar: Sidecar = SIDECAR) -> dict[str, Any]:
    """The pod with its sidecar."""
    parts = build(pod, sidecar)
    made = copy.deepcopy(pod)
    spec, notebook = made["spec"], made["spec"]["containers"][0]
    made["metadata"]["labels"].update(parts.labels)
    spec["volumes"] = [*spec.get("volumes", []), *parts.volumes]
    spec["initContainers"] = [*spec.get("initContainers", []), *parts.init_containers]
    spec["containers"] += parts.containers
    notebook["env"] = [*notebook.get("env", []), *parts.notebook_environment]
    notebook["volumeMounts"] = [*notebook.get("volumeMounts", []), *parts.notebook_mounts]
    notebook["lifecycle"] = {**notebook.get("lifecycle", {}), "postStart": parts.notebook_post_start}
    return made


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("native", [False, True])
def test_pods_are_valid(version: str, native: bool) -> None:
    if native and int(version.split(".")[1]) < 28:
        pytest.skip("native sidecars came with Kubernetes 1.28")
    sidecar = Sidecar(**{**vars(SIDECAR), "native": native, "image_pull_policy": "IfNotPresent"})
    pod = with_parts(make_pod({"securityContext": {"runAsUser": 1000}}, automountServiceAccountToken=True), sidecar)
    kubernetes_validate.validate(pod, version, strict=True)


def test_building_changes_nothing_that_it_was_given() -> None:
    pod = make_pod({"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}})
    before = copy.deepcopy(pod)
    build(pod, SIDECAR)
    assert pod == before


def test_sshd_is_an_ordinary_container_after_all_others() -> None:
    pod = make_pod()
    pod["spec"]["containers"].append({"name": "helper", "image": "h:1"})
    made = with_parts(pod)["spec"]
    assert [each["name"] for each in made["containers"]] == ["notebook", "helper", "sshd"]
    assert [each["name"] for each in made["initContainers"]] == ["jhssh-install"]
    assert "restartPolicy" not in made["containers"][-1]


def test_a_native_sidecar_is_an_init_container_that_goes_on() -> None:
    parts = build(make_pod(initContainers=[{"name": "chown", "image": "c"}]), Sidecar(**{**vars(SIDECAR), "native": True}))
    assert parts.containers == []
    assert [(each["name"], each.get("restartPolicy")) for each in parts.init_containers] == [
        ("jhssh-install", None),
        ("sshd", "Always"),
    ]


def test_the_container_sshd() -> None:
    (sshd,) = build(make_pod(), SIDECAR).containers
    assert sshd["image"] == SIDECAR.image
    assert sshd["args"] == ["run"]
    assert sshd["ports"] == [{"name": "ssh", "containerPort": 2222, "protocol": "TCP"}]
    assert sshd["resources"] == {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}
    assert sshd["env"] == [
        {"name": "JHSSH_HOST_KEY", "value": "PRIVATE\nKEY\n"},
        {"name": "JHSSH_PRINCIPAL", "value": "ab" * 32},
    ]
    # A probe would hold up the start of every server; the gateway tries again by itself.
    assert not {"readinessProbe", "livenessProbe", "startupProbe", "envFrom"} & set(sshd)
    assert "imagePullPolicy" not in sshd


def test_pods_without_quantities_have_no_resources() -> None:
    (sshd,) = build(make_pod(), Sidecar(image="x", port=2222, environment={})).containers
    assert "resources" not in sshd


def test_both_of_ours_meet_the_restricted_pod_security_standard() -> None:
    parts = build(make_pod(), SIDECAR)
    for container in (*parts.init_containers, *parts.containers):
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["readOnlyRootFilesystem"] is True
        assert "privileged" not in context
    assert all("emptyDir" in volume for volume in parts.volumes)


@pytest.mark.parametrize(
    ("of_pod", "of_container", "expected"),
    [
        pytest.param({}, {"runAsUser": 1000, "runAsGroup": 100}, {"runAsUser": 1000, "runAsGroup": 100}, id="of the container"),
        pytest.param({"runAsUser": 5, "runAsGroup": 6}, {}, {"runAsUser": 5, "runAsGroup": 6}, id="of the pod"),
        pytest.param({"runAsUser": 5}, {"runAsUser": 7}, {"runAsUser": 7}, id="the container's counts"),
        pytest.param({"fsGroup": 1}, {}, {}, id="left to the cluster, as OpenShift wants it"),
        pytest.param({}, {"seLinuxOptions": {"level": "s0:c1"}}, {"seLinuxOptions": {"level": "s0:c1"}}, id="SELinux"),
        pytest.param({}, {"runAsUser": 1, "privileged": True, "capabilities": {"add": ["X"]}}, {"runAsUser": 1}, id="no more"),
    ],
)
def test_identity_is_the_notebooks(of_pod: Any, of_container: Any, expected: dict[str, Any]) -> None:
    parts = build(make_pod({"securityContext": of_container}, securityContext=of_pod), SIDECAR)
    for container in (*parts.init_containers, *parts.containers):
        context = container["securityContext"]
        assert {name: context[name] for name in ("runAsUser", "runAsGroup", "seLinuxOptions") if name in context} == expected


def test_each_container_mounts_what_it_needs_and_no_more() -> None:
    made = with_parts(make_pod())["spec"]
    notebook, sshd = made["containers"]
    (install,) = made["initContainers"]
    assert mounts(install) == {"/run/jhssh": {"name": "jhssh", "mountPath": "/run/jhssh"}}

    def access(container: dict[str, Any]) -> dict[str, tuple[str, str, bool]]:
        return {
            path: (mount["name"], mount.get("subPath", ""), mount.get("readOnly", False))
            for path, mount in mounts(container).items()
        }

    assert access(notebook) == {
        "/run/jhssh/lib": ("jhssh", "lib", True),
        "/run/jhssh/run": ("jhssh", "run", False),
        "/run/jhssh/tmp": ("jhssh", "tmp", True),
        "/run/jhssh/user": ("jhssh", "user", False),
    }
    assert access(sshd) == {
        "/run/jhssh/run": ("jhssh", "run", True),
        "/run/jhssh/user": ("jhssh", "user", False),
        "/tmp": ("jhssh", "tmp", False),
        "/run/sidecar": ("jhssh-sshd", "", False),
    }
    volumes = {volume["name"]: volume["emptyDir"] for volume in made["volumes"]}
    assert volumes == {"jhssh": {"sizeLimit": "256Mi"}, "jhssh-sshd": {"medium": "Memory", "sizeLimit": "1Mi"}}


VOLUMES = [
    {"name": "home", "persistentVolumeClaim": {"claimName": "claim-alice"}},
    {"name": "shared", "nfs": {"server": "n", "path": "/"}},
    {"name": "certs", "secret": {"secretName": "s"}},
    {"name": "settings", "configMap": {"name": "c"}},
    {"name": "shm", "emptyDir": {"medium": "Memory"}},
]


@pytest.mark.parametrize(
    ("mount", "notebook", "trait", "wanted"),
    [
        ({"name": "home", "mountPath": "/home/jovyan"}, {}, "", True),
        ({"name": "home", "mountPath": "/home/jovyan", "subPath": "alice"}, {}, "", True),
        ({"name": "home", "mountPath": "/home/jovyan/work", "readOnly": True}, {}, "", True),
        ({"name": "home", "mountPath": "/home"}, {"workingDir": "/home/jovyan"}, "", True),
        ({"name": "home", "mountPath": "/homes/jovyan"}, {}, "", False),
        ({"name": "home", "mountPath": "/opt/app-root/src"}, {}, "", False),
        ({"name": "home", "mountPath": "/opt/app-root/src"}, {}, "/opt/app-root/src", True),
        ({"name": "home", "mountPath": "/data/a"}, {"env": [{"name": "HOME", "value": "/data/a"}]}, "", True),
        ({"name": "home", "mountPath": "/home/a"}, {"env": [{"name": "HOME", "value": "/data/$(X)"}]}, "", True),
        ({"name": "home", "mountPath": "/home/a"}, {"env": [{"name": "HOME", "valueFrom": {}}]}, "", True),
        ({"name": "shared", "mountPath": "/srv/shared"}, {}, "", False),
        ({"name": "shared", "mountPath": "/home/jovyan/shared"}, {}, "", True),
        ({"name": "certs", "mountPath": "/home/jovyan/.certs"}, {}, "", False),
        ({"name": "settings", "mountPath": "/home/jovyan/.jupyter"}, {}, "", False),
        ({"name": "shm", "mountPath": "/dev/shm"}, {}, "", False),
    ],
)
def test_sshd_mounts_the_home_as_the_notebook_does(
    mount: dict[str, Any], notebook: dict[str, Any], trait: str, wanted: bool
) -> None:
    pod = make_pod({**notebook, "volumeMounts": [mount]}, volumes=VOLUMES)
    parts = build(pod, Sidecar(**{**vars(SIDECAR), "home": trait}))
    (sshd,), (install,) = parts.containers, parts.init_containers
    assert (mounts(sshd).get(mount["mountPath"]) == mount) is wanted
    assert mount["mountPath"] not in mounts(install)
    assert parts.socket_folders == ("/run/jhssh/user", *([mount["mountPath"]] if wanted else []))


@pytest.mark.parametrize(
    ("home", "path", "wanted"),
    [
        ("/tmp", "/tmp", False),
        ("/tmp/home", "/tmp/home", False),
        ("/opt/app-root/src", "/opt", False),
        ("/opt/app-root/src", "/opt/", False),
        ("/opt/app-root/src", "/opt/app-root/..", False),
        ("/opt/app-root/src", "//opt", False),
        ("/opt/app-root/src", "/opt/app-root", True),
        ("/opt/app-root/src", "/opt/app-root/src", True),
        ("/opt/jhssh", "/opt/jhssh", False),
        ("/opt/jhssh/jhssh_ext", "/opt/jhssh/jhssh_ext", False),
        ("/usr/share/home", "/usr/share/home", False),
        ("/var/home/a", "/var", False),
        ("/var/home/a", "/var/home", True),
        ("/run/user", "/run/user", False),
        ("/home/a", "/", False),
        ("/", "/usr/local", False),
        ("/", "/data", False),
        ("/", "/home/a", True),
        ("/home/a/", "/home/a/work/", True),
    ],
)
@pytest.mark.parametrize("said_by", ["sidecar_home", "HOME", "workingDir"])
def test_no_volume_of_the_users_is_where_sshd_has_its_own_files(home: str, path: str, wanted: bool, said_by: str) -> None:
    notebook: dict[str, Any] = {"volumeMounts": [{"name": "home", "mountPath": path}]}
    if said_by == "HOME":
        notebook["env"] = [{"name": "HOME", "value": home}]
    elif said_by == "workingDir":
        notebook["workingDir"] = home
    sidecar = Sidecar(**{**vars(SIDECAR), "home": home if said_by == "sidecar_home" else ""})
    parts = build(make_pod(notebook, volumes=VOLUMES), sidecar)
    paths = [mount["mountPath"] for mount in parts.containers[0]["volumeMounts"]]
    assert (path in [mount["mountPath"] for mount in parts.containers[0]["volumeMounts"] if mount["name"] == "home"]) is wanted
    assert (path in parts.socket_folders) is wanted
    assert len(paths) == len(set(paths)), "the API server refuses two mounts at one path"


@pytest.mark.parametrize(("read_only", "nested"), [(False, False), (True, True)])
def test_sshd_mounts_nothing_where_a_link_of_the_users_may_be(read_only: bool, nested: bool) -> None:
    """runc follows links inside of the container: ~/shared -> /opt/jhssh would have the next volume mounted over sshd's code."""
    home = {"name": "home", "mountPath": "/home/a", "readOnly": read_only}
    shared = {"name": "shared", "mountPath": "/home/a/shared"}
    for both in ([home, shared], [shared, home]):
        parts = build(make_pod({"volumeMounts": both}, volumes=VOLUMES), SIDECAR)
        assert "/home/a" in mounts(parts.containers[0])
        assert ("/home/a/shared" in mounts(parts.containers[0])) is nested


def test_mounts_are_not_propagated_out_of_sshd() -> None:
    mount = {"name": "home", "mountPath": "/home/a", "mountPropagation": "Bidirectional"}
    (sshd,) = build(make_pod({"volumeMounts": [mount]}, volumes=VOLUMES), SIDECAR).containers
    assert mounts(sshd)["/home/a"] == {"name": "home", "mountPath": "/home/a"}


def test_variables_of_a_sub_path_come_along() -> None:
    env = [
        {"name": "TEAM", "value": "t"},
        {"name": "FOLDER", "value": "$(TEAM)/x"},
        {"name": "PASSWORD", "value": "secret"},
    ]
    mount = {"name": "home", "mountPath": "/home/a", "subPathExpr": "homes/$(FOLDER)"}
    (sshd,) = build(make_pod({"env": env, "volumeMounts": [mount]}, volumes=VOLUMES), SIDECAR).containers
    assert sshd["env"][:2] == env[:2]
    assert "PASSWORD" not in [each["name"] for each in sshd["env"]]
    assert mounts(sshd)["/home/a"]["subPathExpr"] == "homes/$(FOLDER)"


@pytest.mark.parametrize("automount", [True, None])
def test_a_service_account_of_the_notebooks_is_not_ours(automount: bool | None) -> None:
    """The API server adds no token where something is mounted already (ServiceAccount admission)."""
    pod = make_pod(automountServiceAccountToken=automount, serviceAccountName="notebooks")
    parts = build(pod, SIDECAR)
    for container in (*parts.init_containers, *parts.containers):
        assert mounts(container)["/var/run/secrets/kubernetes.io/serviceaccount"] == {
            "name": "jhssh-no-token",
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            "readOnly": True,
        }
    assert {"name": "jhssh-no-token", "emptyDir": {}} in parts.volumes
    assert "jhssh-no-token" not in [mount["name"] for mount in parts.notebook_mounts]


START = ["/bin/sh", "/run/jhssh/lib/start-agent"]


@pytest.mark.parametrize(
    ("lifecycle", "command"),
    [
        ({}, START),
        ({"preStop": {"exec": {"command": ["bye"]}}}, START),
        ({"postStart": {"exec": {"command": ["sh", "-c", "echo hi; exit 3"]}}}, [*START, "sh", "-c", "echo hi; exit 3"]),
        ({"postStart": {"exec": {}}}, START),
        ({"postStart": {"exec": None, "sleep": {"seconds": 5}}}, [*START, "sleep", "5"]),
    ],
)
def test_the_admins_post_start_hook_runs_too(lifecycle: dict[str, Any], command: list[str]) -> None:
    made = with_parts(make_pod({"lifecycle": lifecycle}))["spec"]["containers"][0]["lifecycle"]
    assert made == {**lifecycle, "postStart": {"exec": {"command": command}}}


@pytest.mark.parametrize(("env", "expected"), [([], "/run/jhssh/user"), ([{"name": "XDG_RUNTIME_DIR", "value": "/x"}], "/x")])
def test_the_runtime_dir_is_shared_unless_the_admin_set_one(env: list[dict[str, str]], expected: str) -> None:
    found = with_parts(make_pod({"env": env}))["spec"]["containers"][0]["env"]
    assert found == [{"name": "XDG_RUNTIME_DIR", "value": expected}]


def test_values_are_taken_literally() -> None:
    assert pod_manifest.environment({"A": "$(B) $$ $C"}) == [{"name": "A", "value": "$$(B) $$$$ $$C"}]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda spec: spec.update(shareProcessNamespace=True), "shareProcessNamespace"),
        (lambda spec: spec.update(hostPID=True), "hostPID"),
        (lambda spec: spec.update(securityContext={"runAsUser": 0}), "KubeSpawner.uid"),
        (lambda spec: spec["containers"].append({"name": "sshd", "image": "x"}), "sshd"),
        (lambda spec: spec.update(initContainers=[{"name": "jhssh-install", "image": "x"}]), "jhssh-install"),
        (lambda spec: spec["containers"][0]["ports"].append({"containerPort": 2222}), "ssh_port"),
        (lambda spec: spec["containers"][0].update(lifecycle={"postStart": {"httpGet": {"port": 1}}}), "httpGet"),
    ],
)
def test_a_pod_that_can_have_no_sidecar_is_refused_with_what_to_mend(change: Any, names: str) -> None:
    pod = make_pod()
    change(pod["spec"])
    with pytest.raises(PodUnfit, match=names):
        build(pod, SIDECAR)


def test_secrets_stay_out_of_tracebacks() -> None:
    assert "PRIVATE" not in repr(SIDECAR)
