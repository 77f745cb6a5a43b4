"""Fixtures of the end-to-end tests: one Hub of each supported version for the run, each with a gateway process."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from sqlalchemy import create_engine, make_url, text

from .harness.hub import VENVS, Hub
from .harness.packages import Environment, build
from .harness.postgresql import running as postgresql_running
from .harness.processes import RUN, describe, end_marked
from .harness.ssh import KeyPair, SSHClient, make_key

HUB_VERSIONS = ("hub6", "hub5")


def pytest_configure(config: pytest.Config) -> None:
    """A run that is ended by SIGTERM tears its fixtures down as one that is ended by Ctrl-C does: no Hub outlives it."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def pytest_unconfigure(config: pytest.Config) -> None:
    """A worker (pytest-xdist) whose run is broken off is killed in the middle of its fixtures: the main process cleans up."""
    if not hasattr(config, "workerinput"):
        end_marked(RUN)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a Hub and its gateway logged last belongs to a failure: of a run elsewhere its output is all there is."""
    report = yield
    if report.failed:
        for hub in getattr(item, "funcargs", {}).values():
            if isinstance(hub, Hub):
                report.sections.append(("ends of its logs", hub.logs()))
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from .harness.scheduler import FolderByFolder  # here, since the pods of tests/kubernetes have no xdist

    config.option.loadscopereorder = False  # in the order of their names: the folders with few tests are the long ones
    return FolderByFolder(config, log)  # type: ignore[arg-type]


def python_of(version: str) -> Path:
    """The Python with that JupyterHub; skips the test by name where it is missing."""
    python = VENVS[version]
    if not python.exists():
        pytest.skip(f"{version}: no {python.parent.parent.name} here; `make install` makes it")
    return python


def running_hub(version: str, folder: Path) -> Iterator[Hub]:
    hub = Hub(folder, python_of(version))
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()
        left = hub.processes()
        assert not left, describe(left)


@pytest.fixture(scope="session")
def hub6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """JupyterHub 6.1 with a gateway; shared by all tests: use user names of your own where state matters."""
    yield from running_hub("hub6", tmp_path_factory.mktemp("hub6"))


@pytest.fixture(scope="session")
def hub5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """JupyterHub 5.5 with a gateway, as z2jh ships it."""
    yield from running_hub("hub5", tmp_path_factory.mktemp("hub5"))


@pytest.fixture(scope="session", params=HUB_VERSIONS)
def any_hub(request: pytest.FixtureRequest) -> Hub:
    """Each supported Hub in turn."""
    hub = request.getfixturevalue(request.param)
    assert isinstance(hub, Hub)
    return hub


@pytest.fixture
def new_hub(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Makes Hubs of the test's own (not started): ``hub = new_hub("hub5", managed=True)``. All are stopped in the end."""
    hubs: list[Hub] = []

    def make(version: str = "hub6", **keywords: object) -> Hub:
        hubs.append(Hub(tmp_path / f"hub-{len(hubs)}", python_of(version), **keywords))  # type: ignore[arg-type]
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.stop()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a PostgreSQL that all tests share."""
    with postgresql_running() as url:
        yield url


@pytest.fixture
def postgresql(postgresql_server: str) -> Iterator[str]:
    """URL of an empty PostgreSQL database of the test's own."""
    name = f"test_{secrets.token_hex(6)}"
    server = create_engine(postgresql_server, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(postgresql_server).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@pytest.fixture(scope="session")
def a_key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    """A key pair for tests that need just one."""
    return make_key(tmp_path_factory.mktemp("key") / "id_ed25519")


def register_key(hub: Hub, user: str, key: KeyPair, server: str = "") -> None:
    """Through the user server's own REST API; the server must run."""
    began = time.monotonic()
    answer = hub.server_api("POST", user, "publickey", {"public_key": key.public}, server=server)
    assert answer.status in (201, 409), answer
    if time.monotonic() - began > 1.5:
        time.sleep(5)  # the server does not wait for a gateway that is slow to take it


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., SSHClient]:
    """Makes clients of a Hub's gateway: ``client(hub, "alice", key=key)`` or ``client(hub, "alice", password=token)``."""
    made: list[SSHClient] = []

    def make(hub: Hub, user: str, **keywords: object) -> SSHClient:
        assert hub.gateway is not None
        folder = tmp_path / f"client-{len(made)}"
        gateway = hub.gateway
        made.append(
            SSHClient(folder, port=gateway.ssh_port, host_key=gateway.host_key, user=user, mark=hub.mark, **keywords)  # type: ignore[arg-type]
        )
        return made[-1]

    return make


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel that was built from it."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """An environment that was empty, with a front end and the wheel: ``installed("jupyterlab==4.2.*")``. Made once."""
    made: dict[str, Environment] = {}

    def make(front_end: str) -> Environment:
        if front_end not in made:
            (wheel,) = built.glob("*.whl")
            made[front_end] = Environment.make(tmp_path_factory.mktemp("environment") / "venv")
            made[front_end].install(front_end, wheel)
        return made[front_end]

    return make
