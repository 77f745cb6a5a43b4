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
from ...harness.ssh import KeyPair

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("user", ["fetched", "fetched too+gpu"])
@pytest.mark.asyncio
async def test_the_keys_of_a_real_user_server_and_of_no_other(any_hub: Hub, a_key: KeyPair, user: str) -> None:
    any_hub.start_server(user)
    state = ServerState.from_state(any_hub.server_state(user))
    assert state is not None
    target = UserServer(user)
    before = (any_hub.server_model(user) or {})["last_activity"]
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
