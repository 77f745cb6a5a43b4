"""What the entrypoint writes for sshd, and what it refuses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jhssh_ext.sidecar import entrypoint
from jhssh_ext.sidecar.entrypoint import Paths, Unusable, prepare

from ..conformance.targets import PRINCIPAL, Keys, find_program
from .pod import IMAGE, Pod

pytestmark = pytest.mark.skipif(find_program("sshd") is None, reason="OpenSSH's sshd is not installed")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    monkeypatch.setattr(entrypoint.os, "getuid", lambda: 4321)
    (tmp_path / "home").mkdir()
    yield Paths(state=tmp_path / "state", home=tmp_path / "home", programs=IMAGE / "bin")
    if (tmp_path / "state").exists():
        (tmp_path / "state").chmod(0o700)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    keys = Keys.make(tmp_path_factory.mktemp("entrypoint") / "keys")
    return {
        "JHSSH_HOST_KEY": (keys.folder / "host_key").read_text(),
        "JHSSH_USER_CA_KEYS": keys.public("user_ca"),
        "JHSSH_PRINCIPAL": PRINCIPAL,
    }


def test_files_are_private_and_the_folder_is_closed(paths: Paths, environ: dict[str, str]) -> None:
    prepare(environ, paths)
    modes = {path.name: path.lstat().st_mode & 0o777 for path in paths.state.iterdir() if not path.is_symlink()}
    files = dict.fromkeys(("host_key", "principals", "sshd_config", "user_ca_keys"), 0o600)
    assert modes == {**files, "passwd": 0o644, "x11": 0o700}
    assert paths.state.stat().st_mode & 0o777 == 0o500
    assert (paths.state / "passwd").read_text() == f"jovyan:x:4321:{os.getgid()}::{paths.home}:/bin/dash\n"


def test_a_restarted_container_finds_and_replaces_its_files(paths: Paths, environ: dict[str, str]) -> None:
    prepare(environ, paths)
    prepare({**environ, "JHSSH_PRINCIPAL": "f" * 64, "JHSSH_ACCOUNT": "alice"}, paths)
    assert (paths.state / "principals").read_text() == "f" * 64 + "\n"
    assert (paths.state / "passwd").read_text().startswith("alice:x:4321:")


def test_sshd_listens_where_the_hub_says(paths: Paths, environ: dict[str, str]) -> None:
    assert prepare(environ, paths)[-6:-4] == ["-p", "2222"]
    changed = prepare({**environ, "JHSSH_LISTEN_PORT": "8022", "JHSSH_LISTEN_ADDRESS": "127.0.0.1"}, paths)
    assert changed[2] == "/usr/sbin/sshd"
    assert changed[-8:] == ["-p", "8022", "-o", "MaxStartups=100", "-o", "MaxSessions=120", "-o", "ListenAddress=127.0.0.1"]


@pytest.mark.parametrize("name", ["JHSSH_HOST_KEY", "JHSSH_USER_CA_KEYS", "JHSSH_PRINCIPAL"])
def test_what_is_missing_is_named(paths: Paths, environ: dict[str, str], name: str) -> None:
    for value in ("", " \n"):
        with pytest.raises(Unusable, match=name):
            prepare({**environ, name: value}, paths)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JHSSH_PRINCIPAL", "alice\nbob"),
        ("JHSSH_PRINCIPAL", "*"),
        ("JHSSH_LISTEN_PORT", "0"),
        ("JHSSH_LISTEN_PORT", "65536"),
        ("JHSSH_LISTEN_PORT", "22\nPermitRootLogin yes"),
        ("JHSSH_ACCOUNT", "a:b"),
        ("JHSSH_ACCOUNT", "*"),
        ("JHSSH_ACCOUNT", "a\nb"),
        ("JHSSH_LISTEN_ADDRESS", "no address"),
        ("JHSSH_HOST_KEY", "no key"),
    ],
)
def test_values_of_another_shape_are_refused(paths: Paths, environ: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(Unusable):
        prepare({**environ, name: value}, paths)


def test_root_is_refused_with_the_setting_to_mend(paths: Paths, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrypoint.os, "getuid", lambda: 0)
    with pytest.raises(Unusable, match=r"KubeSpawner\.uid"):
        prepare(environ, paths)


def test_what_keeps_sshd_up_has_no_secret_in_its_environment(shared_pod: Pod) -> None:
    (first,) = shared_pod.sidecar.find("bin/supervise")
    assert first == shared_pod.sidecar.first
    for pid in shared_pod.sidecar.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of a session that ends just now
            assert b"JHSSH_" not in Path(f"/proc/{pid}/environ").read_bytes()
