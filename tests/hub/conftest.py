"""Real JupyterHub users and spawners over a database in memory; no Hub runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jupyterhub import orm
from jupyterhub.objects import Hub, Server
from jupyterhub.spawner import Spawner
from jupyterhub.user import User
from jupyterhub.utils import url_path_join
from traitlets.config import Config

from jhssh_ext.hub import SSHSpawnerMixin

COOKIE_SECRET = bytes(range(32))


def make_public_key() -> str:
    key = Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


class PlainSpawner(Spawner):
    """A spawner that starts nothing: it makes the environment as any does, and returns ``answer``."""

    answer: Any = ("127.0.0.1", 8888)
    env_given: dict[str, str] | None = None

    async def start(self) -> Any:
        self.env_given = self.get_env()
        return self.answer

    async def stop(self, now: bool = False) -> None:
        return None

    async def poll(self) -> int | None:
        return None


class SSHPlainSpawner(SSHSpawnerMixin, PlainSpawner):
    pass


@pytest.fixture(scope="module")
def session_factory() -> Iterator[Any]:
    factory = orm.new_session_factory("sqlite:///:memory:")
    yield factory
    factory.kw["bind"].dispose()


@pytest.fixture
def user_ca_key() -> str:
    return make_public_key()


@pytest.fixture
def make_user(session_factory: Any, user_ca_key: str) -> Iterator[Callable[..., User]]:
    """Makes a user whose spawners are of the class and configuration given; SSH is set up, and on unless configured otherwise."""
    db = session_factory()

    def make(name: str = "alice", spawner_class: type[Spawner] = SSHPlainSpawner, config: dict[str, Any] | None = None) -> User:
        found = orm.User.find(db, name)
        if found is None:
            found = orm.User(name=name)
            db.add(found)
            db.commit()
        settings = {
            "spawner_class": spawner_class,
            "cookie_secret": COOKIE_SECRET,
            "hub": Hub(),
            "internal_ssl": False,
            "config": Config({"SSHSpawnerMixin": {"ssh_default": True, "ssh_user_ca_keys": [user_ca_key], **(config or {})}}),
        }
        return User(found, settings, db)

    yield make
    for user in db.query(orm.User):
        db.delete(user)
    db.commit()
    db.close()


@pytest.fixture
def make_spawner(make_user: Callable[..., User]) -> Callable[..., Any]:
    """Makes a new spawner of a user's server, as the Hub does after each restart."""

    def make(name: str = "alice", server: str = "", user_options: Any = None, **how: Any) -> Any:
        user = make_user(name, **how)
        # JupyterHub 6 made a method of its own for a server that is new.
        get_spawner = getattr(user, "get_or_create_spawner", user.get_spawner)
        spawner = get_spawner(server, *([server] if get_spawner != user.get_spawner else []))
        orm_server = orm.Server(base_url=url_path_join(user.base_url, server, "/"))
        user.db.add(orm_server)
        user.db.commit()
        spawner.server = Server(orm_server=orm_server)
        if user_options is not None:
            spawner.user_options = user_options
        return spawner

    return make
