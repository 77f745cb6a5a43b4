"""Clients other than OpenSSH's, through the gateway: each makes its key exchange, login and channels in its own way."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from jhssh_ext.gateway.web.ways_in import Door
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import parse_line

from .conftest import register_key
from .harness import processes
from .harness.hub import Hub
from .harness.processes import MARK, wait_until
from .harness.ssh import KeyPair, make_key

pytestmark = pytest.mark.slow
USER = "other-clients"
DATA = bytes(range(256)) * 4000


def program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name} ({package})")
    return path


@pytest.fixture(scope="module")
def key(hub6: Hub, tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    made = make_key(tmp_path_factory.mktemp("other-clients") / "id")
    hub6.start_server(USER)
    register_key(hub6, USER, made)
    return made


def port(hub: Hub) -> str:
    assert hub.gateway is not None
    return str(hub.gateway.ssh_port)


def call(hub: Hub, home: Path, *command: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), MARK: hub.mark}
    return subprocess.run(command, input=input, capture_output=True, timeout=60, env=environment, check=False)


def test_dropbear(hub6: Hub, key: KeyPair, tmp_path: Path) -> None:
    """It sends a guessed first packet of the key exchange (RFC 4253, section 7)."""
    dbclient, convert = program("dbclient", "dropbear-bin"), program("dropbearconvert", "dropbear-bin")
    own = tmp_path / "id"
    assert call(hub6, tmp_path, convert, "openssh", "dropbear", str(key.private), str(own)).returncode == 0
    done = call(
        hub6, tmp_path, dbclient, "-y", "-y", "-i", str(own), "-p", port(hub6), f"{USER}@127.0.0.1", "wc -c; exit 8", input=DATA
    )
    assert (done.stdout.split(), done.returncode) == ([str(len(DATA)).encode()], 8), done


def test_putty(hub6: Hub, key: KeyPair, tmp_path: Path) -> None:
    plink, psftp = program("plink", "putty-tools"), program("psftp", "putty-tools")
    assert hub6.gateway is not None
    fingerprint = parse_line(hub6.gateway.host_key).fingerprint
    # It prefers the browser to a password that it was given; a saved session says otherwise.
    sessions = tmp_path / ".putty/sessions"
    sessions.mkdir(parents=True)
    (sessions / "token").write_text("AuthKI=0\nProtocol=ssh\n")
    options = ["-load", "token", "-batch", "-P", port(hub6), "-pw", hub6.token(USER), "-hostkey", fingerprint]
    login = [*options, f"{USER}@127.0.0.1"]
    done = call(hub6, tmp_path, plink, *login, "wc -c; exit 6", input=DATA)
    assert (done.stdout.split(), done.returncode) == ([str(len(DATA)).encode()], 6), done
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(DATA)
    batch = f"put {sent} putty\nget putty {back}\nquit\n"
    assert call(hub6, tmp_path, psftp, *login, input=batch.encode()).returncode == 0
    assert back.read_bytes() == DATA


@pytest.fixture
def paramiko_client(hub6: Hub, key: KeyPair) -> Iterator[paramiko.SSHClient]:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", int(port(hub6)), USER, key_filename=str(key.private), allow_agent=False, look_for_keys=False)
    yield client
    client.close()


def test_paramiko(paramiko_client: paramiko.SSHClient, tmp_path: Path) -> None:
    transport = paramiko_client.get_transport()
    assert transport is not None
    transport.set_keepalive(1)
    stdin, stdout, stderr = paramiko_client.exec_command("sha256sum; echo err >&2; exit 5")
    stdin.write(DATA)
    stdin.channel.shutdown_write()
    assert stdout.read().split()[0].decode() == hashlib.sha256(DATA).hexdigest()
    assert (stderr.read(), stdout.channel.recv_exit_status()) == (b"err\n", 5)
    with paramiko_client.open_sftp() as sftp:
        (tmp_path / "sent").write_bytes(DATA)
        sftp.put(str(tmp_path / "sent"), "paramiko")
        sftp.get("paramiko", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == DATA
    assert transport.request_port_forward("", 0) > 0


def test_openssh_by_websocat_as_the_page_says(hub6: Hub, key: KeyPair, tmp_path: Path) -> None:
    """The command and the block of configuration that are shown where the gateway's port is closed."""
    assert hub6.gateway is not None
    venv = Path(sys.executable).parent
    host_key = parse_line(hub6.gateway.host_key)
    tunnel = hub6.url.replace("http", "ws", 1) + "/services/ssh/tunnel"
    door = Door("hub.example.org", 22, host_key, "+", published=False, tunnel=tunnel)
    way = door.way_to(UserServer(USER))
    assert way is not None
    (tmp_path / "known_hosts").write_text(door.known_hosts + "\n")
    common = f"IdentityFile {key.private}\nIdentitiesOnly yes\nIdentityAgent none\nBatchMode yes\nStrictHostKeyChecking yes\n"
    common += f"UserKnownHostsFile {tmp_path / 'known_hosts'}\n"
    (tmp_path / "config").write_text(common + way.config)
    environment = {"PATH": f"{venv}:/usr/bin:/bin", "HOME": str(tmp_path), MARK: hub6.mark}
    for typed in (way.through_tunnel, f"ssh {way.alias}"):
        ssh, *arguments = shlex.split(typed)
        command = [ssh, "-F", str(tmp_path / "config"), *arguments, "tee copy | sha256sum; head -c 5000000 /dev/zero; exit 3"]
        done = subprocess.run(command, input=DATA, capture_output=True, timeout=90, env=environment, check=False)
        assert done.returncode == 3, done.stderr
        digest, _, zeros = done.stdout.partition(b"  -\n")
        assert digest.decode() == hashlib.sha256(DATA).hexdigest()
        assert zeros == bytes(5_000_000)
        wait_until(lambda: not any("websocat" in " ".join(processes.arguments(each)[:2]) for each in hub6.processes()))
