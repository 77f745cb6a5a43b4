"""The short table through the tunnel, by each way through the Hub's proxy.

The whole table, through PyPI's proxy, is in tests/conformance. That proxy does no HTTPS.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conformance.short_table import *  # noqa: F403
from ..conformance.targets import Target, find_program
from ..conformance.through_gateway import through_gateway
from .ways import way

pytestmark = pytest.mark.slow
WAYS = ["node", "node-https", "node-base_url", "node-subdomains", "node-websocat"]


@pytest.fixture(scope="module", params=WAYS)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if find_program("sshd") is None:
        pytest.skip("OpenSSH's sshd is not installed")
    if request.param.endswith("websocat") and not Path(sys.executable).with_name("websocat").exists():
        pytest.skip("websocat is not installed")
    node_proxy: Path | None = request.getfixturevalue("node_proxy") if request.param.startswith("node") else None
    folder = tmp_path_factory.mktemp(request.param)
    with (
        way(request.param, folder, node_proxy) as chosen,
        through_gateway(folder, "openssh", prepare=chosen.prepare, proxy_command=chosen.command) as made,
    ):
        yield made
