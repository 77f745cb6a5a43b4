"""Keys fetched from real user servers, as the gateway does it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jhssh_ext.errors import ServerUnreachable
from jhssh_ext.gateway.connect.server_client import fetch_keys
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState
from jhssh_ext.public_keys import parse_line

from ...conftest import register_key
from ...harness.hub import Hub
from ...harness.processes import wait_until
from ...harness.ssh import KeyPair

pytestmark = pytest.mark.slow


def settled_activity(hub: Hub, user: str) -> str:
    """A server tells the Hub of its own start too, a while later."""
    seen: list[str] = []

    def settled() -> bool:
        seen.append(str((hub.server_model(user) or {})["last_activity"]))
        return seen[-3:] == [seen[-1]] * 3

    wait_until(settled, interval=1, what="what the server tells of its start")
    return seen[-1]


@pytest.mark.parametrize("user", ["fetched", "fetched too+gpu"])
@pytest.mark.asyncio
async def test_the_keys_of_a_real_user_server_and_of_no_other(any_hub: Hub, a_key: KeyPair, user: str) -> None:
    any_hub.start_server(user)
    state = ServerState.from_state(any_hub.server_state(user))
    assert state is not None
    target = UserServer(user)
    before = settled_activity(any_hub, user)
    assert await fetch_keys(state, target) == frozenset()
    assert (any_hub.server_model(user) or {})["last_activity"] == before, "the gateway's call is no activity"
    register_key(any_hub, user, a_key)
    assert await fetch_keys(state, target) == {parse_line(a_key.public)}
    for other, wrong in (
        (UserServer("bob"), state),
        (UserServer(user, "gpu"), state),
        (target, replace(state, secret="0" * 64)),
        (target, replace(state, hub_id="another")),
        (target, replace(state, url=state.url + "api/")),
    ):
        with pytest.raises(ServerUnreachable):
            await fetch_keys(wrong, other)
    any_hub.stop_server(user)
    with pytest.raises(ServerUnreachable):
        await fetch_keys(state, target)
