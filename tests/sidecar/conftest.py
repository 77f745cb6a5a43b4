"""One pod for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ..conformance.client import Client
from .pod import Pod, pod, why_not
from .target import target_of


@pytest.fixture(scope="session")
def shared_pod() -> Iterator[Pod]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with pod() as made:
        yield made


@pytest.fixture
def own_pod() -> Iterator[Pod]:
    """For tests that end parts of it."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with pod() as made:
        yield made


@pytest.fixture
def client_of() -> Iterator[Callable[[Pod], Client]]:
    made: list[Client] = []

    def make(of: Pod) -> Client:
        made.append(Client(target_of(of)))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(shared_pod: Pod, client_of: Callable[[Pod], Client]) -> Client:
    return client_of(shared_pod)
