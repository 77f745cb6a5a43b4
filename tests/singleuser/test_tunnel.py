"""/jhssh/tunnel of a real Jupyter server: who gets in, and what they reach."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import websocket

from jhssh_ext.payloads import ServerEnvironment
from jhssh_ext.signed_http import sign_request
from jhssh_ext.singleuser.sshd import ASYNCSSH, OPENSSH
from jhssh_ext.singleuser.tunnel_ends import SWITCHED_OFF
from jhssh_ext.tunnel import MAX_FRAME

from ..harness.processes import arguments, descendants, free_port, sleeping, wait_until
from .servers import AUDIENCE_ID, SECRET, TOKEN, Credentials, JupyterServer, jupyter_server, keygen
from .test_handlers import PROVIDER
from .tunnels import OWNER, PATH, opened, refusal, ssh, ssh_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[OPENSSH, ASYNCSSH])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A Jupyter server without Hub and gateway."""
    option = f"--JHSSHExtension.implementation={request.param}"
    with jupyter_server(tmp_path_factory.mktemp("alone"), None, option, "--JHSSHExtension.tunnel_ping_interval=0.2") as running:
        yield running


@pytest.fixture
def mine(alone: JupyterServer, tmp_path: Path) -> Path:
    """Folder with a key that is registered."""
    keygen(tmp_path / "id")
    assert alone.post((tmp_path / "id.pub").read_text())[0] == 201
    return tmp_path


def listeners(server: JupyterServer) -> int:
    return sum("--fd" in arguments(child) for child in descendants(server.process.pid))


def signed(path: str = PATH, secret: str = SECRET, audience: str = AUDIENCE_ID) -> dict[str, str]:
    return {"Authorization": f"JHSSH {sign_request(secret, audience, 'GET', path)[0]}"}


def test_with_neither_hub_nor_gateway_a_registered_key_gets_in(alone: JupyterServer, mine: Path) -> None:
    before = alone.json("GET", "jhssh/status")[1]
    assert (before["enabled"], before["tunnel"]["enabled"]) == (False, True)
    answer = ssh(alone, mine, "cat; echo $JUPYTER_SERVER_ROOT; exit 7", input=b"sent\n")
    assert (answer.returncode, answer.stdout.decode(), answer.stderr) == (7, f"sent\n{alone.home}\n", b"")
    keygen(mine / "other")
    (mine / "other").replace(mine / "id")
    refused = ssh(alone, mine, "true")
    assert refused.returncode == 255
    assert b"Permission denied" in refused.stderr


def test_files_go_through_whole(alone: JupyterServer, mine: Path) -> None:
    data = bytes(range(256)) * 40_000
    (mine / "up").write_bytes(data)
    answer = ssh(alone, mine, program="sftp", input=f"put {mine}/up {mine}/there\nget {mine}/there {mine}/back\n".encode())
    assert answer.returncode == 0, answer.stderr
    assert (mine / "back").read_bytes() == data


def test_a_tunnel_that_is_cut_ends_its_session(alone: JupyterServer, mine: Path) -> None:
    client = subprocess.Popen(ssh_command(alone, mine, "sleep 911"), stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: "911" in sleeping(alone.mark))
    finally:
        client.kill()
        client.wait()
    wait_until(lambda: "911" not in sleeping(alone.mark))


def test_only_a_token_in_the_header_opens_it(alone: JupyterServer) -> None:
    _, headers, _ = alone.request("GET", f"tree?token={TOKEN}", headers={})
    cookie = {"Cookie": "; ".join(each.split(";")[0] for each in headers.get_all("Set-Cookie") or [])}
    assert alone.request("GET", "publickey", headers=cookie)[0] == 200  # elsewhere it is good
    for name, (given, more) in {
        "nothing": ({}, {}),
        "another token": ({"Authorization": "token wrong"}, {}),
        "another scheme": ({"Authorization": f"Basic {TOKEN}"}, {}),
        "a cookie": (cookie, {}),
        "a cookie beside a wrong token": (cookie | {"Authorization": "token wrong"}, {}),
        "a token in the address": ({}, {"query": f"?token={TOKEN}"}),
        "both": (OWNER, {"query": f"?token={TOKEN}"}),
        "a wrong one beside a right one": ({"Authorization": "token wrong"}, {"query": f"?token={TOKEN}"}),
        "a browser": (OWNER, {"origin": f"http://127.0.0.1:{alone.port}"}),
        "the gateway, where there is none": (signed(secret="6" * 64), {}),
    }.items():
        status, body = refusal(alone, given, **more)
        assert (status, json.loads(body)["code"]) == (403, "FORBIDDEN"), name
    assert refusal(alone, OWNER)[0] == 101
    assert refusal(alone, {"Authorization": f"Bearer {TOKEN}"})[0] == 101


def test_what_is_no_websocket_is_refused(alone: JupyterServer) -> None:
    assert alone.request("GET", "jhssh/tunnel")[0] == 400
    assert alone.request("GET", "jhssh/tunnel", headers={})[0] == 403
    assert alone.request("POST", "jhssh/tunnel", b"")[0] == 405


def test_a_message_over_the_maximum_ends_it(alone: JupyterServer) -> None:
    with opened(alone, OWNER) as ws:
        assert ws.recv().startswith(b"SSH-2.0-")
        ws.send_binary(b"x" * (MAX_FRAME + 1))
        frame = ws.recv_frame()
        while frame.opcode != websocket.ABNF.OPCODE_CLOSE:
            frame = ws.recv_frame()
        assert int.from_bytes(frame.data[:2], "big") == 1009


def test_who_cannot_answer_pings_for_a_while_stays(alone: JupyterServer) -> None:
    with opened(alone, OWNER) as ws:
        assert ws.recv().startswith(b"SSH-2.0-")
        for _ in range(6):
            assert ws.recv_frame().opcode == websocket.ABNF.OPCODE_PING
        ws.send_binary(b"SSH-2.0-stopped_for_a_while\r\n")
        while (frame := ws.recv_frame()).opcode == websocket.ABNF.OPCODE_PING:
            pass
        assert frame.opcode == websocket.ABNF.OPCODE_BINARY  # sshd's KEXINIT


def test_what_goes_through_is_activity(alone: JupyterServer, mine: Path) -> None:
    def last() -> str:
        activity: str = alone.json("GET", "api/status?no_track_activity=1")[1]["last_activity"]
        return activity

    before = last()
    assert ssh(alone, mine, "true").returncode == 0
    assert last() > before


@pytest.fixture(scope="module")
def ordered(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A server for which a Hub ordered an sshd; its owner is alice, and so is whoever says so."""
    folder = tmp_path_factory.mktemp("ordered")
    (folder / "config.py").write_text(PROVIDER)
    option = f"--config={folder / 'config.py'}"
    with jupyter_server(folder, credentials.environment(free_port()), option, environ={"JUPYTERHUB_USER": "alice"}) as running:
        wait_until(lambda: running.json("GET", "jhssh/status", headers=ALICE)[1]["sshd"]["state"] == "running")
        yield running


ALICE = {"Authorization": "token alice"}


def test_the_gateway_reaches_the_sshd_that_the_hub_ordered(ordered: JupyterServer) -> None:
    with opened(ordered, signed()) as ws:
        assert ws.recv().startswith(b"SSH-2.0-")
        assert listeners(ordered) == 1


def test_a_signed_request_is_good_for_one_tunnel_and_nothing_else(ordered: JupyterServer) -> None:
    once = signed()
    assert refusal(ordered, once)[0] == 101
    for name, given in {
        "again": once,
        "for the keys": signed(path="/base/publickey"),
        "by another secret": signed(secret="6" * 64),
        "for another server": signed(audience="0" * 64),
        "from a browser": {**signed(), "Origin": "http://x"},
    }.items():
        assert refusal(ordered, given)[0] == 403, name
    assert ordered.request("GET", "publickey", headers=signed())[0] == 403


def test_that_of_the_gateway_is_no_activity(ordered: JupyterServer) -> None:
    def last() -> str:
        activity: str = ordered.json("GET", "api/status?no_track_activity=1", headers=ALICE)[1]["last_activity"]
        return activity

    before = last()
    with opened(ordered, signed()) as ws:
        ws.recv()
        ws.send_binary(b"SSH-2.0-test\r\n")
        assert ws.recv()
    assert last() == before


def test_others_than_the_owner_do_not_get_in(ordered: JupyterServer) -> None:
    for other in ("token bob", "bearer bob"):
        status, body = refusal(ordered, {"Authorization": other})
        assert (status, json.loads(body)["code"]) == (403, "POLICY_DENIED")


def test_where_sshd_does_not_run_it_is_said_so(tmp_path: Path, credentials: Credentials) -> None:
    with jupyter_server(tmp_path, credentials.environment(free_port(), host_key="no key")) as running:
        running.wait_for_sshd("failed")
        # its port is held meanwhile, but by nobody who answers
        (running.home / ".ssh" / "jhssh_host_ed25519_key").write_text("no key")
        status, body = refusal(running, OWNER)
        assert (status, json.loads(body)["code"]) == (503, "SERVER_UNREACHABLE")
        assert "can't be used" in json.loads(body)["message"]


def test_where_a_sidecar_runs_sshd_that_is_what_the_gateway_reaches(tmp_path: Path, credentials: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sidecar:
        port = sidecar.getsockname()[1]
        given = replace(
            credentials.environment(port), sshd="sidecar", public_host_key="ssh-ed25519 AAAA", listen_address="0.0.0.0"
        )
        with jupyter_server(tmp_path, given) as running:
            with opened(running, signed()) as ws:
                sidecar.settimeout(20)
                there, _ = sidecar.accept()
                with there:
                    there.sendall(b"SSH-2.0-sidecar\r\n")
                    assert ws.recv() == b"SSH-2.0-sidecar\r\n"
            sidecar.close()
            status, body = refusal(running, signed())
            assert (status, json.loads(body)["code"]) == (503, "SERVER_UNREACHABLE")


@pytest.mark.parametrize("by", ["the Hub", "a setting"])
def test_where_it_is_off_nobody_gets_in_and_the_status_says_why(tmp_path: Path, credentials: Credentials, by: str) -> None:
    reason = "SSH is off for this server." if by == "the Hub" else SWITCHED_OFF
    given = ServerEnvironment(False, disabled_because=reason) if by == "the Hub" else credentials.environment(free_port())
    options = [] if by == "the Hub" else ["--JHSSHExtension.tunnel=False"]
    with jupyter_server(tmp_path, given, *options) as running:
        told = running.json("GET", "jhssh/status")[1]["tunnel"]
        assert told == {"enabled": False, "reason": reason, "user": "", "host_keys": []}
        status, body = refusal(running, OWNER)
        assert (status, json.loads(body)) == (403, {"message": reason, "code": "SSH_NOT_ENABLED"})
        if by == "a setting":
            assert json.loads(refusal(running, signed())[1])["code"] == "SSH_NOT_ENABLED"
        assert not (running.home / ".ssh" / "jhssh_host_ed25519_key").exists()
