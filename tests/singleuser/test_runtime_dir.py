from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jhssh_ext.singleuser.runtime_dir import RuntimeDir, remove_stale


def test_is_for_this_user_alone_and_goes_away(tmp_path: Path) -> None:
    runtime = RuntimeDir({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert runtime.path.parent == tmp_path
    assert stat.S_IMODE(runtime.path.stat().st_mode) == 0o700
    written = runtime.write("host_key", "secret\n")
    assert (written.read_text(), stat.S_IMODE(written.stat().st_mode)) == ("secret\n", 0o600)
    runtime.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("odd", ["", "relative", "/does/not/exist", "/with space", '/with"quote', "/etc/passwd"])
def test_a_runtime_folder_that_is_not_usable_is_passed_by(odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runtime = RuntimeDir({"XDG_RUNTIME_DIR": odd})
    assert runtime.path.parent == tmp_path
    runtime.remove()


def test_a_temporary_folder_that_sshd_could_not_name_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "with space"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    runtime = RuntimeDir({})
    assert runtime.path.parent == Path("/tmp")
    runtime.remove()


def test_folders_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    living = RuntimeDir(environ)
    program = f"from jhssh_ext.singleuser.runtime_dir import RuntimeDir; print(RuntimeDir({environ!r}).path)"
    dead = Path(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip())
    assert dead.exists()
    another = RuntimeDir(environ)
    assert not dead.exists()
    assert living.path.exists()
    living.remove()
    another.remove()


def test_what_is_not_surely_ours_is_left_alone(tmp_path: Path) -> None:
    prefix = f"jhssh-{os.getuid()}-"
    outside = tmp_path / "outside"
    outside.mkdir()
    base = tmp_path / "base"
    base.mkdir()
    (base / f"{prefix}file").write_text("")
    (base / f"{prefix}link").symlink_to(outside)
    young, old = base / f"{prefix}young", base / f"{prefix}old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 3600,) * 2)
    remove_stale(base)
    assert sorted(path.name for path in base.iterdir()) == [f"{prefix}file", f"{prefix}link", f"{prefix}young"]
    assert outside.exists()


def test_a_file_that_stands_in_the_way_as_a_link_is_not_followed(tmp_path: Path) -> None:
    runtime = RuntimeDir({"XDG_RUNTIME_DIR": str(tmp_path)})
    (runtime.path / "host_key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        runtime.write("host_key", "secret")
    runtime.remove()
