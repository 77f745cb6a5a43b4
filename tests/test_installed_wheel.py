"""The wheel in an environment with nothing but JupyterLab, or Notebook, which brings its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness.packages import Environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a busy machine takes minutes to install JupyterLab


@pytest.mark.parametrize(("front_end", "jupyterlab"), [("jupyterlab==4.2.*", "4.2"), ("notebook==7.6.*", "4.6")])
def test_the_panel_is_there_and_the_server_extension_is_on(
    installed: Callable[[str], Environment], front_end: str, jupyterlab: str
) -> None:
    environment = installed(front_end)
    panels = environment.run("jupyter", "labextension", "list")
    assert f"JupyterLab v{jupyterlab}." in panels
    (panel,) = (line for line in panels.splitlines() if "@jhssh/labextension" in line)
    assert "enabled" in panel
    assert "OK" in panel
    assert "(python, jhssh_ext)" in panel
    extensions = environment.run("jupyter", "server", "extension", "list")
    assert [line for line in extensions.splitlines() if "jhssh_ext" in line and "enabled" in line]
    assert "OK" in extensions.partition("jhssh_ext")[2]
