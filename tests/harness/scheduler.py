"""How ``pytest -n 2`` (pytest-xdist) shares out the tests."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling


class FolderByFolder(LoadScopeScheduling):
    """A folder's tests stay together and in order, since they share Hubs, browsers and the cluster."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(nodeid.partition("::")[0])
        return str(file if file.parent.name == "tests" else file.parent)
