from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner

from jhssh_ext.hub import SSHSpawnerMixin
from jhssh_ext.hub.local_spawners import SSHLocalProcessSpawner, SSHSimpleLocalProcessSpawner


def test_they_are_found_by_name() -> None:
    found = {entry.name: entry for entry in entry_points(group="jupyterhub.spawners")}
    assert found["jhssh-local"].load() is SSHLocalProcessSpawner
    assert found["jhssh-simple"].load() is SSHSimpleLocalProcessSpawner


@pytest.mark.parametrize(
    ("spawner_class", "base"),
    [(SSHLocalProcessSpawner, LocalProcessSpawner), (SSHSimpleLocalProcessSpawner, SimpleLocalProcessSpawner)],
)
def test_the_mixin_stands_before_the_spawner(spawner_class: type[Any], base: type[Any]) -> None:
    order = spawner_class.__mro__
    assert order.index(SSHSpawnerMixin) < order.index(base)


def test_a_real_users_server_runs_under_their_account(make_spawner: Callable[..., Any]) -> None:
    assert make_spawner("alice", spawner_class=SSHLocalProcessSpawner).get_ssh_user() == "alice"


def test_a_simple_server_runs_under_the_hubs_account(make_spawner: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make_spawner("alice", spawner_class=SSHSimpleLocalProcessSpawner)
    assert spawner.get_ssh_user() == pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 3999999999)
    assert spawner.get_ssh_user() == "3999999999"
