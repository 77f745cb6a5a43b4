"""The wheel in an empty environment with JupyterLab alone, at both ends of what is supported."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness.packages import Environment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("jupyterlab", ["4.2", "4.6"])
def test_the_panel_is_there_and_the_server_extension_is_on(
    with_jupyterlab: Callable[[str], Environment], jupyterlab: str
) -> None:
    environment = with_jupyterlab(jupyterlab)
    panels = environment.run("jupyter", "labextension", "list")
    (panel,) = (line for line in panels.splitlines() if "@jhssh/labextension" in line)
    assert "enabled" in panel
    assert "OK" in panel
    assert "(python, jhssh_ext)" in panel
    extensions = environment.run("jupyter", "server", "extension", "list")
    assert [line for line in extensions.splitlines() if "jhssh_ext" in line and "enabled" in line]
    assert "OK" in extensions.partition("jhssh_ext")[2]
