"""The distribution `jhssh`: the command alone, with next to nothing beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import register_key
from .harness.hub import ROOT, Hub
from .harness.packages import Environment
from .harness.processes import free_port
from .harness.ssh import KeyPair, SSHClient
from .tunnel.ways import tunnel_url

pytestmark = pytest.mark.slow
FEW = 15
"""distributions: keyring, and what that has in tow on Linux (SecretStorage, jeepney, cryptography …)"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT / "command")]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def computer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment.make(tmp_path_factory.mktemp("computer") / "environment")
    made.install(wheel)
    return made


def test_it_is_the_command_and_what_that_imports(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith("jhssh-")}
    shared = {"__init__", "errors", "identifiers", "login_names", "public_keys"}
    client = {path.name for path in (ROOT / "jhssh_ext/client").glob("*.py")}
    assert names == {"jhssh/LICENSE"} | {f"jhssh/{name}.py" for name in shared} | {f"jhssh/client/{name}" for name in client}


def test_little_comes_with_it(computer: Environment) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", computer.python, "list", "--format=json"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    names = {each["name"] for each in json.loads(listed.stdout)}
    assert {"jhssh", "keyring"} <= names
    assert len(names) <= FEW, names


def test_it_runs_without_jhssh_ext(computer: Environment) -> None:
    """Every part of it."""
    code = (
        "import importlib, pkgutil, jhssh.client as c; "
        "[importlib.import_module(m.name) for m in pkgutil.iter_modules(c.__path__, 'jhssh.client.') if 'main' not in m.name]"
    )
    subprocess.run([computer.python, "-c", code], check=True, timeout=60)
    assert computer.run("jhssh.client", "--version").startswith("jhssh ")


def test_ssh_goes_through_its_proxy(computer: Environment, hub6: Hub, a_key: KeyPair, tmp_path: Path) -> None:
    assert hub6.gateway is not None
    user = "command-user"
    hub6.start_server(user)
    register_key(hub6, user, a_key)
    program = computer.folder / "bin/jhssh"
    client = SSHClient(
        tmp_path / "ssh",
        port=free_port(),
        host_key=hub6.gateway.host_key,
        user=user,
        key=a_key,
        mark=hub6.mark,
        options=[f"ProxyCommand {program} proxy {tunnel_url(hub6)}"],
    )
    done = client.run("head -c 3000000 /dev/zero | sha256sum; cat", input=b"x" * 3_000_000)
    assert done.returncode == 0, done
    assert done.stdout.endswith(b"x" * 3_000_000)
