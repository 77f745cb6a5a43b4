"""What the doctor finds, each trouble by itself; everything else is well."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jhssh_ext.client import hubs

from ..fakes import gateway_api
from ..fakes.gateway_api import FakeGateway
from ..harness.processes import free_port, wait_until
from ..harness.ssh import make_key
from . import sshd
from .conftest import Laptop
from .ssh_port import speaking
from .sshd import SSHD

pytestmark = pytest.mark.slow
ALL = ["hub", "token", "default server", "port", "tunnel", "ssh configuration", "host key", "key", "login"]


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHD]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def well(logged_in: Laptop, fake: FakeGateway, ssh_server: SSHD) -> Laptop:
    """A computer from which all works, by the SSH port."""
    key = logged_in.key()
    ssh_server.authorized_keys.write_text(f"{key.public}\n")
    logged_in.ssh.joinpath("config").write_text(f'Host *\n    IdentityFile "{key.private}"\n    IdentitiesOnly yes\n')
    fake.servers = {"": fake.server("", ready=True, ssh=True, login_name=sshd.USER)}
    fake.connect |= {"host": "127.0.0.1", "port": ssh_server.port, "published": True, "host_keys": [ssh_server.host_key]}
    logged_in.good("keys", "add")
    logged_in.good("config", "--write")
    return logged_in


def findings(laptop: Laptop, status: int) -> dict[str, tuple[str, str, str]]:
    """check → status, message, advice."""
    done = laptop.run("doctor", "--json")
    assert done.status == status, done
    (found,) = json.loads(done.out).values()
    named = {}
    for each in found:
        check = "tunnel" if "tunnel" in each["check"] else "port" if "port" in each["check"] else each["check"]
        named[check] = (each["status"], each["message"], each["advice"])
    return named


def failed(found: dict[str, tuple[str, str, str]]) -> list[str]:
    return [check for check, (status, _, _) in found.items() if status == "failed"]


def test_all_is_well(well: Laptop) -> None:
    found = findings(well, 0)
    assert list(found) == ALL
    assert {check: status for check, (status, _, _) in found.items() if status != "ok"} == {"tunnel": "skipped"}
    shown = well.good("doctor")
    assert "  ok       login: ssh alice.hub works\n" in shown
    assert "\x1b" not in shown


def test_hub_down(laptop: Laptop) -> None:
    with gateway_api.running() as gone:
        laptop.log_in(gone)
    found = findings(laptop, 1)
    assert list(found) == ["hub"]
    assert found["hub"][0] == "failed"
    assert "Connection refused" in found["hub"][1]
    assert "its admin" in found["hub"][2]


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ((503, {"status": "failed", "cause": "no database\x1b[1m"}), "its SSH gateway is out of order: no database [1m"),
        ((404, None), "there is no SSH gateway"),
        ((403, None), "there is no SSH gateway"),
        ((503, None), "its SSH gateway does not answer (503)"),
        ((200, None), "answers with 200"),
        ((500, None), "answers with 500"),
    ],
)
def test_gateway_out_of_order(logged_in: Laptop, fake: FakeGateway, health: tuple[int, object], message: str) -> None:
    fake.health = health
    found = findings(logged_in, 1)
    assert list(found) == ["hub"]
    assert message in found["hub"][1]


@pytest.mark.parametrize(
    ("state", "message"), [("TOKEN_EXPIRED", "it has expired"), ("TOKEN_INVALID", "the hub does not take it (any more)")]
)
def test_token_that_is_no_longer_good(well: Laptop, fake: FakeGateway, state: str, message: str) -> None:
    fake.tokens = dict.fromkeys(fake.tokens, state)
    found = findings(well, 1)
    assert failed(found) == ["token"]
    assert found["token"][1:] == (message, f"jhssh login {fake.url}/ --name hub")
    assert found["host key"][0] == "ok"
    assert {found[check][0] for check in ("key", "servers", "login")} == {"skipped"}


def test_no_token_here(well: Laptop) -> None:
    (well.settings / "tokens.json").unlink()
    assert findings(well, 1)["token"][1] == "there is none here"


def test_token_that_expires_soon(well: Laptop, fake: FakeGateway) -> None:
    fake.expires = int(time.time()) + 86400
    found = findings(well, 0)
    assert found["token"][0] == "warning"
    assert "soon" in found["token"][1]


def test_key_that_is_not_registered(well: Laptop, fake: FakeGateway, ssh_server: SSHD, tmp_path: Path) -> None:
    (mine,) = fake.keys
    other = make_key(tmp_path / "other")
    well.good("keys", "add", f"{other.private}.pub")
    well.good("keys", "remove", mine)
    ssh_server.authorized_keys.write_text("")
    found = findings(well, 1)
    assert failed(found) == ["key", "login"]
    assert found["key"][1:] == ("no key of this computer is registered (1 of other computers are)", "jhssh keys add")
    assert found["login"][2] == ""


def test_no_key_at_all(well: Laptop) -> None:
    for path in well.ssh.glob("id_*"):
        path.unlink()
    found = findings(well, 1)
    assert failed(found) == ["key", "login"]
    assert found["key"][1] == "none was found on this computer"
    assert "ssh-keygen" in found["key"][2]


@pytest.mark.parametrize("file", ["work", "keys of %n/%p%%/work", "${KEYS_HERE}/work"])
def test_key_of_another_name(well: Laptop, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """Which the user's own configuration names, in ssh's own ways."""
    monkeypatch.setenv("KEYS_HERE", str(well.ssh / "keys here"))
    meant = (
        file.replace("%n", "alice.hub")
        .replace("%p", str(hubs.choose().ssh_port))
        .replace("%%", "%")
        .replace("${KEYS_HERE}", "keys here")
    )
    (well.ssh / meant).parent.mkdir(parents=True, exist_ok=True)
    for path in list(well.ssh.glob("id_*")):
        path.rename((well.ssh / meant).with_suffix(path.suffix))
    name = file if file.startswith("$") else f"{well.ssh}/{file}"
    configure(well, f'IdentityFile "{name}"')
    found = findings(well, 0)
    assert found["key"][0] == found["login"][0] == "ok"
    assert "is registered" in found["key"][1]


def configure(laptop: Laptop, *lines: str) -> None:
    """The user's own ssh configuration, in which nothing else is about keys."""
    (laptop.ssh / "config").write_text("\n".join(["Host *", *lines, "IdentitiesOnly no", ""]))
    laptop.good("config", "--write")


def test_key_that_only_ssh_finds(well: Laptop) -> None:
    """A private one whose public half is in no file of its own."""
    (well.ssh / "id_ed25519.pub").unlink()
    found = findings(well, 0)
    assert found["key"][:2] == ("ok", "one that ssh comes by in its own way is good")
    assert found["login"][0] == "ok"


@pytest.fixture
def agent(well: Laptop) -> Iterator[str]:
    """The socket of one that has the key, which is in no file any more."""
    with tempfile.TemporaryDirectory(prefix="jhssh test ") as folder:  # a socket's path must be short
        path = f"{folder}/agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: Path(path).exists())
            environment = {**os.environ, "SSH_AUTH_SOCK": path}
            subprocess.run(["ssh-add", "-q", well.ssh / "id_ed25519"], env=environment, check=True, timeout=30)
            for file in well.ssh.glob("id_*"):
                file.unlink()
            yield path
            process.terminate()


def test_key_of_another_agent(well: Laptop, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a password manager: the environment names none, or an empty one."""
    configure(well, "IdentityFile none", f'IdentityAgent "{agent}"')
    found = findings(well, 0)
    assert "is registered" in found["key"][1]
    assert found["login"][0] == "ok"
    monkeypatch.setenv("MY_AGENT", agent)
    configure(well, "IdentityFile none", "IdentityAgent $MY_AGENT")
    assert "is registered" in findings(well, 0)["key"][1]
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    configure(well, "IdentityFile none", "IdentityAgent none")
    assert failed(findings(well, 1)) == ["key", "login"]


def test_key_file_of_nobody(well: Laptop) -> None:
    configure(well, "IdentityFile ~nobody-of-that-name/key")
    found = findings(well, 1)
    assert failed(found) == ["host key"]
    assert "No such user" in found["host key"][1]


def test_ssh_off(well: Laptop, fake: FakeGateway) -> None:
    fake.servers[""]["ssh"] = False
    found = findings(well, 1)
    assert failed(found) == ["default server"]
    assert found["default server"][1] == "running, and SSH is off for it"
    assert "Enable SSH access" in found["default server"][2]
    assert found["login"][0] == "skipped"


def test_stopped_starting_and_failed_servers(well: Laptop, fake: FakeGateway) -> None:
    fake.servers[""] |= {"ready": False, "ssh": None}
    fake.servers["a"] = fake.server("a", pending="spawn")
    fake.servers["b"] = fake.server("b", message="no room")
    found = findings(well, 0)
    assert found["default server"][:2] == ("ok", "stopped; a login starts it")
    assert found["server a"][:2] == ("ok", "starting")
    assert found["server b"][:2] == ("warning", "stopped; its last start failed: no room")
    assert found["login"][:2] == ("skipped", "no server runs that takes SSH")


def test_port_closed(well: Laptop, fake: FakeGateway) -> None:
    fake.connect["port"] = free_port()
    found = findings(well, 1)
    assert failed(found) == ["port"]
    assert "another network" in found["port"][2]
    assert found["host key"][0] == found["login"][0] == "skipped"


def test_port_closed_and_a_tunnel_to_go_through(well: Laptop, fake: FakeGateway) -> None:
    fake.connect |= {"port": free_port(), "tunnel": fake.url.replace("http", "ws") + "/services/ssh/tunnel"}
    fake.answers["tunnel"] = (404, b'{"message": "There is no tunnel here."}', {})
    found = findings(well, 1)
    assert failed(found) == ["port", "tunnel"]
    assert found["tunnel"][1] == "There is no tunnel here."
    assert found["port"][2].startswith("jhssh config --write")
    well.good("config", "--write")
    assert findings(well, 1)["port"][0] == "warning"


def test_another_service_at_the_port(well: Laptop, fake: FakeGateway) -> None:
    with speaking(b"HTTP/1.1 302 Found\r\n\r\n") as portal:
        fake.connect["port"] = portal
        assert failed(findings(well, 1)) == ["port"]


def test_wrong_host_key(well: Laptop, fake: FakeGateway, tmp_path: Path) -> None:
    """Something else than what the hub tells answers there."""
    fake.connect["host_keys"] = [" ".join(make_key(tmp_path / "real").public.split()[:2])]
    well.good("config", "--write")
    found = findings(well, 1)
    assert failed(found) == ["host key"]
    assert "NOT the one" in found["host key"][1]
    assert "Do not log in" in found["host key"][2]
    assert found["login"][0] == "skipped"


def test_known_hosts_of_yesterday(well: Laptop) -> None:
    (well.ssh / "jhssh_known_hosts").unlink()
    found = findings(well, 1)
    assert failed(found) == ["ssh configuration"]
    assert found["ssh configuration"][2] == "jhssh config --write"


def test_ssh_not_configured(well: Laptop) -> None:
    (well.ssh / "config").unlink()
    found = findings(well, 1)
    assert found["ssh configuration"][0] == "warning"
    assert failed(found) == ["login"]  # the key has another place than ssh thinks: HOME is another


def test_login_refused(well: Laptop, ssh_server: SSHD) -> None:
    ssh_server.authorized_keys.write_text("")
    found = findings(well, 1)
    assert failed(found) == ["login"]
    assert "Permission denied" in found["login"][1]
    assert "ssh-add" in found["login"][2]


def test_no_ssh_on_this_computer(well: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = findings(well, 1)
    assert "install OpenSSH" in found["host key"][1]


def test_certificate_of_an_unknown_ca(well: Laptop, fake: FakeGateway, tmp_path: Path) -> None:
    from . import certificates

    ca_file, certificate = certificates.make(tmp_path)
    with gateway_api.running(certificate) as secure:
        well.log_in(secure, "--name", "secure", "--ca-file", str(ca_file))
        file = well.settings / "hubs.json"
        file.write_text(file.read_text().replace(str(ca_file), ""))
        done = well.run("doctor", "--hub", "secure")
        assert done.status == 1
        assert "failed   hub: The certificate of localhost" in done.out
        assert "--name secure --ca-file FILE" in done.out
