"""jhssh: the way into a JupyterHub by SSH. Each folder is one process; what stands beside this file is pure and shared."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """The Jupyter server extension (jupyter_server, "Extension points")."""
    from .singleuser.app import JHSSHExtension

    return [{"module": "jhssh_ext", "app": JHSSHExtension}]
