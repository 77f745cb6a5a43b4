from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..harness.processes import free_port
from .servers import Credentials, JupyterServer, jupyter_server


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("credentials"))


@pytest.fixture(scope="session")
def server(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """One Jupyter server with SSH on, shared by all tests that change nothing but keys of their own."""
    with jupyter_server(tmp_path_factory.mktemp("server"), credentials.environment(free_port())) as running:
        running.wait_for_sshd()
        yield running
