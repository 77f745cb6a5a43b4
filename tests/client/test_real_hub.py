"""A user's computer and a real Hub: login in Chromium, and then everything by just the name of a host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from playwright.sync_api import Browser

from ..harness import chromium
from ..harness.hub import Hub
from ..tunnel import ways
from ..tunnel.conftest import node_proxy  # noqa: F401  a fixture
from .conftest import Laptop

pytestmark = pytest.mark.slow
USER = "client-user"
HOST = f"{USER}.hub"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.running() as found:
        yield found


def log_in(laptop: Laptop, hub: Hub, browser: Browser, *options: str, **window: bool) -> None:
    """With a key that is registered, and nothing written for ssh yet. ``window``: as Browser.new_context takes it."""
    page = chromium.log_in(browser, hub, USER, **window)
    arguments = ["-m", "jhssh_ext.client", "login", hub.url, *options]
    login = pexpect.spawn(sys.executable, arguments, env={**os.environ, "TERM": "dumb"}, encoding="utf-8", timeout=30)
    try:
        login.expect(r"Type +([B-Z]{4}-[B-Z]{4})")
        assert login.match is not None
        page.goto(f"{hub.url}/services/ssh/login")
        page.fill("#code", str(login.match[1]))
        page.click("text=Continue")
        page.click("button[value=approve]")
        login.expect("Number that the browser shows")
        login.sendline(page.locator("#number").inner_text())
        login.expect(f"as {USER} until")
        login.expect(pexpect.EOF)
    finally:
        login.close(force=True)
        page.context.close()
    key = laptop.key()
    # ssh looks for keys in the home of the account, not of HOME
    (laptop.ssh / "config").write_text(f'Host *\n    IdentityFile "{key.private}"\n    IdentityAgent none\n')
    laptop.good("keys", "add")


@pytest.fixture
def at_hub(laptop: Laptop, hub6: Hub, browser: Browser) -> Laptop:
    log_in(laptop, hub6, browser)
    return laptop


@pytest.mark.parametrize("way", ["direct", "tunnel"])
def test_everything_by_just_the_name(at_hub: Laptop, hub6: Hub, tmp_path: Path, way: str) -> None:
    at_hub.good("servers", "start")
    at_hub.good("config", "--write", f"--{way}")
    config = str(at_hub.ssh / "config")
    home = hub6.user_home(USER)
    (tmp_path / "a b").write_bytes(os.urandom(100_000))

    def run(*command: str, input: str = "", **environment: str) -> str:
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=90,
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=False,
            **stdin,
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done
        return str(done.stdout)

    assert run("ssh", "-F", config, HOST, "echo in; cat", input="piped") == "in\npiped"
    assert run(
        "ssh", "-F", config, "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ConnectTimeout=20", "-tt", HOST, "tty"
    )
    run("scp", "-F", config, "a b", f"{HOST}:{way}-scp")
    run("rsync", "-a", "-e", f'ssh -F "{config}"', "a b", f"{HOST}:{way}-rsync")
    run("sftp", "-F", config, "-b", "-", HOST, input=f'put "a b" {way}-sftp\n')
    for tool in ("scp", "rsync", "sftp"):
        assert (home / f"{way}-{tool}").read_bytes() == (tmp_path / "a b").read_bytes()
    run(
        "ssh",
        "-F",
        config,
        HOST,
        f"git init -q {way}-repo && cd {way}-repo && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m x",
    )
    git = {"GIT_SSH_COMMAND": f'ssh -F "{config}"', "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    run("git", "clone", "-q", f"{HOST}:{way}-repo", "clone", **git)
    assert "x" in run("git", "-C", "clone", "log", "--format=%s", **git)
    shown = at_hub.good("doctor")
    assert "failed" not in shown
    assert f"ok       login: ssh {HOST} works" in shown


def test_the_wrapped_tools_need_nothing_written(at_hub: Laptop, hub6: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    done = at_hub.process("ssh", HOST, "echo $((6*7)); exit 3")
    assert (done.returncode, done.stdout) == (3, "42\n"), done
    assert at_hub.process("scp", str(tmp_path / "file"), f"{HOST}:wrapped").returncode == 0
    assert (hub6.user_home(USER) / "wrapped").read_text() == "content"
    before = (at_hub.ssh / "config").read_text()
    assert "jhssh" not in before


def test_servers_are_stopped_and_started(at_hub: Laptop, hub6: Hub) -> None:
    at_hub.good("servers", "start")
    assert hub6.running(USER)
    at_hub.good("servers", "stop")
    assert not hub6.running(USER)
    assert at_hub.good("servers", "start", "-o", "enable_ssh:=false").startswith("Your server runs, and SSH is off for it.")
    done = at_hub.run("doctor")
    assert "failed   default server: running, and SSH is off for it" in done.out
    at_hub.good("servers", "stop")
    assert "runs: ssh" in at_hub.good("servers", "start", "-o", "enable_ssh:=true")


def test_logout(at_hub: Laptop, hub6: Hub) -> None:
    at_hub.good("config", "--write")
    token_file = (at_hub.settings / "tokens.json").read_text()
    hubs_file = (at_hub.settings / "hubs.json").read_text()
    at_hub.good("logout")
    (at_hub.settings / "tokens.json").write_text(token_file)  # whoever has copied it
    (at_hub.settings / "hubs.json").write_text(hubs_file)
    done = at_hub.run("keys", "list")
    assert (done.status, "jhssh login" in done.err) == (3, True)


def test_https_with_a_private_ca(
    laptop: Laptop,
    new_hub: Callable[..., Hub],
    browser: Browser,
    node_proxy: Path,  # noqa: F811  the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ways.way("node-https", tmp_path, node_proxy) as https:
        hub = new_hub()
        https.prepare(hub)
        hub.start()
        try:
            ca_file = os.environ["SSL_CERT_FILE"]  # for the Hub and all its programs
            with monkeypatch.context() as laptops:
                laptops.delenv("SSL_CERT_FILE")
                refused = laptop.run("login", hub.url)
                assert (refused.status, "--ca-file" in refused.err) == (4, True)
                log_in(laptop, hub, browser, "--ca-file", ca_file, ignore_https_errors=True)
                laptop.good("config", "--write", "--tunnel")
                done = subprocess.run(
                    ["ssh", "-F", str(laptop.ssh / "config"), HOST, "echo in"],
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
                assert done.stdout == "in\n", done
                shown = laptop.good("doctor")
                assert "ok       host key: through the tunnel" in shown
                assert "failed" not in shown
        finally:
            hub.stop()
