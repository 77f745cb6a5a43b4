from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.objects import Server
from traitlets import TraitError

from jhssh_ext.errors import SSHNotEnabled
from jhssh_ext.hub import host_keys, options_form, spawner_mixin
from jhssh_ext.identifiers import AUDIENCE, HOST_KEY, PRINCIPAL, opaque_id
from jhssh_ext.payloads import ServerEnvironment, ServerState

from .conftest import COOKIE_SECRET, PlainSpawner, SSHPlainSpawner, make_public_key

MakeSpawner = Callable[..., Any]
HUB_ID = host_keys.derive_hub_id(host_keys.derive_secret(COOKIE_SECRET))


def environment(spawner: Any) -> ServerEnvironment:
    found = ServerEnvironment.from_environ(spawner.get_env())
    assert found is not None
    return found


async def started(spawner: Any) -> ServerState:
    """Starts as the Hub does, and gives the state that the gateway sees."""
    spawner.clear_state()
    await spawner.start()
    state = ServerState.from_state(json.loads(json.dumps(spawner.get_state())))
    assert state is not None
    return state


# ---- the decision ----


@pytest.mark.parametrize("override", [None, "optional", "always", "never"])
@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("saved", [{}, {"enable_ssh": True}, {"enable_ssh": False}, {"enable_ssh": "false"}, {"enable_ssh": [1]}])
@pytest.mark.parametrize("policy", ["optional", "always", "never"])
@pytest.mark.asyncio
async def test_what_counts_is_decided_when_the_server_starts(
    make_spawner: MakeSpawner, policy: str, saved: dict[str, Any], default: bool, override: str | None
) -> None:
    spawner = make_spawner(user_options=saved, config={"ssh_policy": policy, "ssh_default": default})
    if override:
        spawner._apply_overrides({"ssh_policy": override})
    counts = override or policy
    choice = saved.get("enable_ssh")
    wanted = choice if isinstance(choice, bool) else default
    on = counts == "always" or (counts == "optional" and wanted)

    await spawner.start()
    found = ServerEnvironment.from_environ(spawner.env_given)
    assert found is not None
    assert found.enabled is on
    assert ("jhssh" in spawner.get_state()) is on
    if not on:
        reason = SSHNotEnabled.default_sentence if counts == "optional" else options_form.NEVER_SENTENCE
        assert found == ServerEnvironment(enabled=False, disabled_because=reason, can_be_enabled=counts == "optional")


@pytest.mark.asyncio
async def test_group_overrides_count(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner(config={"ssh_policy": "never"})
    spawner.user.orm_user.groups = []
    spawner.group_overrides = {"a": {"groups": ["ssh"], "spawner_override": {"ssh_policy": "always"}}}
    await spawner.apply_group_overrides()
    assert not environment(spawner).enabled

    spawner.clear_state()
    spawner.user.__dict__["groups"] = [SimpleNamespace(name="ssh")]
    await spawner.apply_group_overrides()
    assert environment(spawner).enabled


# ---- the environment ----


def test_the_environment_of_a_server(make_spawner: MakeSpawner, user_ca_key: str) -> None:
    config = {
        "ssh_public_host": "hub.example.org",
        "ssh_public_port": 2222,
        "ssh_gateway_url": "http://gateway:8080/services/ssh",
    }
    spawner = make_spawner("alice", "gpu", config=config)
    found = environment(spawner)
    assert found.enabled
    assert found.disabled_because == ""
    assert found.listen_address == "127.0.0.1"
    assert 1024 <= found.listen_port < 65536
    assert found.user_ca_keys == user_ca_key
    assert found.principal == opaque_id(PRINCIPAL, HUB_ID, "alice", "gpu")
    assert found.audience == opaque_id(AUDIENCE, HUB_ID, "alice", "gpu")
    assert len(found.secret) == 64
    assert int(found.secret, 16)
    assert found.gateway_url == "http://gateway:8080/services/ssh/"
    assert (found.connect_host, found.connect_port, found.login_name) == ("hub.example.org", 2222, "alice+gpu")


def test_the_way_over_https_is_told_to_the_server(make_spawner: MakeSpawner) -> None:
    for url in (
        "wss://hub.example.org/services/ssh/tunnel",
        "ws://localhost:65535",
        "ws://192.0.2.7:8000/a%20b/~x/",
        "wss://[2001:db8::1]:8443/services/ssh/tunnel",
    ):
        assert environment(make_spawner(config={"ssh_tunnel_url": url})).tunnel_url == url
    assert environment(make_spawner()).tunnel_url == ""
    for wrong in (
        "https://hub.example.org/", "wss://", "wss:///x", "wss://hub/ -o x", "wss://hub/'x", "wss://hub/\n", "wss://hub:65536/",
        "wss://hub:/", "wss://hub:x/", "wss://hub:0/", "wss://a:1:2/", "wss://[::1", "wss://::1/", "wss://[1:2]/", "wss://1.2.3/x",
        "wss://256.1.1.1/", "wss://a..b/", "wss://.a/", "wss://%41/",
    ):  # fmt: skip
        with pytest.raises(TraitError, match="ssh_tunnel_url"):
            make_spawner(config={"ssh_tunnel_url": wrong})


def test_the_rest_of_the_environment_stays(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    spawner.environment = {"FROM_ADMIN": "1", "JHSSH_PRINCIPAL": "not ours"}
    env = spawner.get_env()
    assert env["FROM_ADMIN"] == "1"
    assert env["JUPYTERHUB_USER"] == "alice"
    assert env["JHSSH_PRINCIPAL"] == opaque_id(PRINCIPAL, HUB_ID, "alice", "")
    assert all(isinstance(value, str) for name, value in env.items() if name.startswith("JHSSH_"))


def test_one_spawn_has_one_environment(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    assert environment(spawner) == environment(spawner)


@pytest.mark.asyncio
async def test_each_spawn_has_its_own_secret(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    first, second = await started(spawner), await started(spawner)
    assert first.secret != second.secret
    assert first.spawn != second.spawn
    assert first.host_key == second.host_key
    assert first.url == second.url


@pytest.mark.asyncio
async def test_a_start_without_clear_state_has_its_own_secret_too(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    first = await started(spawner)
    await spawner.start()
    assert spawner.get_state()["jhssh"]["secret"] != first.secret


@pytest.mark.asyncio
async def test_nothing_is_shared_by_users_or_servers(make_spawner: MakeSpawner) -> None:
    states = [await started(make_spawner(*who)) for who in (("alice", ""), ("bob", ""), ("alice", "gpu"))]
    for of in ("secret", "spawn", "host_key", "url"):
        assert len({getattr(state, of) for state in states}) == 3
    assert "jhssh" not in make_spawner("carol").get_state()


@pytest.mark.parametrize("name", ["a b", "x\ny", "*", "alice+gpu", "#", "'; rm -rf /", "\u00e9", "a\x1b[2J", "../b"])
@pytest.mark.asyncio
async def test_odd_user_names_leave_only_as_opaque_ids(make_spawner: MakeSpawner, name: str) -> None:
    spawner = make_spawner(name)
    state = await started(spawner)
    env = {key: value for key, value in spawner.env_given.items() if key.startswith("JHSSH_")}
    typed = env.pop("JHSSH_LOGIN_NAME")
    assert typed == (name if name.isprintable() and "/" not in name else "")
    assert env["JHSSH_PRINCIPAL"] == opaque_id(PRINCIPAL, HUB_ID, name, "")
    assert len(env["JHSSH_PRINCIPAL"]) == 64
    assert env["JHSSH_PRINCIPAL"].isalnum()
    url = state.url
    assert url.startswith("http://127.0.0.1:8888/user/")
    assert url.endswith("/")
    assert url.isascii()
    assert url.isprintable()
    assert url.count("/") == 5
    assert " " not in url


# ---- the user CA ----


def test_keys_of_file_and_list_count_together(make_spawner: MakeSpawner, tmp_path: Path, user_ca_key: str) -> None:
    new = make_public_key()
    (tmp_path / "ca.pub").write_text(f"{new} new\n{user_ca_key} old\n")
    spawner = make_spawner(config={"ssh_user_ca_file": str(tmp_path / "ca.pub")})
    assert environment(spawner).user_ca_keys == f"{new}\n{user_ca_key}"


def test_a_rotated_file_counts_at_the_next_start(make_spawner: MakeSpawner, tmp_path: Path) -> None:
    file, new = tmp_path / "ca.pub", make_public_key()
    file.write_text(make_public_key())
    spawner = make_spawner(config={"ssh_user_ca_file": str(file), "ssh_user_ca_keys": []})
    spawner.get_env()
    file.write_text(new)
    spawner.clear_state()
    assert environment(spawner).user_ca_keys == new


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "ssh_user_ca_file"),
        ("missing", "can't be read"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "holds a private key"),
        ("rubbish\n", "line 1 of"),
    ],
)
@pytest.mark.asyncio
async def test_without_a_user_ca_the_server_starts_and_the_admin_is_told_once(
    make_spawner: MakeSpawner, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, told: str
) -> None:
    file = tmp_path / "ca.pub"
    if content and content != "missing":
        file.write_text(content)
    spawner = make_spawner(config={"ssh_user_ca_keys": [], "ssh_user_ca_file": str(file) if content else ""})
    spawner.log = logging.getLogger("test_hub")
    for _ in range(2):
        spawner.clear_state()
        assert await spawner.start() == ("127.0.0.1", 8888)
    assert ServerEnvironment.from_environ(spawner.env_given) == ServerEnvironment(
        enabled=False, disabled_because=spawner_mixin.NOT_SET_UP_SENTENCE
    )
    assert "jhssh" not in spawner.get_state()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert told in record.getMessage()


# ---- secrets and ids ----


def test_host_keys_are_the_same_after_a_restart_of_the_hub(make_spawner: MakeSpawner) -> None:
    def public(**how: Any) -> str:
        spawner = make_spawner(**how)
        spawner.get_env()
        return str(spawner._ssh_spawn.host_key)

    assert public() == public()
    user = make_spawner().user
    seed = host_keys.host_key_seed(
        host_keys.derive_secret(COOKIE_SECRET),
        opaque_id(HOST_KEY, HUB_ID, "alice", ""),
        host_keys.created_text(user.created),
        "",
    )
    assert public() == host_keys.host_key(seed).public
    others = [
        public(config={"ssh_host_key_epoch": "2"}),
        public(config={"ssh_secret": "another secret of more than 32 bytes"}),
        public(config={"ssh_hub_id": "hub-2"}),
        public(server="gpu"),
        public(name="bob"),
    ]
    assert len({public(), *others}) == 6


def test_a_user_made_anew_gets_another_host_key(make_spawner: MakeSpawner, session_factory: Any) -> None:
    first = make_spawner()
    first.get_env()
    db = first.user.db
    db.delete(first.user.orm_user)
    db.commit()
    second = make_spawner()
    second.get_env()
    assert second._ssh_spawn.host_key != first._ssh_spawn.host_key


def test_a_secret_may_be_text_or_bytes(make_spawner: MakeSpawner) -> None:
    text = "0123456789abcdef0123456789abcdef"
    for value in (text, text.encode()):
        spawner = make_spawner(config={"ssh_secret": value})
        assert environment(spawner).enabled
        assert spawner._ssh_spawn.hub_id == host_keys.derive_hub_id(text.encode())


def test_a_short_secret_is_refused(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    with pytest.raises(TraitError, match="at least 32 bytes"):
        spawner.ssh_secret = "short"


@pytest.mark.parametrize("cookie_secret", [None, b"short"])
def test_without_a_cookie_secret_ssh_is_off(make_spawner: MakeSpawner, cookie_secret: bytes | None) -> None:
    spawner = make_spawner()
    spawner.user.settings["cookie_secret"] = cookie_secret
    assert environment(spawner).disabled_because == spawner_mixin.NOT_SET_UP_SENTENCE


@pytest.mark.asyncio
async def test_the_hub_id_of_the_admin_is_used(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner(config={"ssh_hub_id": "my hub"})
    assert (await started(spawner)).hub_id == "my hub"
    assert spawner.env_given["JHSSH_AUDIENCE"] == opaque_id(AUDIENCE, "my hub", "alice", "")


# ---- the gateway's URL ----


@pytest.mark.parametrize(
    ("services", "config", "url"),
    [
        ({}, {}, ""),
        ({"ssh": None}, {}, ""),
        ({"ssh": "http://127.0.0.1:9999"}, {}, "http://127.0.0.1:9999/services/ssh/"),
        ({"gateway": "http://127.0.0.1:9999"}, {}, ""),
        ({"gateway": "http://gw:80"}, {"ssh_gateway_service": "gateway"}, "http://gw:80/services/gateway/"),
        ({"ssh": "http://127.0.0.1:9999"}, {"ssh_gateway_url": "https://gw.example.org/ssh"}, "https://gw.example.org/ssh/"),
    ],
)
def test_the_gateway_is_found_among_the_hubs_services(
    make_spawner: MakeSpawner, services: dict[str, Any], config: dict[str, Any], url: str
) -> None:
    def server(name: str, url: str | None) -> Server | None:
        return Server.from_url(f"{url}/services/{name}/") if url else None

    spawner = make_spawner(config=config)
    spawner.user.settings["services"] = {name: SimpleNamespace(server=server(name, url)) for name, url in services.items()}
    assert environment(spawner).gateway_url == url


# ---- the address ----


@pytest.mark.parametrize(
    ("answer", "internal_ssl", "url"),
    [
        (("127.0.0.1", 8888), False, "http://127.0.0.1:8888/user/alice/"),
        (("10.0.0.7", 8888), True, "https://10.0.0.7:8888/user/alice/"),
        (("0.0.0.0", 8888), False, "http://127.0.0.1:8888/user/alice/"),
        (("", 8888), False, "http://127.0.0.1:8888/user/alice/"),
        (("fd00::7", 8888), False, "http://[fd00::7]:8888/user/alice/"),
        ("http://jupyter-alice:8888", False, "http://jupyter-alice:8888/user/alice/"),
        ("https://10.0.0.7", False, "https://10.0.0.7:443/user/alice/"),
        ("http://[fd00::7]:1234/elsewhere", True, "http://[fd00::7]:1234/user/alice/"),
    ],
)
@pytest.mark.asyncio
async def test_the_url_is_what_start_returned(make_spawner: MakeSpawner, answer: Any, internal_ssl: bool, url: str) -> None:
    spawner = make_spawner()
    spawner.answer, spawner.internal_ssl = answer, internal_ssl
    assert (await started(spawner)).url == url


@pytest.mark.parametrize(
    ("listen", "answer", "host"),
    [
        ("127.0.0.1", ("127.0.0.1", 8888), "127.0.0.1"),
        ("127.0.0.1", ("10.0.0.7", 8888), "127.0.0.1"),
        ("0.0.0.0", ("10.0.0.7", 8888), "10.0.0.7"),
        ("::", "http://jupyter-alice:8888", "jupyter-alice"),
        ("0.0.0.0", ("0.0.0.0", 8888), "127.0.0.1"),
        ("10.9.9.9", ("127.0.0.1", 8888), "10.9.9.9"),
    ],
)
@pytest.mark.asyncio
async def test_the_address_of_sshd(make_spawner: MakeSpawner, listen: str, answer: Any, host: str) -> None:
    spawner = make_spawner(config={"ssh_listen_address": listen, "ssh_port": 2222, "ssh_user": "jovyan"})
    spawner.answer = answer
    state = await started(spawner)
    assert (state.host, state.port, state.user) == (host, 2222, "jovyan")
    assert spawner.env_given["JHSSH_LISTEN_ADDRESS"] == listen
    assert spawner.env_given["JHSSH_LISTEN_PORT"] == "2222"


@pytest.mark.asyncio
async def test_a_free_port_is_the_same_in_environment_and_state(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    state = await started(spawner)
    assert spawner.env_given["JHSSH_LISTEN_PORT"] == str(state.port)
    assert state.port != spawner.port


def test_a_free_port_is_not_the_user_servers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        busy = probe.getsockname()[1]
        assert spawner_mixin._free_port("127.0.0.1", 0) != busy
    assert spawner_mixin._free_port("203.0.113.1", 0) > 0


class AsyncHook(SSHPlainSpawner):
    async def get_ssh_address(self) -> tuple[str, int]:
        return "10.1.2.3", self.ssh_listen_port + 1

    def get_ssh_user(self) -> str:
        return "from-hook"


class PlainHook(SSHPlainSpawner):
    def get_ssh_address(self) -> tuple[str, int]:  # type: ignore[override]
        return "10.1.2.3", self.ssh_listen_port + 1

    def get_ssh_user(self) -> str:
        return "from-hook"


@pytest.mark.parametrize("spawner_class", [AsyncHook, PlainHook])
@pytest.mark.asyncio
async def test_the_hooks_say_where_and_who(make_spawner: MakeSpawner, spawner_class: type[Any]) -> None:
    state = await started(make_spawner(spawner_class=spawner_class, config={"ssh_port": 2222}))
    assert (state.host, state.port, state.user) == ("10.1.2.3", 2223, "from-hook")


class Raises(SSHPlainSpawner):
    async def get_ssh_address(self) -> tuple[str, int]:
        raise RuntimeError("no such container")


class AnswersNonsense(SSHPlainSpawner):
    async def get_ssh_address(self) -> Any:
        return "10.1.2.3", 70000


class NeverAnswers(SSHPlainSpawner):
    async def get_ssh_address(self) -> tuple[str, int]:
        await asyncio.Event().wait()
        raise AssertionError


class OddScheme(SSHPlainSpawner):
    answer = "http+unix://%2Frun%2Falice"


@pytest.mark.parametrize("spawner_class", [Raises, AnswersNonsense, NeverAnswers, OddScheme])
@pytest.mark.asyncio
async def test_without_an_address_the_server_runs_without_ssh(
    make_spawner: MakeSpawner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, spawner_class: type[Any]
) -> None:
    monkeypatch.setattr(spawner_mixin, "ADDRESS_TIMEOUT", 0.01)
    spawner = make_spawner("x\ny", spawner_class=spawner_class)
    spawner.log = logging.getLogger("test_hub")
    assert await spawner.start() == spawner.answer
    assert "jhssh" not in spawner.get_state()
    (record,) = caplog.records
    assert record.getMessage() == "No SSH for x y/: its address could not be found. Mend get_ssh_address."
    assert spawner.env_given["JHSSH_SECRET"] not in caplog.text


class FailsToStart(PlainSpawner):
    async def start(self) -> Any:
        self.get_env()
        raise RuntimeError("no room")


class SSHFailsToStart(spawner_mixin.SSHSpawnerMixin, FailsToStart):
    pass


@pytest.mark.asyncio
async def test_a_failed_start_fails_as_before(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner(spawner_class=SSHFailsToStart)
    with pytest.raises(RuntimeError, match="no room"):
        await spawner.start()
    assert "jhssh" not in spawner.get_state()


class MakesNoEnvironment(PlainSpawner):
    async def start(self) -> Any:
        return self.answer


class SSHMakesNoEnvironment(spawner_mixin.SSHSpawnerMixin, MakesNoEnvironment):
    pass


@pytest.mark.asyncio
async def test_a_server_with_an_old_environment_has_no_state(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner(spawner_class=SSHMakesNoEnvironment)
    assert await spawner.start() == ("127.0.0.1", 8888)
    assert "jhssh" not in spawner.get_state()
    assert spawner.ssh_listen_port == 0


# ---- the state ----


@pytest.mark.asyncio
async def test_the_state_is_kept_through_a_restart_of_the_hub(make_spawner: MakeSpawner) -> None:
    before = make_spawner()
    state = await started(before)
    after = make_spawner()
    after.load_state(json.loads(json.dumps(before.get_state())))
    assert ServerState.from_state(after.get_state()) == state
    after.get_env()
    assert ServerState.from_state(after.get_state()) == state


@pytest.mark.asyncio
async def test_changed_settings_do_not_change_the_state_of_a_running_server(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    state = await started(spawner)
    spawner.ssh_policy, spawner.ssh_hub_id, spawner.ssh_port = "never", "other", 1
    assert ServerState.from_state(spawner.get_state()) == state


@pytest.mark.asyncio
async def test_the_state_is_cleared(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    await started(spawner)
    spawner.clear_state()
    assert "jhssh" not in spawner.get_state()
    assert spawner.ssh_listen_port == 0


@pytest.mark.parametrize("found", ["text", {"host": "h"}, 7])
def test_a_state_of_another_shape_is_dropped(make_spawner: MakeSpawner, found: Any) -> None:
    spawner = make_spawner()
    spawner.load_state({"jhssh": found})
    assert "jhssh" not in spawner.get_state()
