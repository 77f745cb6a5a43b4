"""The gateway's calls to real Hubs of both supported versions, with a spawner that does what its options say."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jhssh_ext.errors import HubUnavailable, KeyUnknown, ServerStopped, SpawnFailed, SSHNotEnabled
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.connect.hub_models import may, may_start
from jhssh_ext.gateway.connect.server_starter import ServerStarter
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState

from ...conftest import HUB_VERSIONS, python_of
from ...harness.gateway import SCOPES
from ...harness.hub import Hub

pytestmark = pytest.mark.slow

USER_SERVER = Path(__file__).resolve().parents[2] / "fakes" / "user_server.py"
STATE = ServerState("127.0.0.1", 2022, "me", "ssh-ed25519 AAAA", "http://127.0.0.1:9/", "a" * 64, "spawn", "hub")
CONFIG = """
import asyncio
from jupyterhub.spawner import SimpleLocalProcessSpawner

class Obedient(SimpleLocalProcessSpawner):
    async def start(self):
        with open({starts!r}, "a") as file:
            file.write(json.dumps([self.user.name, self.name, self.user_options]) + "\\n")
        await asyncio.sleep(self.user_options.get("delay", 0))
        await self.wait_for_file("until")
        if "fail" in self.user_options:
            raise RuntimeError(self.user_options["fail"])
        return await super().start()

    async def stop(self, now=False):
        await self.wait_for_file("stop_until")
        await super().stop(now)

    async def wait_for_file(self, option):
        path = self.user_options.get(option)
        while path and not os.path.exists(path):
            await asyncio.sleep(0.05)

    async def progress(self):
        yield {{"progress": 20, "message": "Pulling the image"}}
        yield {{"progress": 40, "message": "Creating\\x1b[2J the container"}}

    def get_state(self):
        state = super().get_state()
        if self.user_options.get("enable_ssh") is True and self.pid:
            state.update({state!r})
        return state

c.JupyterHub.spawner_class = Obedient
c.JupyterHub.services += [
    {{"name": "gateway", "api_token": {token!r}}},
    {{"name": "no-state", "api_token": {token!r} + "1"}},
    {{"name": "no-scopes", "api_token": {token!r} + "2"}},
]
c.JupyterHub.load_roles += [
    {{"name": "gateway-role", "services": ["gateway"], "scopes": {scopes!r}}},
    {{"name": "no-state-role", "services": ["no-state"], "scopes": ["read:servers"]}},
]
c.JupyterHub.concurrent_spawn_limit = 2
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 2, "slow_stop_timeout": 0.2, "spawn_throttle_retry_range": (1, 1)}}
"""


class Site:
    """A Hub and the gateway's token for it."""

    def __init__(self, hub: Hub, token: str, starts: Path) -> None:
        self.hub, self.token, self._starts = hub, token, starts

    def user(self, name: str) -> None:
        self.hub.create_user(name)
        self.hub.use_command(name, [str(self.hub.python), str(USER_SERVER)])

    def options(self, user: str, options: dict[str, Any], server: str = "") -> None:
        """Saves options as a start that was stopped again leaves them."""
        self.user(user)
        self.hub.start_server(user, server, {**options, "delay": 0})
        self.hub.stop_server(user, server)

    def starts(self, user: str) -> list[dict[str, Any]]:
        """The options of each start of that user's servers."""
        lines = [json.loads(line) for line in self._starts.read_text().splitlines()] if self._starts.exists() else []
        return [options for name, _, options in lines if name == user]

    @asynccontextmanager
    async def client(self, suffix: str = "") -> AsyncIterator[HubClient]:
        client = HubClient(f"http://127.0.0.1:{self.hub.hub_port}/hub/api", self.token + suffix)
        try:
            yield client
        finally:
            client.close()

    @asynccontextmanager
    async def starter(self, **keywords: Any) -> AsyncIterator[ServerStarter]:
        async with self.client() as client:
            starter = ServerStarter(client, lambda target: f"http://hub/{target.user}", **keywords)
            try:
                yield starter
            finally:
                await starter.close()


@pytest.fixture(scope="module", params=HUB_VERSIONS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("real")
    token, starts = secrets.token_hex(16), folder / "starts"
    config = CONFIG.format(starts=str(starts), state=STATE.to_state(), token=token, scopes=SCOPES)
    hub = Hub(folder, python_of(request.param), gateway=False, config=config)
    try:
        hub.start()
        yield Site(hub, token, starts)
    finally:
        hub.stop()
    assert hub.processes() == []


async def until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.05)

    await asyncio.wait_for(poll(), 60)


async def login(starter: ServerStarter, target: UserServer, *, may_start: bool = True) -> tuple[ServerState, bool, list[str]]:
    told: list[str] = []
    state, started = await starter.running(target, may_start=may_start, on_progress=told.append)
    return state, started, told


@pytest.mark.parametrize("name", ["alice", "alice+gpu", "a b", "*", "a#b?c", "50%25", "ä@b", "x\ny"])
@pytest.mark.asyncio
async def test_users_by_name(site: Site, name: str) -> None:
    site.user(name)
    async with site.client() as client:
        model = await client.user(name)
        assert model is not None
        assert (model.name, model.servers[""].ready, model.servers[""].pending) == (name, False, None)
        for other in (name + "x", name.upper() + "X", "..", "a/b"):
            assert await client.user(other) is None


@pytest.mark.asyncio
async def test_a_stopped_server_is_started_with_its_saved_options(site: Site) -> None:
    target = UserServer("a saved")
    site.options(target.user, {"profile": "big"})
    async with site.starter() as starter:
        with pytest.raises(ServerStopped):
            await login(starter, target, may_start=False)
        assert (await login(starter, target))[:2] == (STATE, True)
        assert site.starts(target.user)[1:] == [{"profile": "big", "delay": 0, "enable_ssh": True}]
        assert await login(starter, target) == (STATE, False, [])
        model = site.hub.server_model(target.user)
        assert model is not None
        assert model["user_options"] == {"profile": "big", "delay": 0, "enable_ssh": True}


@pytest.mark.asyncio
async def test_a_server_never_started_before_is_started(site: Site) -> None:
    site.user("new")
    async with site.starter() as starter:
        assert (await login(starter, UserServer("new")))[:2] == (STATE, True)


@pytest.mark.asyncio
async def test_named_servers_that_exist_are_started_and_others_never_made(site: Site) -> None:
    site.options("named", {}, server="gpu")
    async with site.starter() as starter:
        with pytest.raises(KeyUnknown):
            await login(starter, UserServer("named", "gpuu"))
        assert site.hub.server_model("named", "gpuu") is None
        assert (await login(starter, UserServer("named", "gpu")))[:2] == (STATE, True)
        assert not site.hub.running("named")


@pytest.mark.parametrize("delay", [0.0, 3.5])
@pytest.mark.asyncio
async def test_two_at_once_start_it_once_and_both_see_the_progress(site: Site, delay: float, tmp_path: Path) -> None:
    """Within the Hub's slow_spawn_timeout, if the machine is quick enough, and beyond."""
    user, proceed = f"twice-{delay}", tmp_path / "proceed"
    proceed.touch()
    site.options(user, {"until": str(proceed)})
    proceed.unlink()
    told: list[list[str]] = [[], [], []]
    async with site.starter() as starter, site.starter() as other:
        starts = [
            asyncio.create_task(made.running(UserServer(user), may_start=True, on_progress=lines.append))
            for made, lines in zip((starter, starter, other), told, strict=True)
        ]
        wanted = {"Pulling the image", "Creating [2J the container"}
        await until(lambda: all(wanted <= set(lines) for lines in told))
        await asyncio.sleep(delay)
        proceed.touch()
        assert await asyncio.gather(*starts) == [(STATE, True)] * 3
        assert len(site.starts(user)) == 2


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.asyncio
async def test_a_spawn_that_fails_ends_with_the_hubs_words_each_time(site: Site, delay: int) -> None:
    """Within the Hub's slow_spawn_timeout, and beyond; and not with the words of an earlier failure."""
    user = f"failing-{delay}"
    site.user(user)
    for said in ("no GPU left", "the disk is full"):
        site.hub.request_start(user, options={"fail": said, "delay": delay})
        async with site.starter() as starter:
            with pytest.raises(SpawnFailed) as caught:
                await login(starter, UserServer(user))
            assert caught.value.sentence == f"Your server could not be started. The Hub says: {said}"


@pytest.mark.asyncio
async def test_spawn_limits_are_waited_out(site: Site, tmp_path: Path) -> None:
    for user in ("limit-1", "limit-2", "limit-3"):
        site.user(user)
    proceed = tmp_path / "proceed"
    told: list[str] = []
    async with site.starter() as starter:
        for user in ("limit-1", "limit-2"):
            await asyncio.to_thread(site.hub.request_start, user, "", {"until": str(proceed)})
        waiting = asyncio.create_task(starter.running(UserServer("limit-3"), may_start=True, on_progress=told.append))
        await until(lambda: any(message.startswith("Too many users trying to log in") for message in told))
        proceed.touch()
        assert (await waiting)[1]
        assert len(site.starts("limit-3")) == 1


@pytest.mark.asyncio
async def test_a_server_that_is_being_stopped_is_waited_for(site: Site, tmp_path: Path) -> None:
    proceed = tmp_path / "proceed"
    told: list[str] = []
    site.user("stopping")
    site.hub.start_server("stopping", "", {"stop_until": str(proceed)})
    assert site.hub.api("DELETE", "users/stopping/server").status == 202
    async with site.starter() as starter:
        waiting = asyncio.create_task(starter.running(UserServer("stopping"), may_start=True, on_progress=told.append))
        await until(lambda: told == ["Your server is being stopped: waiting until it can be started again."])
        proceed.touch()
        assert await waiting == (STATE, True)


@pytest.mark.asyncio
async def test_ssh_switched_off(site: Site) -> None:
    site.options("off", {"enable_ssh": False})
    async with site.starter() as starter:
        with pytest.raises(SSHNotEnabled, match="enable_ssh"):
            await login(starter, UserServer("off"))
        site.hub.start_server("off", "", {"enable_ssh": False})
        with pytest.raises(SSHNotEnabled, match="without SSH") as caught:
            await login(starter, UserServer("off"))
        assert "http://hub/off" in caught.value.sentence


@pytest.mark.asyncio
async def test_a_start_with_options_of_its_own_and_a_stop(site: Site) -> None:
    target = UserServer("own options", "gpu")
    site.options(target.user, {"enable_ssh": False, "profile": "small"}, "gpu")
    async with site.starter() as starter, site.client() as client:
        state, started = await starter.running(target, may_start=True, on_progress=print, options={"profile": "big"})
        assert (state, started) == (STATE, True)
        assert site.starts(target.user)[-1] == {"enable_ssh": True, "profile": "big", "delay": 0}
        assert await client.stop(target) == ""
        for _ in range(600):
            user = await client.user(target.user)
            assert user is not None
            assert user.servers["gpu"].url.endswith("/user/own%20options/gpu/")
            if not user.servers["gpu"].ready and not user.servers["gpu"].pending:
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("it was not stopped")
        assert "gpu" in user.servers, "it was kept"
        assert await client.stop(target) == "", "it does not run"
        with pytest.raises(KeyUnknown):
            await client.stop(UserServer(target.user, "typo"))
        with pytest.raises(KeyUnknown):
            await client.stop(UserServer("nobody of that name"))


@pytest.mark.asyncio
async def test_answers_of_the_hub_to_a_start_are_told_apart(site: Site, tmp_path: Path) -> None:
    target, start, stop = UserServer("answers"), tmp_path / "start", tmp_path / "stop"
    site.user(target.user)
    async with site.client() as client:
        assert await client.major_version() == site.hub.version[0]
        # On a busy machine even a start without delay takes longer than slow_spawn_timeout.
        assert (await client.start(target, {"stop_until": str(stop)})).kind in ("ready", "pending")
        site.hub.start_server(target.user)
        assert (await client.start(target, {})).kind == "already"
        site.hub.api("DELETE", "users/answers/server")
        assert (await client.start(target, {})).kind == "busy"
        stop.touch()
        site.hub.stop_server(target.user)
        assert (await client.start(target, {"until": str(start)})).kind == "pending"
        assert (await client.start(target, {})).kind == "pending"
        start.touch()
        with pytest.raises(KeyUnknown):
            await client.start(UserServer("nobody at all"), {})


@pytest.mark.asyncio
async def test_tokens_and_what_they_may(site: Site) -> None:
    site.options("owner", {}, server="gpu")
    default, gpu = UserServer("owner"), UserServer("owner", "gpu")
    cases = [
        (None, True, True, True),
        (["access:servers!user=owner"], True, True, False),
        (["access:servers!server=owner/gpu"], False, True, False),
        (["access:servers!server=owner/"], True, False, False),
        (["access:servers!user", "servers!user"], True, True, True),
        (["read:users:name!user"], False, False, False),
    ]
    async with site.client() as client:
        for scopes, opens_default, opens_gpu, starts in cases:
            token = await client.identify(site.hub.token("owner", scopes))
            assert token is not None
            assert (token.name, token.kind) == ("owner", "user")
            assert may(token, "access:servers", default) is opens_default, scopes
            assert may(token, "access:servers", gpu) is opens_gpu, scopes
            assert may_start(token, default) is starts, scopes
            assert not may(token, "access:servers", UserServer("alice"))
        service = await client.identify(site.token)
        assert service is not None
        assert (service.name, service.kind) == ("gateway", "service")
        for wrong in ("wrong", site.token[:-1], "0" * 32):
            assert await client.identify(wrong) is None


@pytest.mark.asyncio
async def test_a_revoked_token_is_none_at_once(site: Site) -> None:
    site.user("revoker")
    token = site.hub.token("revoker")
    async with site.client() as client:
        assert await client.identify(token) is not None
        for found in site.hub.api("GET", "users/revoker/tokens").json["api_tokens"]:
            assert site.hub.api("DELETE", f"users/revoker/tokens/{found['id']}").status == 204
        assert await client.identify(token) is None


@pytest.mark.asyncio
async def test_activity_reaches_the_hub(site: Site) -> None:
    name = "act ive"
    site.options(name, {}, server="gpu")
    when = (datetime.now(timezone.utc) + timedelta(minutes=10)).replace(microsecond=0)
    async with site.client() as client:
        await client.report_activity(UserServer(name, "gpu"), when)
        model = site.hub.server_model(name, "gpu")
        assert model is not None
        assert datetime.fromisoformat(model["last_activity"].replace("Z", "+00:00")) == when
        await client.report_activity(UserServer(name, "gone"), when)
        await client.report_activity(UserServer("nobody at all"), when)


@pytest.mark.asyncio
async def test_what_the_gateway_lacks_is_unavailable_and_named(site: Site) -> None:
    site.user("lacking")
    site.hub.start_server("lacking", "", {"enable_ssh": True})
    target = UserServer("lacking")
    async with site.client("1") as client:
        model = await client.user("lacking")
        assert model is not None
        assert (model.servers[""].ready, model.servers[""].state_known) == (True, False)
        with pytest.raises(HubUnavailable, match="admin:server_state"):
            await ServerStarter(client, lambda _: "").running(target, may_start=True, on_progress=lambda _: None)
        with pytest.raises(HubUnavailable, match="start servers"):
            await client.start(target, {})
    for suffix in ("2", "3"):
        async with site.client(suffix) as client:
            with pytest.raises(HubUnavailable, match="admin:server_state"):
                await client.user("lacking")
            with pytest.raises(HubUnavailable):
                await client.start(target, {})
    assert site.hub.api("GET", f"users/{quote('lacking')}").status == 200
