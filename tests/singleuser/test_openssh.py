from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jhssh_ext.singleuser import openssh
from jhssh_ext.singleuser.openssh import OpenSSH, Unusable
from jhssh_ext.singleuser.runtime_dir import RuntimeDir

from .servers import Credentials


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The passwd entry that openssh.py sees; a test changes it."""
    fields: dict[str, Any] = {"pw_name": "alice", "pw_shell": "/bin/sh", "pw_dir": str(tmp_path)}
    monkeypatch.setattr(openssh.pwd, "getpwuid", lambda _: type("Entry", (), fields))
    monkeypatch.setattr(openssh, "_check_terminals", lambda _: None)
    return fields


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """As a conda environment that has OpenSSH."""
    script(tmp_path / "conda" / "bin" / "sshd", "echo 'OpenSSH_9.9p1, OpenSSL 3' >&2")
    script(tmp_path / "conda" / "libexec" / "sftp-server", "")
    return tmp_path / "conda"


def test_finds_that_of_a_conda_environment_first(prefix: Path, account: dict[str, Any]) -> None:
    assert openssh.find(str(prefix)) == OpenSSH(
        str(prefix / "bin" / "sshd"), str(prefix / "libexec" / "sftp-server"), (9, 9), "alice"
    )


def test_finds_that_of_the_system_outside_of_path(account: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    try:
        found = openssh.find("/nowhere")
    except Unusable as unusable:
        pytest.skip(str(unusable))
    assert Path(found.sshd).name == "sshd"
    assert Path(found.sftp_server).name == "sftp-server"
    assert found.version > (6, 0)


def test_an_old_one_tells_its_version_in_its_usage(prefix: Path, account: dict[str, Any]) -> None:
    script(prefix / "bin" / "sshd", "echo 'unknown option -- V' >&2; echo 'OpenSSH_8.4p1 Debian-5' >&2; exit 1")
    assert openssh.find(str(prefix)).version == (8, 4)


def test_what_is_missing_is_named(prefix: Path, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssh, "_FOLDERS", ())
    monkeypatch.setattr(openssh, "_SFTP_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nowhere")
    (prefix / "libexec" / "sftp-server").unlink()
    with pytest.raises(Unusable, match="sftp-server"):
        openssh.find(str(prefix))
    (prefix / "bin" / "sshd").unlink()
    with pytest.raises(Unusable, match="openssh-server"):
        openssh.find(str(prefix))


@pytest.mark.parametrize("text", ["echo 'dropbear 2022.83'", "exec sleep 100"])
def test_what_is_no_openssh_is_passed_by(
    prefix: Path, account: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh, "_TIMEOUT", 0.2)
    script(prefix / "bin" / "sshd", text)
    with pytest.raises(Unusable):
        openssh.find(str(prefix))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pw_shell": "/usr/sbin/nologin"}, "nologin"),
        ({"pw_shell": "/bin/false"}, "false"),
        ({"pw_shell": "/does/not/exist"}, "/does/not/exist"),
        ({"pw_shell": "/etc/passwd"}, "/etc/passwd"),
        ({"pw_dir": "/does/not/exist"}, "home"),
    ],
)
def test_an_account_that_sshd_would_turn_away_is_told(
    prefix: Path, account: dict[str, Any], changes: dict[str, str], said: str
) -> None:
    account.update(changes)
    with pytest.raises(Unusable, match=said):
        openssh.find(str(prefix))


def test_an_empty_shell_is_sh(prefix: Path, account: dict[str, Any]) -> None:
    account["pw_shell"] = ""
    assert openssh.find(str(prefix)).account == "alice"


def test_a_user_id_without_an_entry_is_told(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(openssh.pwd, "getpwuid", missing)
    with pytest.raises(Unusable, match="/etc/passwd"):
        openssh.find(str(prefix))


def test_a_locked_account_is_one_whose_password_begins_with_an_exclamation_mark(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:*:1::\nlocked:!:1::\nlocked2:!$y$x:1::\nopen:$y$x!:1::\n")
    assert [openssh._locked(name, shadow) for name in ("root", "locked", "locked2", "open", "other")] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert not openssh._locked("root", tmp_path / "none")


@pytest.fixture
def runtime(tmp_path: Path, credentials: Credentials) -> Any:
    (tmp_path / "runtime").mkdir()
    made = RuntimeDir({"XDG_RUNTIME_DIR": str(tmp_path / "runtime")})
    made.write("host_key", (credentials.folder / "host_key").read_text())
    made.write("user_ca_keys", (credentials.folder / "user_ca.pub").read_text())
    made.write("principals", "x\n")
    yield made
    made.remove()


def test_what_sshd_says_of_its_setup_is_told(prefix: Path, runtime: RuntimeDir) -> None:
    refusing = script(prefix / "bin" / "sshd", "echo first >&2; echo 'Bad configuration option: X' >&2; exit 255")
    with pytest.raises(Unusable, match="Bad configuration option: X"):
        openssh.prepare(OpenSSH(refusing, "", (9, 2), "alice"), runtime, sftp=True)
    with pytest.raises(Unusable, match="can't be run"):
        openssh.prepare(OpenSSH("/does/not/exist", "", (9, 2), "alice"), runtime, sftp=True)


def test_an_account_that_no_configuration_can_name_is_told(runtime: RuntimeDir) -> None:
    with pytest.raises(Unusable, match="account name"):
        openssh.prepare(OpenSSH("/usr/sbin/sshd", "", (9, 2), "al*ce"), runtime, sftp=True)


def test_the_folder_that_root_needs_is_made_and_must_be_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssh, "PRIVSEP_DIR", tmp_path / "sshd")
    openssh._make_privsep_dir()
    assert stat.S_IMODE((tmp_path / "sshd").stat().st_mode) & 0o022 == 0
    (tmp_path / "sshd").chmod(0o777)
    with pytest.raises(Unusable, match="writable"):
        openssh._make_privsep_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(openssh, "PRIVSEP_DIR", tmp_path / "file" / "sshd")
    with pytest.raises(Unusable, match="can't be made"):
        openssh._make_privsep_dir()


def test_terminals_that_can_not_be_given_away_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []

    def refused(*_: object) -> None:
        raise PermissionError

    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(openssh.os, "chown", lambda _, user, group: given.append((user, group)))
    openssh._check_terminals(entry)
    monkeypatch.setattr(openssh.grp, "getgrnam", lambda name: {}[name])
    openssh._check_terminals(entry)
    assert given[1] == (entry.pw_uid, entry.pw_gid)
    assert given[0][0] == entry.pw_uid
    monkeypatch.setattr(openssh.os, "chown", refused)
    with pytest.raises(Unusable, match="devpts"):
        openssh._check_terminals(entry)


AS_ANOTHER = """
import asyncio, json, logging, subprocess, sys
from pathlib import Path
from jhssh_ext.payloads import ServerEnvironment
from jhssh_ext.singleuser.sshd import SSHD, SessionSetup
from tests.singleuser.servers import Credentials, ssh
from tests.harness.processes import free_port

async def main(folder, kind):
    credentials, port = Credentials.make(folder / "keys"), free_port()
    setup = SessionSetup(env={"PATH": "/usr/bin:/bin", "HOME": str(folder)}, cwd=str(folder), shell=["/bin/bash", "-l"])
    given, log = credentials.environment(port), logging.getLogger()
    supervised = SSHD(given, setup, implementation=kind, log=log, environ={"XDG_RUNTIME_DIR": str(folder)})
    supervised.start()
    async with supervised.changed:
        await asyncio.wait_for(supervised.changed.wait_for(lambda: supervised.status()["state"] in ("running", "failed")), 30)
    first = await asyncio.to_thread(ssh, credentials, port, "id -u; pwd; cat; exit 3", input=b"data")
    terminal = await asyncio.to_thread(ssh, credentials, port, "-tt", "tty")
    await supervised.stop()
    left = [path.name for path in folder.iterdir() if path.name.startswith("jhssh-")]
    print(json.dumps([supervised.status(), first.returncode, first.stdout.decode(), first.stderr.decode(),
                      terminal.stdout.decode(), left]))

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


# As container runtimes mount it (devpts, gid=5), whatever this machine has.
OWN_TERMINALS = """
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts /dev/pts && mount --bind /dev/pts/ptmx /dev/ptmx || true
exec "$@"
"""


@pytest.fixture(scope="module")
def unprivileged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An account without privileges, with a home; made if we are root, else our own."""
    if os.getuid() != 0:
        yield pwd.getpwuid(os.getuid()).pw_name
        return
    name = f"jhtest{os.getpid()}"
    made = subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("no account can be made here")
    yield name
    subprocess.run(["userdel", "--remove", "--force", name], capture_output=True, check=True)


def python_for(command: list[str]) -> str:
    """A Python of this version that the account can run (root's own may lie under /root)."""
    program = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for python in (sys.executable, "/usr/bin/python3"):
        if (
            Path(python).exists()
            and subprocess.run([*command, python, "-c", program], capture_output=True, check=False).returncode == 0
        ):
            return python
    pytest.skip("no Python of this version that another account can run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openssh", "asyncssh"])
def test_serves_without_privileges(unprivileged: str, kind: str, tmp_path: Path) -> None:
    entry = pwd.getpwnam(unprivileged)
    folder = Path(entry.pw_dir) / kind
    subprocess.run(["install", "-d", "-m", "700", "-o", unprivileged, folder], check=True)
    if os.getuid() == 0:  # what the account's shell does at its start is in nobody's way
        Path(entry.pw_dir, ".bashrc").write_text("echo garbled\n")
    root = Path(__file__).parents[2]
    as_them = ["runuser", "-u", unprivileged, "--", "env", f"HOME={entry.pw_dir}"] if os.getuid() == 0 else ["env"]
    python = python_for(as_them)
    command = [*as_them, f"PYTHONPATH={os.pathsep.join(sys.path)}", python, "-B", "-c", AS_ANOTHER, str(folder), kind]
    if os.getuid() == 0:
        command = ["unshare", "--mount", "sh", "-c", OWN_TERMINALS, "sh", *command]
    shown = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    status, code, output, errors, terminal, left = json.loads(shown.stdout.splitlines()[-1])
    if status["implementation"] != kind:
        pytest.skip(status["reason"])
    assert (code, output, errors) == (3, f"{entry.pw_uid}\n{folder}\ndata", "")
    assert terminal.startswith("/dev/pts/")
    assert left == []
