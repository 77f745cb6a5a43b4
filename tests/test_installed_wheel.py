"""The wheel in an empty environment with JupyterLab alone, at both ends of what is supported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_packaging import built

__all__ = ["built"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("jupyterlab", ["4.2.*", "4.6.*"])
def test_the_panel_is_there_and_the_server_extension_is_on(built: Path, tmp_path: Path, jupyterlab: str) -> None:
    (wheel,) = built.glob("*.whl")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE_", "JUPYTER"))}
    environment |= {"HOME": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(command, check=False, capture_output=True, env=environment, timeout=280, cwd=tmp_path)
        output = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, output
        return output

    python = str(tmp_path / "venv/bin/python")
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    run(python, "-m", "pip", "install", "-q", f"jupyterlab=={jupyterlab}", str(wheel))
    panels = run(python, "-m", "jupyter", "labextension", "list")
    (panel,) = (line for line in panels.splitlines() if "@jhssh/labextension" in line)
    assert "enabled" in panel
    assert "OK" in panel
    assert "(python, jhssh_ext)" in panel
    extensions = run(python, "-m", "jupyter", "server", "extension", "list")
    (extension,) = (line for line in extensions.splitlines() if "jhssh_ext" in line and "enabled" in line)
    assert "enabled" in extension
    assert "OK" in extensions.partition("jhssh_ext")[2]
    run(python, "-m", "pip", "uninstall", "-q", "-y", "jhssh-ext")
    assert "@jhssh" not in run(python, "-m", "jupyter", "labextension", "list")
