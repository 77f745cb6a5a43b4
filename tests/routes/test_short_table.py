"""The short table where TCP does not lead to a user server's sshd: by the WebSocket of its extension. And clients that vanish."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..conformance.short_table import *  # noqa: F403
from ..conformance.targets import Target, find_program
from ..conformance.test_vanishing import (
    test_nothing_is_left_of_a_client_that_vanished,
    test_nothing_is_left_of_a_client_that_vanished_while_input_waited,
    test_nothing_is_left_of_a_client_that_vanished_while_output_waited,
    test_reader_that_stops_gets_every_byte_and_nothing_grows,
)
from ..conformance.through_gateway import through_gateway
from .closed_port import CLOSED_PORT

__all__ = [
    "test_nothing_is_left_of_a_client_that_vanished",
    "test_nothing_is_left_of_a_client_that_vanished_while_input_waited",
    "test_nothing_is_left_of_a_client_that_vanished_while_output_waited",
    "test_reader_that_stops_gets_every_byte_and_nothing_grows",
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["openssh-websocket", "asyncssh-websocket", "openssh-auto"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    implementation, _, route = request.param.partition("-")
    if implementation == "openssh" and find_program("sshd") is None:
        pytest.skip("OpenSSH's sshd is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    with through_gateway(folder, implementation, hub_config=CLOSED_PORT, gateway_config=f"c.Gateway.route = {route!r}\n") as made:
        yield made
