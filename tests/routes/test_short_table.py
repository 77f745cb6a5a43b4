"""The short table where no TCP leads to a user server's sshd: by the WebSocket of its extension, with either sshd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..conformance.short_table import *  # noqa: F403
from ..conformance.targets import Target, find_program
from ..conformance.through_gateway import through_gateway
from .closed_port import CLOSED_PORT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["openssh-websocket", "asyncssh-websocket", "openssh-auto"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    implementation, _, route = request.param.partition("-")
    if implementation == "openssh" and find_program("sshd") is None:
        pytest.skip("OpenSSH's sshd is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    with through_gateway(folder, implementation, hub_config=CLOSED_PORT, gateway_config=f"c.Gateway.route = {route!r}\n") as made:
        yield made
