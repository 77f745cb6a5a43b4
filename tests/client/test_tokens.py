"""Where tokens are kept."""

from __future__ import annotations

import json
import sys
import threading
from types import ModuleType

import pytest

from jhssh_ext.client import hubs, tokens

from ..fakes.gateway_api import FakeGateway
from .conftest import Laptop

KEY = "https://hub.example.org/services/ssh/"


class Ring(ModuleType):
    """A keyring, as the package shows it."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.backends = ModuleType("keyring.backends")
        self.fail = ModuleType("keyring.backends.fail")
        self.fail.Keyring = type("Keyring", (), {})  # type: ignore[attr-defined]
        self.backends.fail = self.fail  # type: ignore[attr-defined]
        self.kept: dict[tuple[str, str], str] = {}
        self.broken = False
        self.unlocked = threading.Event()
        self.unlocked.set()
        self.backend: object = self

    def get_keyring(self) -> object:
        return self.backend

    def _check(self) -> None:
        assert self.unlocked.wait(30)
        if self.broken:
            raise RuntimeError("the keyring is locked")

    def set_password(self, service: str, key: str, token: str) -> None:
        self._check()
        self.kept[service, key] = token

    def get_password(self, service: str, key: str) -> str | None:
        self._check()
        return self.kept.get((service, key))

    def delete_password(self, service: str, key: str) -> None:
        self._check()
        del self.kept[service, key]


@pytest.fixture
def ring(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> Ring:
    made = Ring()
    monkeypatch.setitem(sys.modules, "keyring", made)
    monkeypatch.setitem(sys.modules, "keyring.backends", made.backends)
    monkeypatch.setitem(sys.modules, "keyring.backends.fail", made.fail)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    return made


def test_in_the_keyring(ring: Ring) -> None:
    assert tokens.store(KEY, "secret") == "keyring"
    assert not tokens.tokens_file().exists()
    assert tokens.load(KEY) == "secret"
    tokens.forget(KEY)
    assert ring.kept == {}
    assert tokens.load(KEY) == ""
    tokens.forget(KEY)  # a backend raises where there is nothing


def test_a_keyring_that_waits_is_not_waited_for(
    ring: Ring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when it asks for its password, and nobody sits there."""
    monkeypatch.setattr(tokens, "PATIENCE", 0.1)
    ring.unlocked.clear()
    assert tokens.load(KEY) == ""
    assert tokens.store(KEY, "secret") == str(tokens.tokens_file())
    assert tokens.load(KEY) == "secret"
    tokens.forget(KEY)
    assert not tokens.load(KEY)
    assert "keyring did not answer" in capsys.readouterr().err
    ring.unlocked.set()


def test_a_keyring_that_fails_is_no_failure(ring: Ring) -> None:
    ring.broken = True
    assert tokens.store(KEY, "secret") == str(tokens.tokens_file())
    assert tokens.load(KEY) == "secret"
    tokens.forget(KEY)
    assert tokens.load(KEY) == ""


def test_a_keyring_that_forgets_is_none(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """As keyring.backends.null does."""
    monkeypatch.setattr(ring, "set_password", lambda *_arguments: None)
    assert tokens.store(KEY, "secret") == str(tokens.tokens_file())
    assert tokens.load(KEY) == "secret"


def test_what_is_in_the_keyring_is_no_longer_in_the_file(ring: Ring) -> None:
    ring.broken = True
    tokens.store(KEY, "old")
    ring.broken = False
    tokens.store(KEY, "new")
    assert "old" not in tokens.tokens_file().read_text()
    assert tokens.load(KEY) == "new"


@pytest.mark.parametrize("reason", ["no backend", "no session bus", "not installed"])
def test_no_keyring(ring: Ring, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    if reason == "no backend":
        ring.backend = ring.fail.Keyring()
    elif reason == "no session bus":
        monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    else:
        monkeypatch.setitem(sys.modules, "keyring", None)
    assert tokens.store(KEY, "secret") == str(tokens.tokens_file())
    assert ring.kept == {}


def test_a_file_of_another_is_reported(laptop: Laptop) -> None:
    tokens.store(KEY, "secret")
    tokens.tokens_file().write_text("[]")
    done = laptop.run("logout")
    assert done.status == 3  # no hub is known
    with pytest.raises(tokens.hubs.Failure, match=r"tokens\.json is damaged"):
        tokens.load(KEY)


def test_two_accounts_on_one_hub_have_a_token_each(laptop: Laptop, fake: FakeGateway) -> None:
    laptop.log_in(fake, "--name", "work")
    laptop.log_in(fake, "--name", "private")
    work, private = (tokens.load(hubs.choose(name).token_key) for name in ("work", "private"))
    assert [fake.tokens[work], fake.tokens[private]] == ["good", "good"]
    laptop.good("logout", "--hub", "private")
    assert fake.revoked == [private]
    assert json.loads(tokens.tokens_file().read_text()) == {hubs.choose("work").token_key: work}
    laptop.good("servers", "list", "--hub", "work")


def test_another_login_to_a_hub_leaves_no_token_of_the_one_before(laptop: Laptop, fake: FakeGateway) -> None:
    own = "0123456789abcdef0123456789abcdef"
    hubs.save(hubs.Hub("hub", f"{fake.url}/", hubs.TOKEN, "alice"))
    tokens.store(hubs.choose().token_key, own)
    laptop.log_in(fake)
    assert own not in tokens.tokens_file().read_text()
    laptop.good("logout")
    assert json.loads(tokens.tokens_file().read_text()) == {}
