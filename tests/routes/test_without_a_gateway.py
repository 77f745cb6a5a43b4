"""What docs/users.md promises to whoever has a Hub as it comes: the extension, the jhssh command, a token, and nobody's help."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness.hub import Hub
from ..harness.ssh import make_key

pytestmark = pytest.mark.slow
USER = "alice"


@pytest.mark.parametrize("version", ["hub6", "hub5"])
def test_the_way_of_the_documentation(new_hub: Callable[..., Hub], tmp_path: Path, version: str) -> None:
    hub = new_hub(version, gateway=False, spawner="jupyterhub.spawner.SimpleLocalProcessSpawner")
    hub.start()
    home = tmp_path / "laptop"
    make_key(home / ".ssh" / "id_ed25519")
    (home / ".ssh").chmod(0o700)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SSH", "JUPYTER", "XDG", "JHSSH"))}
    environment = {**inherited, "HOME": str(home), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}

    def call(*command: str, text: str = "") -> str:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=120, env=environment, cwd=home, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.decode()

    def jhssh(*arguments: str, text: str = "") -> str:
        return call(sys.executable, "-m", "jhssh_ext.client", *arguments, text=text)

    jhssh("login", hub.url, "--token", text=hub.token(USER) + "\n")
    jhssh("servers", "start")
    assert hub.running(USER)
    jhssh("keys", "add")
    assert "id_ed25519@test" in jhssh("keys", "list")
    jhssh("config", "--write")
    ssh = ["ssh", "-F", str(home / ".ssh" / "config"), "-i", str(home / ".ssh" / "id_ed25519"), "-o", "BatchMode=yes"]
    assert call(*ssh, f"{USER}.hub", "cat; pwd", text="sent ") == f"sent {hub.user_home(USER)}\n"
    jhssh("servers", "stop")
    assert not hub.running(USER)
