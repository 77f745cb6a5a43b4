"""Which keys open which servers, and when, at real Hubs with real user servers: what the key cache promises."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from jhssh_ext.gateway.authenticate.user_keys import UserKeys
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.public_keys import parse_line

from ..conftest import HUB_VERSIONS, register_key, running_hub
from ..harness.hub import Hub, request
from ..harness.processes import wait_until
from ..harness.ssh import KeyPair, SSHClient

pytestmark = pytest.mark.slow
Client = Callable[..., SSHClient]


@pytest.fixture(scope="module", params=HUB_VERSIONS)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One of the module's own: its gateway is restarted."""
    yield from running_hub(request.param, tmp_path_factory.mktemp(f"keys-{request.param}"))


def refresh(hub: Hub, *arguments: str) -> str:
    """What ``jhssh-gateway refresh`` prints."""
    assert hub.gateway is not None
    environment = {"JUPYTERHUB_API_URL": f"{hub.url}/hub/api", "JUPYTERHUB_API_TOKEN": hub.gateway.token}
    command = [str(hub.python), "-m", "jhssh_ext.gateway", "refresh", "-f", str(hub.gateway.config_file), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=hub.gateway.folder,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def opens(client: SSHClient) -> bool:
    return client.run("true").returncode == 0


def test_a_key_written_by_hand_counts_at_the_next_connection_and_ends_with_its_line(
    hub: Hub, client: Client, a_key: KeyPair
) -> None:
    user = "by-hand"
    hub.start_server(user)
    alice = client(hub, user, key=a_key)
    assert not opens(alice)
    folder = hub.user_home(user) / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    written = folder / "authorized_keys"

    def counts_after_a_second() -> bool:
        written.write_text("")
        wait_until(lambda: not opens(alice), 30, what="the end of the key")
        written.write_text(a_key.public + "\n")
        time.sleep(1)  # the promise
        return opens(alice)

    assert any(counts_after_a_second() for _ in range(5)), "a busy machine may be late, but not each time"
    wait_until(lambda: opens(alice), 30, what="the key that was written by hand")

    session = alice.popen("echo open; exec sleep 600")
    try:
        assert session.stdout is not None
        assert session.stdout.readline() == b"open\n"
        (folder / "authorized_keys").write_text("")
        assert session.wait(30) == 255
        assert session.stderr is not None
        assert b"the key that opened it was removed" in session.stderr.read()
        assert not opens(alice)
    finally:
        session.kill()
        session.communicate()


def test_keys_outlive_the_gateway_and_a_push_lost_meanwhile_is_made_good(hub: Hub, client: Client, a_key: KeyPair) -> None:
    assert hub.gateway is not None
    user = "outlives"
    hub.start_server(user)
    register_key(hub, user, a_key)
    alice = client(hub, user, key=a_key)
    assert opens(alice)
    hub.gateway.stop()
    fingerprint = parse_line(a_key.public).fingerprint.replace("/", "%2F").replace("+", "%2B")
    assert hub.server_api("DELETE", user, f"publickey/{fingerprint}").status == 204
    hub.gateway.start()
    wait_until(lambda: not opens(alice), 60, what="the lost push to be sent again")


def test_a_known_key_starts_a_stopped_server_also_after_a_restart_of_the_gateway(
    hub: Hub, client: Client, a_key: KeyPair
) -> None:
    assert hub.gateway is not None
    user = "stopped"
    hub.start_server(user)
    register_key(hub, user, a_key)
    alice = client(hub, user, key=a_key)
    assert opens(alice)
    hub.stop_server(user)
    hub.gateway.restart()
    assert opens(alice)

    # Gone from the key store while nobody could tell the gateway: refused, but only after the start.
    hub.stop_server(user)
    (hub.user_home(user) / ".ssh/jhssh_authorized_keys").unlink()
    refused = alice.run("true")
    assert refused.returncode == 255
    assert b"KEY_UNKNOWN" in refused.stderr
    assert hub.running(user)
    hub.stop_server(user)
    assert not opens(alice)
    assert not hub.running(user)


def test_keys_of_a_user_who_was_deleted_open_nothing_of_the_next_one(hub: Hub, client: Client, a_key: KeyPair) -> None:
    user = "again"
    hub.start_server(user)
    register_key(hub, user, a_key)
    alice = client(hub, user, key=a_key)
    assert opens(alice)
    hub.stop_server(user)
    hub.delete_user(user)
    hub.create_user(user)
    assert not opens(alice)
    assert not hub.running(user)


def test_a_key_on_the_page_opens_all_servers_of_its_user_until_it_is_removed(hub: Hub, client: Client, a_key: KeyPair) -> None:
    assert hub.gateway is not None
    user = "on-page"
    hub.create_user(user)
    hub.start_server(user, "gpu")
    hub.stop_server(user, "gpu")
    created = str(hub.api("GET", f"users/{user}").json["created"])
    key = parse_line(a_key.public)

    async def change(add: bool) -> None:
        database = Database(sqlite_url(str(hub.folder / "jhssh.sqlite")))
        keys = UserKeys(database)
        await (keys.add(user, created, key, "page") if add else keys.remove(user, key.fingerprint))
        await database.close()

    alice, gpu = client(hub, user, key=a_key), client(hub, f"{user}+gpu", key=a_key)
    assert not opens(alice)
    asyncio.run(change(True))
    assert opens(alice)
    assert opens(gpu)
    assert hub.running(user)
    assert hub.running(user, "gpu")
    asyncio.run(change(False))
    assert not opens(alice)
    assert not opens(gpu)


def test_pushes_count_for_servers_that_the_hub_has(hub: Hub) -> None:
    assert hub.gateway is not None
    user, url = "pusher", f"{hub.gateway.url}{hub.gateway.prefix}api/keys-changed"
    hub.start_server(user)
    own = {"Authorization": f"token {hub.token(user)}"}

    def push(server: str) -> int:
        return request("POST", url, json={"user": user, "server": server}, headers=own).status

    assert [push(server) for server in ("", "none", "\ud800", "\0")] == [202, 403, 400, 400]


def test_a_refresh_asks_all_servers_moves_nobodys_activity_and_forgets_who_is_gone(
    hub: Hub, client: Client, a_key: KeyPair
) -> None:
    assert hub.gateway is not None
    users = ["refreshed-1", "refreshed-2"]
    for user in users:
        hub.start_server(user)
    register_key(hub, users[0], a_key)
    assert opens(client(hub, users[0], key=a_key))
    hub.stop_server(users[1])
    hub.delete_user(users[1])
    wait_until(lambda: "0 fetched" in refresh(hub), 60, what="all copies to be fresh")

    def activity() -> object:
        return [hub.api("GET", f"users/{users[0]}").json[key] for key in ("last_activity", "servers")]

    before = activity()
    assert f"{users[1]}" not in str(before)
    assert " 0 fresh" in refresh(hub, "--full")
    assert "1 fetched" in refresh(hub, "--full", users[0], "nobody")
    api = hub.gateway.url + hub.gateway.prefix + "api/refresh"
    admin = {"Authorization": f"token {hub.admin_token}"}
    assert request("POST", api, json={}).status == 403
    assert request("POST", api, json={"users": "x"}, headers=admin).status == 400
    assert request("POST", api, json={"users": users}, headers=admin).json["fetched"] == 1
    assert request("POST", api, json={"full": True}, headers=admin).status == 202
    wait_until(lambda: not request("GET", api, headers=admin).json["running"], 60, what="the refresh of all")
    assert request("GET", api, headers=admin).json["last"]["fetched"] >= 1
    assert activity() == before
    own = {"Authorization": f"token {hub.token(users[0])}"}  # whose use the Hub takes for activity
    assert request("POST", api, json={}, headers=own).status == 403
