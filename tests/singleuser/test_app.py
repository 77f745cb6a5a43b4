from __future__ import annotations

import http.server
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from jhssh_ext import __version__
from jhssh_ext.public_keys import parse_line
from jhssh_ext.singleuser.app import JHSSHExtension, gateway_path

from ..harness.processes import arguments, descendants, free_port, marked, sleeping, wait_until
from .keys import new_line
from .servers import Credentials, JupyterServer, jupyter_server, ssh, ssh_command

pytestmark = pytest.mark.slow


def listeners(server: JupyterServer) -> list[psutil.Process]:
    """The processes that accept SSH connections, of either kind."""
    return [child for child in descendants(server.process.pid) if "--fd" in arguments(child)]


def test_status_says_how_to_connect(server: JupyterServer, credentials: Credentials) -> None:
    status, found = server.json("GET", "jhssh/status")
    assert status == 200
    assert (found["enabled"], found["can_be_enabled"]) == (True, False)
    assert found["sshd"]["state"] == "running"
    assert found["sshd"]["implementation"] in ("openssh", "asyncssh")
    assert [key.split()[:2] for key in found["sshd"]["host_keys"]] == [
        (credentials.folder / "host_key.pub").read_text().split()[:2]
    ]
    gateway_key = parse_line(credentials.environment(1).gateway_host_key)
    assert found["connect"] == {
        "host": "hub.example.org",
        "port": 2222,
        "login_name": "alice",
        "host_key": " ".join(gateway_key.line.split()[:2]),
        "host_key_fingerprint": gateway_key.fingerprint,
        "gateway_path": "",
        "tunnel_url": "",
    }
    assert found["version"] == __version__


def test_a_session_has_the_environment_folder_and_shell_of_the_server(server: JupyterServer, credentials: Credentials) -> None:
    program = "import json, os; print(json.dumps([dict(os.environ), os.getcwd()]))"
    answer = ssh(credentials, server.ssh_port, f"{sys.executable} -c '{program}'")
    assert answer.returncode == 0, answer.stderr
    environment, folder = json.loads(answer.stdout)
    of_server = psutil.Process(server.process.pid).environ()
    for name in ("SSH_CLIENT", "SSH_CONNECTION", "JUPYTER_SERVER_ROOT", "JUPYTER_SERVER_URL"):
        assert environment[name]
    of_the_shell = ("PWD", "OLDPWD", "SHLVL", "PS1", "_")  # bash sets or drops them
    wanted = {name for name in of_server if not name.startswith("JHSSH_") and name not in of_the_shell}
    assert {name: environment.get(name) for name in wanted} == {name: of_server[name] for name in wanted}
    assert not [name for name in environment if name.startswith("JHSSH_")]
    assert folder == str(server.home)


def test_kernels_and_the_server_itself_do_not_keep_the_secrets(server: JupyterServer) -> None:
    # A process that the server starts inherits what os.environ holds: sshd's listener is one.
    children = listeners(server)
    assert children
    for child in children:
        assert not [name for name in child.environ() if name.startswith("JHSSH_")]


def test_without_a_hub_it_loads_and_says_that_ssh_is_off(tmp_path: Path) -> None:
    with jupyter_server(tmp_path, None) as running:
        status, found = running.json("GET", "jhssh/status")
        assert (status, found["enabled"], found["sshd"]["state"]) == (200, False, "off")
        assert found["sshd"]["reason"]
        assert running.json("GET", "publickey") == (200, {"keys": [], "ignored": []})


def test_a_port_clash_is_told_and_outlasted(tmp_path: Path, credentials: Credentials) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with jupyter_server(tmp_path, credentials.environment(port)) as running:
            found = running.wait_for_sshd("failed")
            assert str(port) in found["reason"]
            other.close()
            assert "reason" not in running.wait_for_sshd()
            assert ssh(credentials, port, "exit 5").returncode == 5


def test_an_sshd_that_can_not_start_leaves_the_server_alone(tmp_path: Path, credentials: Credentials) -> None:
    given = credentials.environment(free_port(), host_key="no key")
    with jupyter_server(tmp_path, given) as running:
        assert "host key" in running.wait_for_sshd("failed")["reason"]
        assert running.json("GET", "publickey")[0] == 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_with_the_server_everything_ends_but_what_left_its_session(
    tmp_path: Path, credentials: Credentials, how: signal.Signals
) -> None:
    with jupyter_server(tmp_path, credentials.environment(free_port())) as running:
        running.wait_for_sshd()
        command = "setsid sleep 987 & nohup sleep 986 >/dev/null 2>&1 & sleep 985 & timeout 984 sleep 983"
        client = subprocess.Popen(
            ssh_command(credentials, running.ssh_port, command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        terminal = subprocess.Popen(
            ssh_command(credentials, running.ssh_port, "-tt", "sleep 982"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: sleeping(running.mark) == {"987", "986", "985", "983", "982"}, what="the commands")
            os.kill(running.process.pid, how)
            running.process.wait(60)
            wait_until(lambda: sleeping(running.mark) == {"987", "986"}, what="the end of what was attached")
            assert client.wait(60) == 255
            assert terminal.wait(60) == 255
            wait_until(
                lambda: {name for each in marked(running.mark) for name in arguments(each)[:1]} == {"sleep"},
                what="the end of sshd and its helpers",
            )
            assert list((tmp_path / "tmp").glob("jhssh-*")) == []
        finally:
            for process in (client, terminal):
                process.kill()
                process.wait()
            assert terminal.stdin is not None
            terminal.stdin.close()


def test_a_dead_sshd_is_started_anew(tmp_path: Path, credentials: Credentials) -> None:
    with jupyter_server(tmp_path, credentials.environment(free_port())) as running:
        running.wait_for_sshd()
        (first,) = listeners(running)
        first.kill()
        wait_until(lambda: [child for child in listeners(running) if child.pid != first.pid], what="another sshd")
        running.wait_for_sshd()
        assert ssh(credentials, running.ssh_port, "exit 6").returncode == 6


def test_the_gateway_is_told_at_start_and_of_each_change_however_made(tmp_path: Path, credentials: Credentials) -> None:
    told: queue.Queue[tuple[str, str, bytes]] = queue.Queue()

    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.put((self.path, self.headers["Authorization"], body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not to the test's output."""

    hub = {"JUPYTERHUB_USER": "alice", "JUPYTERHUB_SERVER_NAME": "gpu", "JUPYTERHUB_API_TOKEN": "of-the-server"}
    with http.server.HTTPServer(("127.0.0.1", 0), Gateway) as gateway:
        thread = threading.Thread(target=gateway.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{gateway.server_address[1]}/services/ssh/"
            with jupyter_server(tmp_path, credentials.environment(free_port(), gateway_url=url), environ=hub) as running:
                path, authorization, body = told.get(timeout=20)
                assert (path, authorization) == ("/services/ssh/api/keys-changed", "token of-the-server")
                assert json.loads(body) == {"user": "alice", "server": "gpu"}
                store = running.home / ".ssh" / "jhssh_authorized_keys"
                store.parent.mkdir(mode=0o700)
                store.write_text(new_line("by hand") + "\n")
                assert told.get(timeout=20)
                (running.home / ".ssh" / "authorized_keys").write_text(new_line("by hand") + "\n")
                assert told.get(timeout=20)
        finally:
            gateway.shutdown()
            thread.join()


def test_every_setting_has_help() -> None:
    own = JHSSHExtension.class_own_traits(config=True)
    assert {"key_store", "authorized_keys", "max_keys", "implementation", "sftp", "watch_interval"} <= set(own)
    assert all(trait.help for trait in own.values())


def test_importing_the_extension_is_cheap() -> None:
    program = (
        "import sys, jupyter_server.extension.application; before = set(sys.modules); import jhssh_ext.singleuser.app\n"
        "print([m for m in ('cryptography', 'asyncssh', 'jwt', 'jupyterhub') if m in set(sys.modules) - before])"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", ""),
        ("http://10.0.0.7:8080/services/ssh/", "/services/ssh/"),
        ("http://127.0.0.1:9999/base/services/gate/", "/base/services/gate/"),
        ("https://gateway.example.org/", ""),
        ("https://gateway.example.org/ssh/", ""),
    ],
)
def test_the_page_of_a_service_is_at_the_hub(url: str, path: str) -> None:
    assert gateway_path(url) == path
