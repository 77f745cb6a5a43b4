"""examples/kubernetes: valid for every supported Kubernetes, of one piece, and true to the code."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from jhssh_ext.gateway.app import Gateway
from jhssh_ext.hub.kubespawner import PORT, SSHKubeSpawner

from .harness.gateway import SCOPES
from .hub.test_pod_manifest import VERSIONS

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "kubernetes"
MANIFESTS = sorted(path for path in FOLDER.rglob("*.yaml") if "values" not in path.name)
VALUES = [FOLDER / "values-start.yaml", FOLDER / "values.yaml"]
GATEWAY = {"app.kubernetes.io/name": "jhssh-gateway"}


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def of_kind(kind: str, path: Path = FOLDER / "gateway.yaml") -> dict[str, Any]:
    (found,) = (each for each in documents(path) if each["kind"] == kind)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_manifests_are_valid(path: Path, version: str) -> None:
    for manifest in documents(path):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_services_and_policies_select_the_gateway(path: Path) -> None:
    pod = of_kind("Deployment")["spec"]["template"]
    ports = {each["name"] for each in pod["spec"]["containers"][0]["ports"]}
    for manifest in documents(path):
        if manifest["kind"] == "Service":
            assert manifest["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
            assert {each["targetPort"] for each in manifest["spec"]["ports"]} <= ports


def config_of(path: Path) -> str:
    text = yaml.safe_load(path.read_text())["hub"]["extraConfig"]["jhssh"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("path", VALUES, ids=name_of)
def test_values_configure_what_there_is(path: Path) -> None:
    for node in ast.walk(ast.parse(config_of(path))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            section, trait = node.targets[0].value, node.targets[0].attr
            assert isinstance(section, ast.Attribute)
            if section.attr in ("SSHSpawnerMixin", "SSHKubeSpawner", "Spawner"):
                assert SSHKubeSpawner.class_traits(config=True).get(trait), trait


def test_four_lines_are_enough() -> None:
    lines = config_of(FOLDER / "values-start.yaml").strip().splitlines()
    assert len(lines) == 4
    assert set(lines[1:]) - {line.split("  #")[0] for line in config_of(FOLDER / "values.yaml").splitlines()} <= {
        "c.SSHSpawnerMixin.ssh_default = True"
    }


@pytest.mark.parametrize("path", VALUES, ids=name_of)
def test_values_fit_the_gateway(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    service = of_kind("Service")
    (http,) = (each["port"] for each in service["spec"]["ports"] if each["name"] == "http")
    assert values["hub"]["services"]["ssh"]["url"] == f"http://{service['metadata']['name']}:{http}"
    (role,) = values["hub"]["loadRoles"].values()
    assert role == {"services": ["ssh"], "scopes": SCOPES}
    (ingress,) = values["singleuser"]["networkPolicy"]["ingress"]
    assert [each["port"] for each in ingress["ports"]] == [PORT]
    (egress,) = values["singleuser"]["networkPolicy"]["egress"]
    assert [each["port"] for each in egress["ports"]] == [http]
    for rule in (ingress["from"], egress["to"]):
        assert rule == [{"podSelector": {"matchLabels": GATEWAY}}]
    (volume,) = values["hub"]["extraVolumes"]
    assert volume["configMap"] == {"name": "jhssh-user-ca"}, "the public half alone"
    assert "jhssh-gateway-keys" not in path.read_text()


def test_rules_of_the_values_are_valid_in_z2jhs_policy() -> None:
    policy = yaml.safe_load((FOLDER / "values.yaml").read_text())["singleuser"]["networkPolicy"]
    manifest = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "singleuser"},
        "spec": {"podSelector": {}, "ingress": policy["ingress"], "egress": policy["egress"]},
    }
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_gateways_configuration_is_python_and_names_settings_that_exist() -> None:
    text = of_kind("ConfigMap")["data"]["gateway_config.py"]
    named = [
        node.targets[0].attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
    ]
    assert named
    assert set(named) <= set(Gateway.class_traits(config=True))
    settings = {line.split("  #")[0] for line in text.splitlines()}
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert f"c.Gateway.ssh_port = {ports['ssh']}" in settings
    assert f"c.Gateway.http_port = {ports['http']}" in settings


def container() -> dict[str, Any]:
    (found,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_the_gateway_meets_the_restricted_pod_security_standard_and_has_no_token() -> None:
    spec = of_kind("Deployment")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container()["securityContext"]["allowPrivilegeEscalation"] is False
    assert not [each for each in documents(FOLDER / "gateway.yaml") if "Role" in each["kind"]]


def test_gateways_egress_reaches_pods_with_a_sidecar_alone() -> None:
    rules = of_kind("NetworkPolicy")["spec"]["egress"]
    (rule,) = (each for each in rules if {"port": PORT} in each["ports"])
    assert rule["to"][0]["podSelector"]["matchLabels"]["jhssh/enabled"] == "true"


def test_traefik_forwards_what_its_service_opens() -> None:
    proxy = yaml.safe_load((FOLDER / "expose/traefik-autohttps.values.yaml").read_text())["proxy"]
    traefik = proxy["traefik"]
    names = {each["name"] for each in traefik["extraPorts"]}
    assert {each["targetPort"] for each in proxy["service"]["extraPorts"]} <= names
    assert names <= set(traefik["networkPolicy"]["allowedIngressPorts"])
    (entry,) = traefik["extraStaticConfig"]["entryPoints"]
    tcp = traefik["extraDynamicConfig"]["tcp"]
    (router,) = tcp["routers"].values()
    assert router["entryPoints"] == [entry]
    servers = tcp["services"][router["service"]]["loadBalancer"]["servers"]
    assert servers == [{"address": "jhssh-gateway:2222"}]


def test_nginx_forwards_to_the_gateways_service() -> None:
    chart = yaml.safe_load((FOLDER / "expose/ingress-nginx.values.yaml").read_text())["tcp"]
    (plain,) = documents(FOLDER / "expose/ingress-nginx.yaml")
    assert chart == plain["data"]
    ports = {each["port"] for each in of_kind("Service")["spec"]["ports"]}
    for target in chart.values():
        namespace_and_name, _, port = target.partition(":")
        assert namespace_and_name.endswith("/jhssh-gateway")
        assert int(port) in ports


KUBECTL = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$LOG"
case "$*" in
    *"get secret"*jsonpath*) base64 "$KEPT/user_ca" ;;
    *"get secret"*) [ -e "$LOG.exists" ] ;;
    *"get configmap"*) [ -e "$KEPT/user_ca.pub" ] ;;
    *"create "*) for a in "$@"; do case $a in --from-file=*) cp "${a#--from-file=}" "$KEPT/" ;; esac; done ;;
esac
"""


def make_keys(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "kept").mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    kubectl = folder / "bin" / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o700)
    environment = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "LOG": str(folder / "log"),
        "KEPT": str(folder / "kept"),
        "TMPDIR": str(folder / "tmp"),
    }
    return subprocess.run(
        [str(FOLDER / "make-keys"), *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_one_command_makes_the_keys_and_leaves_none_behind(tmp_path: Path) -> None:
    done = make_keys(tmp_path, "-n", "jhub")
    assert done.returncode == 0, done.stderr
    assert "SHA256:" in done.stdout
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"host_key", "host_key.pub", "user_ca", "user_ca.pub"}
    assert list((tmp_path / "tmp").iterdir()) == []
    _, secret, config_map = (tmp_path / "log").read_text().splitlines()
    assert secret.startswith("-n jhub create secret generic jhssh-gateway-keys ")
    assert config_map.startswith("-n jhub create configmap jhssh-user-ca ")
    assert "user_ca.pub" in config_map
    assert config_map.count("--from-file") == 1
    names = {each["name"] for each in of_kind("Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert names == {"config", "keys"}
    assert stat.S_IMODE((FOLDER / "make-keys").stat().st_mode) & stat.S_IXUSR


def test_keys_that_are_there_stay(tmp_path: Path) -> None:
    (tmp_path / "log.exists").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "user_ca.pub").touch()
    done = make_keys(tmp_path)
    assert done.returncode == 1
    assert "already" in done.stderr
    assert "create" not in (tmp_path / "log").read_text()


def test_a_run_that_got_half_way_can_be_repeated(tmp_path: Path) -> None:
    assert make_keys(tmp_path).returncode == 0
    kept = {path.name: path.read_text() for path in (tmp_path / "kept").iterdir()}
    (tmp_path / "kept" / "user_ca.pub").unlink()
    (tmp_path / "log.exists").touch()
    (tmp_path / "log").unlink()
    done = make_keys(tmp_path, "-n", "jhub")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kept" / "user_ca.pub").read_text().split()[:2] == kept["user_ca.pub"].split()[:2]
    assert [line for line in (tmp_path / "log").read_text().splitlines() if "create" in line] == [
        line for line in (tmp_path / "log").read_text().splitlines() if "create configmap jhssh-user-ca" in line
    ]
    assert list((tmp_path / "tmp").iterdir()) == []
