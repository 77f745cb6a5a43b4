"""Which targets the table runs against: each test here once for every one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ..sidecar.pod import why_not
from ..sidecar.target import sidecar_direct
from .client import Client
from .targets import Target, embedded_direct, find_program, given, openssh_direct
from .through_gateway import through_gateway


def through_the_tunnel(folder: Path) -> AbstractContextManager[Target]:
    from ..tunnel.ways import tunnel_command  # here: what that imports is not in the containers in which the table runs too

    return through_gateway(folder, "openssh", proxy_command=tunnel_command)


TARGETS: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
    "openssh-direct": openssh_direct,
    "embedded-direct": embedded_direct,
    "sidecar-direct": lambda folder: sidecar_direct(),
    "gateway-openssh": lambda folder: through_gateway(folder, "openssh"),
    "gateway-asyncssh": lambda folder: through_gateway(folder, "asyncssh"),
    "tunnel-openssh": through_the_tunnel,
}
QUICK = "gateway-openssh"
GIVEN = os.environ.get("JHSSH_TARGET", "")
"""where the table runs beside one user server, in its container (tests/kubernetes): the file that says how to get into it"""
if GIVEN:
    TARGETS = {"given": lambda folder: given(Path(GIVEN))}


@pytest.fixture(scope="session", params=list(TARGETS))
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if "openssh" in request.param and find_program("sshd") is None:
        pytest.skip("OpenSSH's sshd is not installed")
    if "sidecar" in request.param and why_not():
        pytest.skip(why_not())
    with TARGETS[request.param](tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def client(target: Target) -> Iterator[Client]:
    made = Client(target)
    yield made
    made.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The direct targets are quick checks: what takes long is tried the whole way, where it matters.

    Where only quick tests are wanted, one target stands for all.
    """
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    skipped = {item for item in ours if "-direct" in item.name and item.get_closest_marker("slow")}
    if skipped and os.environ.get("JHSSH_DIRECT") != "all":
        config.hook.pytest_deselected(items=list(skipped))
        items[:] = [item for item in items if item not in skipped]
    for item in ours:
        if f"[{QUICK}" not in item.name:
            item.add_marker(pytest.mark.slow)
