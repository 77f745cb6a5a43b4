"""The user owns the home, the agent and the shared folders; the sidecar must not become theirs."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conformance.client import Client, pipe
from ..conformance.sockets import reachable
from ..conformance.targets import keygen
from ..conformance.waiting import wait_for
from .pod import Pod

RUN_BY_SHELLS = (".bashrc", ".bash_profile", ".profile", ".bash_login", ".bash_logout", ".zshenv", ".dashrc", ".shrc")


@pytest.fixture
def home(shared_pod: Pod) -> Iterator[Path]:
    """Full of files that say in which container they were run."""
    ran = shared_pod.home / "ran"
    made = [shared_pod.home / name for name in (*RUN_BY_SHELLS, ".ssh/rc", "sitecustomize.py", "usercustomize.py", "json.py")]
    for path in made:
        path.parent.mkdir(exist_ok=True)
        python = f"import os; open({str(ran)!r}, 'a').write(os.readlink('/proc/self/ns/pid'))\n"
        path.write_text(python if path.suffix == ".py" else f"readlink /proc/self/ns/pid >>'{ran}'\n")
        path.chmod(0o755)
    environment = shared_pod.home / ".ssh/environment"
    environment.write_text(f"BASH_ENV={shared_pod.home}/.bashrc\nENV={shared_pod.home}/.shrc\nPYTHONPATH={shared_pod.home}\n")
    yield shared_pod.home
    for path in (*made, environment, ran):
        path.unlink(missing_ok=True)


@pytest.mark.slow
def test_no_file_of_the_users_runs_beside_sshd(client: Client, shared_pod: Pod, home: Path) -> None:
    for command, options in (("true", ["-T"]), ("true", ["-tt"]), ("sftp", ["-s"])):
        client.run(command, *options)
    shell = client.start(None, "-tt")
    pipe(shell.stdin).write(b"exit\n")
    pipe(shell.stdin).flush()
    assert shell.wait(60) == 0
    sidecar = str(Path(f"/proc/{shared_pod.sidecar.first}/ns/pid").readlink())
    ran = (home / "ran").read_text()  # the login shell over there reads the user's files, as it should
    assert sidecar not in ran
    assert str(Path(f"/proc/{shared_pod.notebook.first}/ns/pid").readlink()) in ran


def test_variables_that_steer_programs_are_not_taken_from_the_client(client: Client, home: Path) -> None:
    names = {name: str(home / ".bashrc") for name in ("BASH_ENV", "ENV", "LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "JHSSH_X")}
    options = ["-o", f"SendEnv={' '.join(names)}", "-o", "SetEnv=BASH_ENV=x PYTHONPATH=y"]
    found = client.run("env", *options, env={**names, "LD_PRELOAD": ""}).stdout.decode()
    assert not [name for name in names if f"{name}=" in found]


def test_only_the_gateways_certificate_for_this_server_opens_it(client: Client, shared_pod: Pod, tmp_path: Path) -> None:
    (shared_pod.home / ".ssh").mkdir(exist_ok=True)
    for name, principals in (("other", ["-n", "f" * 64]), ("none", []), ("plain", None)):
        key = tmp_path / name
        keygen("-t", "ed25519", "-N", "", "-f", key)
        if principals is not None:
            keygen("-s", shared_pod.keys.folder / "user_ca", "-I", name, *principals, key.with_suffix(".pub"))
        (shared_pod.home / ".ssh" / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
        result = client.run(
            "true", "-o", f"IdentityFile={key}", "-o", "IdentitiesOnly=yes", "-F", str(_without_identity(client, tmp_path))
        )
        assert (result.returncode, b"Permission denied" in result.stderr) == (255, True), name


def _without_identity(client: Client, folder: Path) -> Path:
    text = client.target.ssh_config.read_text()
    path = folder / "config"
    path.write_text("\n".join(line for line in text.splitlines() if "IdentityFile" not in line))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["socket", "link", "folder", "pipe"])
def test_a_replaced_agent_socket_gets_a_sentence_and_can_be_put_right(
    own_pod: Pod, client_of: Callable[[Pod], Client], kind: str
) -> None:
    client, path = client_of(own_pod), own_pod.agent_socket
    path.unlink()
    with socket.socket(socket.AF_UNIX) as impostor:
        if kind == "socket":
            impostor.bind(str(path))
            impostor.listen(0)
        elif kind == "link":
            path.symlink_to(own_pod.state / "host_key")
        elif kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
        result = client.run("true", timeout=60)
        assert (result.returncode, result.stderr.startswith(b"jhssh: The session agent in your")) == (255, True), result.stderr
        if kind == "folder":
            path.rmdir()
        own_pod.start_agent()
    assert client.output("echo right", timeout=60) == "right\n"


@pytest.mark.slow
def test_links_in_shared_folders_lead_to_none_of_sshds_files(client: Client, shared_pod: Pod) -> None:
    """A client has sshd remove and bind Unix sockets where it likes: through a link, in sshd's own folder."""
    before = {path.name: path.read_bytes() for path in shared_pod.state.iterdir() if path.is_file() and not path.is_symlink()}
    link = shared_pod.volume / "user" / "elsewhere"
    link.symlink_to(shared_pod.state)
    try:
        for name in before:
            result = client.run("true", "-o", "ExitOnForwardFailure=yes", "-R", f"{link}/{name}:127.0.0.1:1")
            assert (result.returncode, b"forwarding failed" in result.stderr) == (255, True), result.stderr
    finally:
        link.unlink()
    assert {name: (shared_pod.state / name).read_bytes() for name in before} == before
    assert client.output("echo still") == "still\n"


def test_the_notebook_cannot_put_links_where_sshd_makes_its_sockets(shared_pod: Pod) -> None:
    for name in ("tmp", "lib"):
        result = shared_pod.notebook.run("ln", "-s", "/etc", str(shared_pod.volume / name / "link"))
        assert b"Read-only file system" in result.stderr


def test_a_unix_socket_where_the_sidecar_has_none_ends_that_connection_alone(client: Client, tmp_path: Path) -> None:
    here = client.folder / "here"
    client.start(None, "-N", "-L", f"{here}:/run/nothing.sock", stdin=subprocess.DEVNULL)
    wait_for(lambda: reachable(here), "-L listens")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(here))
        assert connection.recv(1) == b""
