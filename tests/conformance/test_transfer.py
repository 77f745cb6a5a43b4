"""Files: sftp, scp both ways of it, rsync, git."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from .client import Client, needs


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A tree of files, some of them awkward."""
    tree = tmp_path / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "sub" / "with space ü").write_bytes(random.Random(1).randbytes(3_000_001))
    (tree / "empty file").touch()
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("run.sh")
    os.utime(tree / "run.sh", (1_000_000_000, 1_000_000_000))
    return tree


@pytest.fixture
def remote(client: Client) -> Iterator[Path]:
    """A folder on the user server, without spaces in its name: `scp -O` gives it to a shell."""
    path = Path("/tmp") / f"jh-{client.name()}"
    client.output(f"mkdir {path}")
    yield path
    client.output(f"rm -rf {path}")


def listing(tree: Path) -> dict[str, tuple[str, int]]:
    found = {}
    for path in sorted(tree.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(tree))] = (str(path.readlink()), 0)
        elif path.is_file():
            found[str(path.relative_to(tree))] = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode & 0o777)
        else:
            found[str(path.relative_to(tree))] = ("folder", 0)
    return found


def option_f(client: Client) -> list[str]:
    # The first to say it counts: -b and scp's -B switch passwords off.
    passwords = ["-oBatchMode=no"] if "SSH_ASKPASS" in client.environment else []
    return [*passwords, "-F", str(client.target.ssh_config)]


@needs("sftp")
def test_sftp(client: Client, local: Path, remote: Path) -> None:
    back = local.parent / "back"
    batch = f"""
put -R "{local}" {remote}/up
rename {remote}/up {remote}/moved
ls -la {remote}/moved
chmod 600 {remote}/moved/run.sh
get -R {remote}/moved "{back}"
mkdir {remote}/made
rmdir {remote}/made
-rm {remote}/moved/nothing
df {remote}
"""
    result = client.call("sftp", *option_f(client), "-b", "-", client.target.host, input=batch.encode())
    assert result.returncode == 0, result.stderr
    assert (remote / "moved" / "run.sh").stat().st_mode & 0o777 == 0o600
    assert (back / "sub" / "with space ü").read_bytes() == (local / "sub" / "with space ü").read_bytes()


@needs("sftp")
def test_sftp_starts_where_the_jupyter_server_runs(client: Client) -> None:
    environment = {"LC_ALL": "C.UTF-8"}  # else sftp writes what is not ASCII as octal
    result = client.call("sftp", *option_f(client), "-b", "-", client.target.host, input=b"pwd\n", env=environment)
    assert result.stdout.decode().strip().endswith(f"Remote working directory: {client.target.cwd}")


@needs("scp")
@pytest.mark.parametrize("protocol", [[], ["-O"]], ids=["sftp", "legacy"])
def test_scp(client: Client, local: Path, remote: Path, protocol: list[str]) -> None:
    (local / "link").unlink()  # scp follows links
    back = local.parent / "back"
    there = f"{client.target.host}:{remote}/copy"
    for source, destination in ((str(local), there), (there, str(back))):
        result = client.call("scp", *option_f(client), *protocol, "-rp", source, destination)
        assert result.returncode == 0, result.stderr
    assert listing(back) == listing(local)
    assert (back / "run.sh").stat().st_mtime == 1_000_000_000


@needs("scp")
@pytest.mark.parametrize("protocol", [[], ["-O"]], ids=["sftp", "legacy"])
def test_scp_of_a_file_that_does_not_exist_fails(client: Client, tmp_path: Path, protocol: list[str]) -> None:
    result = client.call("scp", *option_f(client), *protocol, f"{client.target.host}:/nothing/here", str(tmp_path))
    assert result.returncode == 1
    assert b"No such file" in result.stderr


@needs("rsync")
def test_rsync_and_a_second_run_sends_nothing(client: Client, local: Path, remote: Path) -> None:
    argv = ["rsync", "-a", "--delete", "--itemize-changes", "-e", shlex.join(["ssh", *option_f(client)])]
    argv += [f"{local}/", f"{client.target.host}:{remote}/"]
    (remote / "old").write_text("to be deleted")
    first = client.call(*argv)
    assert (first.returncode, b"*deleting   old" in first.stdout) == (0, True), first.stderr
    assert listing(remote) == listing(local)
    second = client.call(*argv)
    assert (second.returncode, second.stdout) == (0, b"")


@needs("git")
def test_git_clone_and_push(client: Client, tmp_path: Path, remote: Path) -> None:
    environment = {
        "GIT_SSH_COMMAND": shlex.join(["ssh", *option_f(client)]),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    client.output(f"git init -q --bare -b main {remote}/repo.git")

    def git(*arguments: str) -> str:
        result = client.call("git", *arguments, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout.decode().strip()

    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    git("clone", "-q", f"{client.target.host}:{remote}/repo.git", first)
    (tmp_path / "first" / "data").write_bytes(random.Random(2).randbytes(2_000_000))
    git("-C", first, "add", "data")
    git("-C", first, "commit", "-q", "-m", "data")
    git("-C", first, "push", "-q", "origin", "HEAD:main")
    git("clone", "-q", f"ssh://{client.target.host}{remote}/repo.git", second)
    assert git("-C", second, "rev-parse", "HEAD") == git("-C", first, "rev-parse", "HEAD")
