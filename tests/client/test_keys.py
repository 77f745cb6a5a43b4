"""Keys from files, stdin and accounts, to the hub and away again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jhssh_ext.client import hubs, keys

from ..fakes import gateway_api
from ..fakes.gateway_api import FakeGateway
from ..harness.ssh import KeyPair
from .conftest import Laptop


@pytest.fixture
def key(logged_in: Laptop) -> KeyPair:
    return logged_in.key()


def fingerprint(fake: FakeGateway) -> str:
    (found,) = fake.keys
    return found


def test_add_list_remove(logged_in: Laptop, fake: FakeGateway, key: KeyPair) -> None:
    assert "jhssh keys add" in logged_in.good("keys", "list")
    added = logged_in.good("keys", "add")
    assert added == f"Added {fingerprint(fake)} id_ed25519@test\n"
    assert logged_in.good("keys", "add") == f"Already registered: {fingerprint(fake)} id_ed25519@test\n"
    header, row = logged_in.good("keys", "list").splitlines()
    assert header.split() == ["FINGERPRINT", "TYPE", "COMMENT", "FROM", "LAST", "USED"]
    assert row.split() == [fingerprint(fake), "ssh-ed25519", "id_ed25519@test", "page", "never"]
    (model,) = json.loads(logged_in.good("keys", "list", "--json"))["keys"]
    assert model["fingerprint"] == fingerprint(fake)
    assert model["public_key"] == key.public
    logged_in.good("keys", "remove", fingerprint(fake))
    assert fake.keys == {}


def test_no_key_yet(logged_in: Laptop) -> None:
    done = logged_in.run("keys", "add")
    assert (done.status, "ssh-keygen -t ed25519" in done.err) == (1, True)


def test_the_newest_kind_of_key_is_taken(logged_in: Laptop, fake: FakeGateway, key: KeyPair) -> None:
    logged_in.key("id_another")
    logged_in.good("keys", "add")
    assert [each["comment"] for each in fake.keys.values()] == ["id_ed25519@test"]


def test_a_file_or_stdin(logged_in: Laptop, fake: FakeGateway, key: KeyPair) -> None:
    logged_in.good("keys", "add", f"{key.private}.pub")
    logged_in.good("keys", "add", "-", typed=f"# others\n{logged_in.key('one').public}\n{logged_in.key('two').public}\n")
    assert len(fake.keys) == 3
    assert "can't be read" in logged_in.run("keys", "add", str(logged_in.home / "nothing.pub")).err
    assert logged_in.run("keys", "add", "-", typed="nonsense").status == 1


def test_a_private_key_never_leaves_the_computer(logged_in: Laptop, fake: FakeGateway, key: KeyPair) -> None:
    logged_in.good("keys", "add", str(key.private))  # its public half is beside it
    assert len(fake.keys) == 1
    key.private.with_name("id_ed25519.pub").unlink()
    before = len(fake.paths)
    for given, typed in ((str(key.private), ""), ("-", key.private.read_text())):
        done = logged_in.run("keys", "add", given, typed=typed)
        assert (done.status, "private key. Nothing was sent" in done.err) == (1, True)
    assert len(fake.paths) == before


def test_remove_by_what_is_clear(logged_in: Laptop, fake: FakeGateway, key: KeyPair) -> None:
    logged_in.good("keys", "add")
    logged_in.good("keys", "remove", f"{key.private}.pub")
    logged_in.good("keys", "add")
    logged_in.good("keys", "remove", "id_ed25519@test")
    logged_in.good("keys", "add")
    assert logged_in.run("keys", "remove", "SHA").status == 1
    assert logged_in.run("keys", "remove", "SHA256:").status == 1
    logged_in.good("keys", "remove", fingerprint(fake)[7:15])
    logged_in.good("keys", "add", "-", typed=f"{logged_in.key('one').public.rpartition(' ')[0]} same\n")
    logged_in.good("keys", "add", "-", typed=f"{logged_in.key('two').public.rpartition(' ')[0]} same\n")
    done = logged_in.run("keys", "remove", "same")
    assert (done.status, "More than one key" in done.err) == (2, True)
    assert len(fake.keys) == 2


def test_a_key_that_stands_elsewhere_says_so(logged_in: Laptop, fake: FakeGateway, key: KeyPair) -> None:
    logged_in.good("keys", "add")
    fake.keys[fingerprint(fake)] |= {"source": "server", "server": "gpu", "last_used": 1_700_000_000, "comment": "\x1b[31mred"}
    row = logged_in.good("keys", "list").splitlines()[1]
    assert "server gpu" in row
    assert "2023-11-1" in row
    assert "\x1b" not in row
    done = logged_in.run("keys", "remove", fingerprint(fake))
    assert (done.status, "remove it there" in done.err) == (1, True)


def test_an_expired_token_says_how_to_go_on(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.tokens = dict.fromkeys(fake.tokens, "TOKEN_EXPIRED")
    done = logged_in.run("keys", "list")
    assert done.status == 3
    assert done.err == f"jhssh: This token has expired. Log in again: jhssh login {fake.url}/ --name hub\n"
    hubs.save(replace(hubs.choose(), service=f"{fake.url}/services/gateway/"))
    assert f"jhssh login {fake.url}/ --name hub --service gateway\n" in logged_in.run("keys", "list").err


class TestImport:
    @pytest.fixture
    def github(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
        with gateway_api.running() as site:
            monkeypatch.setitem(keys.PROVIDERS, "github", f"{site.url}{gateway_api.PREFIX}")
            yield site

    def test_keys_of_an_account(self, logged_in: Laptop, fake: FakeGateway, github: FakeGateway, key: KeyPair) -> None:
        bare = key.public.rpartition(" ")[0]
        github.answers["al-ice.keys"] = (200, f"{bare}\nssh-dss AAAA old\n".encode(), {})
        logged_in.good("keys", "import", "github:al-ice")
        assert [each["comment"] for each in fake.keys.values()] == ["github:al-ice"]
        assert github.authorizations == [""]

    @pytest.mark.parametrize(
        ("answer", "sentence"),
        [
            ((404, b"", {}), "shows no keys of a user named al"),
            ((302, b"", {"Location": "/login"}), "shows no keys of a user named al"),
            ((500, b"", {}), "answered with an error (500)"),
            ((200, b"", {}), "shows no keys of al"),
            ((200, b"ssh-dss AAAA old\n", {}), "DSA keys"),
        ],
    )
    def test_no_keys(
        self, logged_in: Laptop, fake: FakeGateway, github: FakeGateway, answer: tuple[int, bytes, dict[str, str]], sentence: str
    ) -> None:
        github.answers["al.keys"] = answer
        done = logged_in.run("keys", "import", "github:al")
        assert (done.status, sentence in done.err) == (1, True), done
        assert fake.keys == {}

    @pytest.mark.parametrize("source", ["alice", "github:", "github:../x", "sourcehut:alice", "github:a b", "github:a..b"])
    def test_no_account(self, logged_in: Laptop, source: str) -> None:
        assert logged_in.run("keys", "import", source).status == 2
