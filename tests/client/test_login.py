"""From a hub's address to a token, and back."""

from __future__ import annotations

import getpass
import json
import socket
import stat
import sys
import webbrowser
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

from jhssh_ext.client import hubs, tokens
from jhssh_ext.client.failures import WrongUsage
from jhssh_ext.client.http_client import Answer
from jhssh_ext.client.login import _free_name, _retry_after, _site, base_url, login

from ..fakes import gateway_api
from ..fakes.gateway_api import CODE, NUMBER, FakeGateway
from ..harness.processes import free_port
from . import certificates
from .conftest import Laptop


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("https://hub.example.org", "https://hub.example.org/"),
        ("hub.example.org", "https://hub.example.org/"),
        (" https://Hub.Example.org:8443 ", "https://hub.example.org:8443/"),
        ("https://hub.example.org/hub/home", "https://hub.example.org/"),
        ("https://hub.example.org/hub", "https://hub.example.org/"),
        ("https://hub.example.org/user/alice/lab?x=1#y", "https://hub.example.org/"),
        ("https://example.org/jupyter/hub/token", "https://example.org/jupyter/"),
        ("https://example.org/jupyter/services/ssh/", "https://example.org/jupyter/"),
        ("https://example.org/jupyter", "https://example.org/jupyter/"),
        ("https://[2001:db8::1]:8000/", "https://[2001:db8::1]:8000/"),
    ],
)
def test_any_page_of_a_hub_leads_to_its_base_url(given: str, wanted: str) -> None:
    assert base_url(given) == wanted


@pytest.mark.parametrize(
    "given",
    [
        *("", "ftp://hub.example.org", "https://", "https://a b/", "https://alice:pw@hub.example.org", "https://hub:port/"),
        *("ssh:hub", "https://[foo", "https://hub:99999", "https://a..b", f"https://{'a' * 64}.org"),
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(WrongUsage):
        base_url(given)


def test_approved_by_number(laptop: Laptop, fake: FakeGateway) -> None:
    done = laptop.run("login", f"{fake.url}/hub/home", typed=f"nonsense\n12345\n{NUMBER}\n")
    assert done.status == 0, done
    assert "as alice until" in done.out
    assert CODE in done.err
    assert f"{fake.url}/services/ssh/login" in done.err
    assert "This is not the number" in done.err
    assert fake.clients[0].startswith("jhssh 0.")
    (token,) = fake.tokens
    assert tokens.load(hubs.choose().token_key) == token
    for name in ("hubs.json", "tokens.json"):
        assert stat.S_IMODE((laptop.settings / name).stat().st_mode) == 0o600
    assert token not in (laptop.settings / "hubs.json").read_text()
    assert token not in done.out + done.err


def test_a_gateway_that_is_away_for_a_moment_is_asked_again(laptop: Laptop, fake: FakeGateway) -> None:
    fake.approval = "away"
    laptop.log_in(fake)
    assert fake.paths.count("POST /services/ssh/api/login/answer") == 3


@pytest.mark.parametrize(("approval", "sentence"), [("denied", "denied in the browser"), ("expired", "in time")])
def test_what_is_not_approved(laptop: Laptop, fake: FakeGateway, approval: str, sentence: str) -> None:
    fake.approval = approval
    done = laptop.run("login", fake.url)
    assert (done.status, sentence in done.err) == (1, True)
    assert not (laptop.settings / "hubs.json").exists()


@pytest.mark.slow
def test_a_gateway_that_never_answers_to_the_point_is_given_up(
    laptop: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jhssh_ext.client.login.MAX_WAIT", -4.0)
    fake.approval = "waiting"
    done = laptop.run("login", fake.url)
    assert (done.status, "in time" in done.err) == (1, True)


def test_no_number_no_login(laptop: Laptop, fake: FakeGateway) -> None:
    done = laptop.run("login", fake.url, typed="")
    assert (done.status, "nobody is logged in" in done.err) == (1, True)


def test_a_second_login_takes_the_place_of_the_first(logged_in: Laptop, fake: FakeGateway) -> None:
    (first,) = fake.tokens
    logged_in.log_in(fake)
    assert fake.revoked == [first]
    assert list(hubs.load()) == ["hub"]


def test_hubs_get_names_of_their_own(laptop: Laptop, fake: FakeGateway) -> None:
    laptop.log_in(fake)
    with gateway_api.running() as other:
        laptop.log_in(other)
        taken = laptop.run("login", other.url, "--name", "hub")
        assert (taken.status, "already" in taken.err) == (2, True)
        laptop.log_in(other, "--name", "work")
        assert laptop.run("login", other.url, "--name", "No Name").status == 2
    assert list(hubs.load()) == ["hub", "localhost", "work"]
    which = laptop.run("keys", "list")
    assert (which.status, "--hub NAME" in which.err) == (2, True)
    assert laptop.run("keys", "list", "--hub", "nowhere").status == 3
    laptop.good("keys", "list", "--hub", "hub")


def test_logout_revokes_the_token_and_forgets_the_hub(logged_in: Laptop, fake: FakeGateway) -> None:
    (token,) = fake.tokens
    logged_in.good("logout")
    assert fake.revoked == [token]
    assert token not in (logged_in.settings / "tokens.json").read_text()
    done = logged_in.run("logout")
    assert (done.status, "not logged in" in done.err) == (3, True)


def test_logout_works_when_the_hub_does_not(laptop: Laptop) -> None:
    with gateway_api.running() as gone:
        laptop.log_in(gone)
    done = laptop.run("logout")
    assert (done.status, "could not be told" in done.err) == (0, True)
    assert hubs.load() == {}


def test_a_hub_without_gateway_is_told_from_one_that_is_down(laptop: Laptop, fake: FakeGateway) -> None:
    fake.answers["api/login"] = (404, b"<html>", {})
    done = laptop.run("login", fake.url)
    assert (done.status, f"jhssh login {fake.url}/ --token" in done.err) == (1, True)
    down = laptop.run("login", f"http://localhost:{free_port()}")
    assert (down.status, "can't be reached: Connection refused" in down.err) == (4, True)


@pytest.mark.parametrize("subdomain", ["ssh--service.", "services."])
def test_a_hub_with_subdomains_has_its_services_on_them(
    laptop: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch, subdomain: str
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: real(host.removeprefix(subdomain), *rest, **named))
    with gateway_api.running() as hub:
        hub.answers["api/login"] = (302, b"", {"Location": "/hub/services/ssh/api/login"})
        port, services = hub.url.rpartition(":")[2], fake.url.rpartition(":")[2]
        told = laptop.run("login", hub.url)
        assert (told.status, "sends one on to /hub/services/ssh" in told.err) == (1, True)
        connect = socket.create_connection

        def routed(to: tuple[str, int], timeout: float) -> socket.socket:
            return connect(("127.0.0.1", int(services if to[0].startswith(subdomain) else port)), timeout)

        monkeypatch.setattr(socket, "create_connection", routed)
        for host in (subdomain, ""):  # which sends a browser on to the other
            fake.link = f"http://{host}localhost:{port}/services/ssh/login"
            done = laptop.run("login", hub.url, typed=f"{NUMBER}\n")
            assert done.status == 0, done
    assert hubs.choose().service == f"http://{subdomain}localhost:{port}/services/ssh/"
    assert fake.clients


def test_a_redirect_is_told_and_not_followed(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.answers["api/keys"] = (302, b"", {"Location": f"{fake.url}/elsewhere\x1b[1m"})
    done = logged_in.run("keys", "list")
    assert done.status == 1
    assert "/elsewhere [1m" in done.err
    assert "GET /elsewhere" not in " ".join(fake.paths)


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example.org/\x1b]0;title\x07",
        "{url}.example.org/services/ssh/login",
        "{url}@evil.example.org/",
        "http://evil.example.org\\@{host}/",
        "https://{host}/services/ssh/login",
        "javascript://{host}/%0aalert(1)",
        "//{host}/services/ssh/login",
        " {url}/",
        "x",
    ],
)
def test_a_link_to_another_site_ends_it(laptop: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    """A hub may pass the login on to another one, to get at the token that is approved there."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":9")
    fake.link = link.format(url=fake.url, host=fake.url.removeprefix("http://"))
    done = laptop.run("login", fake.url, typed=f"{NUMBER}\n")
    assert (done.status, "login page of another site" in done.err) == (1, True), done
    assert "\x1b" not in done.err
    assert CODE not in done.err
    assert opened == []
    assert fake.tokens == {}


def test_the_link_is_opened_where_there_is_a_screen(laptop: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":9")
    laptop.log_in(fake)
    assert opened == [f"{fake.url}/services/ssh/login"]
    laptop.log_in(fake, "--no-browser")
    assert len(opened) == 1


def test_the_same_site_may_be_written_in_two_ways() -> None:
    for one, other in (
        ("https://hub.example.org/services/ssh/", "https://hub.example.org:443/services/ssh/login"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("https://hub.example.org:8443/", "https://HUB.example.org:8443"),
    ):
        assert _site(one) == _site(other) is not None
    assert _site("https://hub.example.org:80/") != _site("https://hub.example.org/")


@pytest.mark.parametrize("given", ["http://hub.example.org", "http://192.0.2.1:8000/"])
def test_http_is_for_this_computer_alone(laptop: Laptop, given: str) -> None:
    done = laptop.run("login", given)
    assert (done.status, "--plain-http" in done.err) == (2, True)


def test_a_private_ca_is_named_once(laptop: Laptop, tmp_path: Path) -> None:
    ca_file, certificate = certificates.make(tmp_path)
    with gateway_api.running(certificate) as fake:
        refused = laptop.run("login", fake.url)
        assert refused.status == 4
        assert "--ca-file" in refused.err
        assert fake.paths == []
        laptop.log_in(fake, "--ca-file", str(ca_file))
        assert "No keys" in laptop.good("keys", "list")
        laptop.log_in(fake)  # again, without naming it
        ca_file.write_text("damaged")
        assert "can't be used" in laptop.run("keys", "list").err
        ca_file.unlink()
        gone = laptop.run("keys", "list")
        assert (gone.status, str(ca_file) in gone.err) == (1, True)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("api/login", (201, b'{"request": "short", "code": "X", "link": "y"}', {})),
        ("api/login", (201, b'{"code": "X"}', {})),
        ("api/login", (201, b"[" * 100_000, {})),
        ("api/login/answer", (200, b'{"token": "a\\nb", "user": "x"}', {})),
        ("api/login/answer", (200, b'["token"]', {})),
        ("api/me", (200, b"{}", {})),
    ],
)
def test_nonsense_from_the_hub_ends_with_a_sentence(
    laptop: Laptop, fake: FakeGateway, path: str, answer: tuple[int, bytes, dict[str, str]]
) -> None:
    fake.answers[path] = answer
    done = laptop.run("login", fake.url, typed=f"{NUMBER}\n")
    assert done.status == 1, done
    assert "Update it." in done.err
    assert not (laptop.settings / "tokens.json").exists()


def test_an_endless_answer_is_cut(laptop: Laptop, fake: FakeGateway) -> None:
    fake.answers["api/login"] = (201, b" " * (5 << 20), {})
    done = laptop.run("login", fake.url)
    assert (done.status, "too long" in done.err) == (4, True)


def test_damaged_files_are_named(logged_in: Laptop) -> None:
    for damaged in ("{", "[]", json.dumps({"hubs": {"hub": {"url": 1}}}), json.dumps({"hubs": []})):
        (logged_in.settings / "hubs.json").write_text(damaged)
        done = logged_in.run("keys", "list")
        assert (done.status, "hubs.json" in done.err) == (1, True), damaged


@pytest.mark.parametrize(
    ("base", "taken", "name"),
    [
        ("https://hub.example.org/", set(), "hub"),
        ("https://lab.example.org/", {"hub"}, "lab"),
        ("https://lab.example.org/", {"hub", "lab"}, "lab-2"),
        ("https://127.0.0.1:8000/", {"hub"}, "hub-2"),
        ("https://[2001:db8::1]/", {"hub", "hub-2"}, "hub-3"),
        ("https://a23456789012345678901234-b.example.org/", {"hub"}, "a23456789012345678901234"),
        ("https://-_.example.org/", {"hub"}, "hub-2"),
    ],
)
def test_a_second_hub_gets_a_name_that_tells(base: str, taken: set[str], name: str) -> None:
    assert _free_name(base, taken) == name


@pytest.mark.parametrize(("said", "wanted"), [("3", 3.0), ("nan", 1.0), ("inf", 1.0), ("1e400", 1.0), ("-5", 1.0), ("99", 10.0)])
def test_how_long_to_wait_is_a_number(said: str, wanted: float) -> None:
    headers = Message()
    headers["Retry-After"] = said
    assert _retry_after(Answer(429, b"", headers), 1.0) == wanted


def test_no_token_is_typed(laptop: Laptop, monkeypatch: pytest.MonkeyPatch, fake: FakeGateway) -> None:
    """Ctrl+D at the prompt."""

    def ended(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(getpass, "getpass", ended)
    with pytest.raises(WrongUsage, match="no token"):
        login(fake.url, token=True)


def test_a_gateway_of_another_name_is_named_once(laptop: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_api, "PREFIX", "/services/my%20gate/")
    laptop.log_in(fake, "--service", "my gate")
    fake.tokens = dict.fromkeys(fake.tokens, "TOKEN_EXPIRED")
    assert f"jhssh login {fake.url}/ --name hub --service my%20gate\n" in laptop.run("keys", "list").err
    for again in ([], ["--service", "my%20gate"]):
        laptop.log_in(fake, *again)
        assert hubs.choose().service == f"{fake.url}/services/my%20gate/"
    laptop.good("keys", "list")
    assert laptop.run("login", fake.url, "--service", "ssh").status == 1
