"""The other one of JupyterHub's proxies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE_PROXY = "configurable-http-proxy@5.3.0"


@pytest.fixture(scope="session")
def node_proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """npm's configurable-http-proxy; skips the test where there is no npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, which brings the proxy that runs on Node")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error", NODE_PROXY]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "node_modules/.bin/configurable-http-proxy"
