"""A script of bob's server, on the Hub's origin in alice's browser, knows all but what is on the page: it approves nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from ..harness.hostile_scripts import (
    AUTHORIZE,
    FETCHES,
    OPENED,
    SUBMIT,
    come_between,
    holds_secrets,
    start_evil_server,
    taken,
)
from .conftest import Person, Site, Terminal

pytestmark = pytest.mark.slow

ASKS = "Let this terminal in"


def test_a_script_of_another_server_approves_nothing(
    site: Site, person: Callable[..., Person], terminal: Callable[..., Terminal]
) -> None:
    place = start_evil_server(site.hub)
    alice, bob, ssh = person("alice"), person("bob"), terminal("alice")
    alice.types(ssh.code())
    alice.reads(f"{ASKS}?")
    request = alice.page.url
    bob.page.goto(bob.link)
    bobs_nonce = bob.page.locator("[data-key]").first.get_attribute("data-key")
    evil = alice.page.context.new_page()
    evil.goto(place)
    for _, options, _, read in evil.evaluate(FETCHES, [request]):
        assert not holds_secrets(read, ASKS), options
    assert evil.evaluate(OPENED, request) == "refused: SecurityError"
    for nonce in (bobs_nonce, f"{'A' * 43}.{'a' * 64}", ""):
        evil.goto(place)
        evil.evaluate(SUBMIT, [request, {"nonce": nonce, "decision": "approve"}])
        expect(evil.get_by_role("alert")).to_contain_text("Nothing was done")
    assert ssh.waits()
    alice.presses("Deny")
    ssh.is_refused("APPROVAL_DENIED")


def test_a_service_worker_reads_no_login_that_waits(
    site: Site, person: Callable[..., Person], terminal: Callable[..., Terminal]
) -> None:
    place = start_evil_server(site.hub)
    alice, ssh = person("alice"), terminal("alice")
    come_between(alice.page, place, by="race")
    alice.types(ssh.code())
    alice.reads(f"{ASKS}?")
    kept = taken(alice.page, place)
    assert ["GET", 200] in [each[:2] for each in kept], "it was in between"
    assert not holds_secrets("".join(each[3] for each in kept), ASKS, "alice")
    assert ssh.waits()


@pytest.mark.parametrize("site", ["one_gateway"], indirect=True)
def test_a_service_worker_that_keeps_a_refusal_back_approves_nothing(
    person: Callable[..., Person], terminal: Callable[..., Terminal], site: Site
) -> None:
    place = start_evil_server(site.hub)
    alice, ssh = person("alice"), terminal("alice")
    come_between(alice.page, place, by="swap", key="none")
    alice.types(ssh.code())
    alice.reads(f"{ASKS}?")
    alice.presses("Deny")
    expect(alice.page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert any("decision=deny" in sent and "nonce=" in sent for _, _, sent, _ in taken(alice.page, place)), "it had the form"
    assert ssh.waits()


def test_a_script_of_another_server_takes_no_login_to_bobs_browser(site: Site, person: Callable[..., Person]) -> None:
    """The code of an OAuth login of alice's, made for bob's own state, would make his browser hers."""
    place = start_evil_server(site.hub)
    alice = person("alice")
    alice.page.goto(alice.link)
    expect(alice.page.get_by_label("Code")).to_be_visible()
    alice.page.goto(place)
    url, text = alice.page.evaluate(AUTHORIZE)
    assert "code=" not in url
    assert "code=" not in text
