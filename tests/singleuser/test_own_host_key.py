from __future__ import annotations

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jhssh_ext.singleuser import own_host_key as module
from jhssh_ext.singleuser.environment import public_host_key
from jhssh_ext.singleuser.own_host_key import HostKeyUnusable, own_host_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".ssh" / "key"


def test_it_is_made_once_for_its_user_alone(path: Path) -> None:
    text = own_host_key(path)
    assert own_host_key(path) == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    shown = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, check=True).stdout.decode()
    assert shown.split()[:2] == public_host_key(text).line.split()[:2]


def test_servers_that_start_together_agree(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(own_host_key, [path] * 16))) == 1
    assert list(path.parent.iterdir()) == [path]


def test_where_there_are_no_links_it_is_kept_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", no_links)
    assert own_host_key(path) == path.read_text()
    assert list(path.parent.iterdir()) == [path]


def test_others_lose_the_right_to_read_it(path: Path) -> None:
    text = own_host_key(path)
    path.chmod(0o644)
    assert own_host_key(path) == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_no_such_key_is_not_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(HostKeyUnusable, match="Remove it"):
        own_host_key(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("kind", ["ecdsa", "encrypted", "a folder", "a pipe", "too large"])
def test_other_things_in_its_place_are_told(path: Path, kind: str) -> None:
    path.parent.mkdir()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "too large":
        path.write_bytes(b"x" * (1 << 20))
    else:
        options = ["-t", "ecdsa", "-N", ""] if kind == "ecdsa" else ["-t", "ed25519", "-N", "a passphrase"]
        subprocess.run(["ssh-keygen", "-q", *options, "-f", path], check=True)
    with pytest.raises(HostKeyUnusable, match=str(path)):
        own_host_key(path)


def test_a_home_that_can_not_be_written_is_told(path: Path) -> None:
    path.parent.write_text("a file in place of the folder")
    with pytest.raises(HostKeyUnusable, match="can't be kept"):
        own_host_key(path)
