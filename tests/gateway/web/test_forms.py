"""Forms count once, for whom they were made, and as they were filled in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from jhssh_ext.gateway.authenticate.nonces import Nonces
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.gateway.web.forms import Forms, seal

KIND = "keys/add"


@pytest_asyncio.fixture
async def nonces(tmp_path: Path) -> AsyncIterator[Nonces]:
    database = Database(sqlite_url(str(tmp_path / "gateway.sqlite")))
    await database.migrate()
    yield Nonces(database)
    await database.close()


@pytest.fixture
def forms(nonces: Nonces) -> Forms:
    return Forms(nonces, b"s" * 32)


def sealed(key: str, **fields: bytes) -> dict[str, list[bytes]]:
    """As page.js sends it."""
    nonce, _, secret = key.partition(".")
    sent = {name: [value] for name, value in fields.items()}
    return {**sent, "nonce": [f"{nonce}.{seal(secret, sent)}".encode()]}


@pytest.mark.asyncio
async def test_where_no_scripts_run_the_key_itself_is_sent(forms: Forms) -> None:
    key = (await forms.issue("alice", "page")).key(KIND)
    sent = {"public_key": [b"x"], "nonce": [b"", key.encode()]}
    assert await forms.take("alice", "page", KIND, sent)
    assert not await forms.take("alice", "page", KIND, sent), "again"


@pytest.mark.asyncio
async def test_a_seal_fits_what_was_filled_in_alone(forms: Forms) -> None:
    sent = sealed((await forms.issue("alice", "page")).key(KIND), public_key=b"mine", note=b"x")
    for changed in (
        {**sent, "public_key": [b"evil"]},
        {**sent, "public_key": [b"mine", b"evil"]},
        {**sent, "more": [b""]},
        {name: value for name, value in sent.items() if name != "note"},
    ):
        assert not await forms.take("alice", "page", KIND, changed)
    assert await forms.take("alice", "page", KIND, sent)
    assert not await forms.take("alice", "page", KIND, sent), "again"


@pytest.mark.asyncio
async def test_a_form_is_of_one_user_page_and_kind(forms: Forms) -> None:
    sent = sealed((await forms.issue("alice", "page")).key(KIND), public_key=b"x")
    for user, page, kind in (("bob", "page", KIND), ("alice", "other page", KIND), ("alice", "page", "keys/remove")):
        assert not await forms.take(user, page, kind, sent)
    assert await forms.take("alice", "page", KIND, sent)


@pytest.mark.asyncio
async def test_one_form_of_a_view_uses_up_all(forms: Forms) -> None:
    issued = await forms.issue("alice", "page")
    assert await forms.take("alice", "page", "one", sealed(issued.key("one"), a=b"b"))
    assert not await forms.take("alice", "page", "other", sealed(issued.key("other"), a=b"b"))


@pytest.mark.asyncio
async def test_gateways_that_share_secret_and_database_take_each_others_forms(nonces: Nonces) -> None:
    key = (await Forms(nonces, b"s" * 32).issue("alice", "page")).key(KIND)
    assert not await Forms(nonces, b"t" * 32).take("alice", "page", KIND, sealed(key, a=b"b"))
    assert await Forms(nonces, b"s" * 32).take("alice", "page", KIND, sealed(key, a=b"b"))


@pytest.mark.asyncio
@pytest.mark.parametrize("nonce", [b"", b".", b"\xff.\xff", b"x" * 100_000, "ä.ä".encode()])
async def test_what_is_no_nonce_is_refused(forms: Forms, nonce: bytes) -> None:
    assert not await forms.take("alice", "page", KIND, {"nonce": [nonce]})
    assert not await forms.take("alice", "page", KIND, {})


def test_lines_end_as_the_script_sees_them() -> None:
    assert seal("k", {"text": [b"a\r\nb\rc"]}) == seal("k", {"text": [b"a\nb\nc"]})
