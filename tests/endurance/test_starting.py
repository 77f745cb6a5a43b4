"""A connection starts the server that is stopped, once, and says how it goes; where it can't, a sentence says why."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from ..conftest import register_key
from ..harness.gateway import GatewayProcess
from ..harness.hub import Hub
from ..harness.processes import wait_until
from ..harness.ssh import HOST, KeyPair, SSHClient
from .conftest import spawns

pytestmark = pytest.mark.slow

Clients = Callable[..., SSHClient]
STARTED = b"Pulling the image of "


def run_command(client: SSHClient) -> tuple[int | None, bytes, bytes]:
    done = client.run("echo command-$JUPYTERHUB_USER")
    return done.returncode, done.stdout, done.stderr


def run_shell(client: SSHClient) -> tuple[int | None, bytes, bytes]:
    with client.terminal() as terminal:
        terminal.expect(r"Pulling the image of [^\r]*", timeout=60)
        seen = terminal.match.group()
        terminal.sendline("echo shell-$JUPYTERHUB_USER; exit 3")
        terminal.expect("shell-[a-z]", timeout=60)
        terminal.expect_exact("closed", timeout=60)
        terminal.wait()
        return int(terminal.exitstatus) - 3, b"shell", seen.encode()


def run_sftp(client: SSHClient) -> tuple[int | None, bytes, bytes]:
    done = client.call(["sftp", "-F", str(client.config), HOST], input=b"pwd\n")  # -b would rule out passwords
    return done.returncode, done.stdout, done.stderr


def run_rsync(client: SSHClient) -> tuple[int | None, bytes, bytes]:
    (client.folder / "file").write_text("rsync")
    done = client.rsync("-a", str(client.folder / "file"), f"{HOST}:copy")
    return done.returncode, done.stdout, done.stderr


def test_every_kind_of_client_starts_a_stopped_server(moody: Hub, client: Clients, a_key: KeyPair) -> None:
    user = "heard-kinds"
    by_token = client(moody, user, password=moody.token(user))
    by_key = client(moody, user, key=a_key)
    uses = [(by_token, run_command), (by_key, run_shell), (by_token, run_sftp), (by_key, run_rsync)]
    for number, (one, use) in enumerate(uses, 1):
        status, out, err = use(one)
        assert status == 0, (use.__name__, out, err)
        assert STARTED + user.encode() in err, use.__name__
        assert spawns(moody, user) == number
        if number == 1:
            register_key(moody, user, a_key)
            assert by_key.run("true").returncode == 0  # from now on the gateway has seen it
        moody.stop_server(user)


def test_two_connections_at_the_same_moment_start_it_once(moody: Hub, client: Clients) -> None:
    user = "slow-two"
    one = client(moody, user, password=moody.token(user))
    both = [one.popen("echo here", stdin=subprocess.DEVNULL) for _ in range(2)]
    for child in both:
        out, err = child.communicate(timeout=90)
        assert (child.returncode, out) == (0, b"here\n"), err
        assert STARTED in err
    assert spawns(moody, user) == 1


@pytest.mark.parametrize("user", ["raises-now", "hangs-on"])
def test_failed_spawn_is_told(moody: Hub, client: Clients, user: str) -> None:
    done = client(moody, user, password=moody.token(user)).run("echo here")
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"Your server could not be started." in done.stderr
    assert b"[SPAWN_FAILED]" in done.stderr
    assert spawns(moody, user) == 1
    again = client(moody, user, password=moody.token(user)).run("echo here")
    assert (again.returncode, b"[SPAWN_FAILED]" in again.stderr) == (255, True), again


def test_server_whose_box_is_unticked_is_refused_with_the_page(moody: Hub, client: Clients) -> None:
    user = "unticked"
    moody.start_server(user, options={"enable_ssh": False, "other": 1})
    one = client(moody, user, password=moody.token(user))
    page = f"{moody.url}/hub/spawn/{user} ".encode()
    for state in ("running", "stopped"):
        done = one.run("echo here")
        assert (done.returncode, done.stdout) == (255, b""), state
        assert page in done.stderr, (state, done.stderr)
        assert b"[SSH_NOT_ENABLED]" in done.stderr
        moody.stop_server(user)
    assert spawns(moody, user) == 1


def test_server_whose_policy_is_never_is_refused_with_the_page(moody: Hub, client: Clients) -> None:
    user = "never-ever"
    moody.start_server(user)
    done = client(moody, user, password=moody.token(user)).run("echo here")
    assert (done.returncode, done.stdout) == (255, b"")
    assert f"{moody.url}/hub/spawn/{user} [SSH_NOT_ENABLED]".encode() in done.stderr


def test_pending_stop_is_waited_out(moody: Hub, client: Clients) -> None:
    user = "lingers-long"
    moody.start_server(user)
    one = client(moody, user, password=moody.token(user))
    assert moody.api("DELETE", f"users/{user}/server").status in (202, 204)
    done = one.run("echo here")
    assert (done.returncode, done.stdout) == (0, b"here\n"), done
    assert b"Your server is being stopped" in done.stderr
    assert spawns(moody, user) == 2


def test_spawn_limit_is_waited_out(moody: Hub, client: Clients) -> None:
    first, second = "slower-first", "second"
    moody.create_user(second)
    one = client(moody, second, password=moody.token(second))
    assert moody.request_start(first).status in (201, 202)
    done = one.run("echo here")
    assert (done.returncode, done.stdout) == (0, b"here\n"), done
    assert b"429 POST" in moody.log_file.read_bytes()
    assert moody.running(first)


def test_named_server_is_started_if_it_exists_and_never_created(moody: Hub, client: Clients) -> None:
    user = "named"
    moody.start_server(user, "gpu")
    moody.stop_server(user, "gpu")
    token = moody.token(user)
    done = client(moody, f"{user}+gpu", password=token).run("echo $JUPYTERHUB_SERVER_NAME")
    assert (done.returncode, done.stdout) == (0, b"gpu\n"), done
    assert (spawns(moody, user, "gpu"), spawns(moody, user)) == (2, 0)
    refused = client(moody, f"{user}+cpu", password=token).run("true")
    assert refused.returncode == 255
    assert b"Permission denied" in refused.stderr
    assert moody.server_model(user, "cpu") is None


def test_wait_is_bounded(moody: Hub, client_of: Clients, another_gateway: Callable[..., GatewayProcess]) -> None:
    user = "slower-bound"
    gateway = another_gateway(moody, "c.Gateway.start_timeout = 6\n")
    done = client_of(gateway, user, password=moody.token(user)).run("echo here")
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"Your server was not ready after 6 seconds." in done.stderr
    wait_until(lambda: moody.running(user), 60, what="the spawn goes on all the same")


def test_client_that_leaves_during_the_spawn_disturbs_nobody(moody: Hub, client: Clients) -> None:
    user = "slow-leaver"
    one = client(moody, user, password=moody.token(user))
    leaver = one.popen("echo here", stdin=subprocess.DEVNULL)
    wait_until(lambda: spawns(moody, user) == 1, what="the spawn to begin")
    leaver.kill()
    leaver.communicate(timeout=60)
    done = one.run("echo here")
    assert (done.returncode, done.stdout) == (0, b"here\n"), done
    assert spawns(moody, user) == 1
