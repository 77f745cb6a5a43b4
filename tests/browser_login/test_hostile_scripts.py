"""A script of bob's server, on the Hub's origin in alice's browser, knows all but what is on the page: it approves nothing, lets
no program in, and revokes none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

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
from .conftest import Person, Program, Site, Terminal

pytestmark = pytest.mark.slow

ASKS = "Let this terminal in"
PROGRAM_ASKS = "Let this program in"
CLIENT = "alices-laptop"


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
    kept = taken(alice.page, place, read=True)
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


def nonces_in(kept: Iterable[list[str]]) -> set[str]:
    """All that looks like one in what a worker read and saw; and none."""
    return {"", *re.findall(r"[\w-]{16,}(?:\.\w+)?", "".join("".join(map(str, each)) for each in kept))}


@pytest.mark.parametrize("site", ["one_gateway"], indirect=True)
def test_a_service_worker_lets_no_program_in(person: Callable[..., Person], program: Program, site: Site) -> None:
    """Bob's runs ``jhssh login``, and his worker is in alice's browser while a program of hers waits too."""
    place = start_evil_server(site.hub)
    alice = person("alice")
    come_between(alice.page, place, by="race")
    code = program.asks()
    with program.keeps_asking():
        alice.types(code)
        alice.reads(f"{PROGRAM_ASKS}?")
        request = alice.page.url
        kept = taken(alice.page, place, read=True)
        assert not holds_secrets("".join(each[3] for each in kept), PROGRAM_ASKS, CLIENT, "alice")
        for nonce in nonces_in(kept):
            alice.page.goto(place)
            alice.page.evaluate(SUBMIT, [request, {"nonce": nonce, "decision": "approve"}])
            expect(alice.page.get_by_role("alert")).to_contain_text("Nothing was done")
        assert program.answer().json == {"status": "waiting"}
        alice.page.goto(request)
    alice.presses("Approve")
    number = alice.page.locator("#number").inner_text()
    assert not any(number in part for each in taken(alice.page, place) for part in map(str, each)), "nor does it read the number"
    program.waits_for("number")


@pytest.mark.parametrize("site", ["one_gateway"], indirect=True)
def test_a_service_worker_that_keeps_a_programs_refusal_back_lets_it_not_in(
    person: Callable[..., Person], program: Program, site: Site
) -> None:
    place = start_evil_server(site.hub)
    alice = person("alice")
    come_between(alice.page, place, by="swap", key="none")
    code = program.asks()
    with program.keeps_asking():
        alice.types(code)
        alice.reads(f"{PROGRAM_ASKS}?")
        alice.presses("Deny")
        expect(alice.page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert any("decision=deny" in sent and "nonce=" in sent for _, _, sent, _ in taken(alice.page, place)), "it had the form"
    assert program.answer().json == {"status": "waiting"}


@pytest.mark.parametrize("site", ["one_gateway"], indirect=True)
@pytest.mark.parametrize("by", ["race", "swap"])
def test_a_service_worker_sees_no_programs_and_revokes_none(
    person: Callable[..., Person], program: Program, site: Site, by: str
) -> None:
    """Though it knew how the page calls them. With swap alice revokes bob's program, and it would have hers revoked instead."""
    place = start_evil_server(site.hub)
    name, bobs = f"mia-{by}", Program(program.url)
    mia = person(name)
    program.logs_in(mia)
    bobs.logs_in(mia)
    page = f"{site.hub.url}/services/ssh/"
    mia.page.goto(page)
    buttons = mia.page.get_by_role("button", name=f"Revoke jhssh 0.1.0 on {CLIENT}")
    expect(buttons).to_have_count(2)  # the newest first
    hers = str(buttons.last.get_attribute("value"))
    come_between(mia.page, place, by=by, token=hers)
    mia.page.goto(page)
    expect(buttons).to_have_count(2)
    if by == "swap":
        buttons.first.click()
        expect(mia.page.get_by_role("alert")).to_contain_text("Nothing was done")
    kept = taken(mia.page, place, read=by == "race")
    assert not holds_secrets("".join(each[3] for each in kept), CLIENT, hers, name)
    if by == "swap":
        assert any("token=" in sent and "nonce=" in sent for _, _, sent, _ in kept), "it had the form"
    for nonce in nonces_in(kept):
        mia.page.goto(place)
        mia.page.evaluate(SUBMIT, [page + "programs/revoke", {"nonce": nonce, "token": hers}])
        expect(mia.page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert program.call("GET", "me").status == bobs.call("GET", "me").status == 200


def test_a_script_of_another_server_revokes_no_program(person: Callable[..., Person], program: Program, site: Site) -> None:
    place = start_evil_server(site.hub)
    nora, bob = person("nora"), person("bob")
    program.logs_in(nora)
    page = f"{site.hub.url}/services/ssh/"
    nora.page.goto(page)
    hers = nora.page.get_by_role("button", name="Revoke").get_attribute("value")
    bob.page.goto(page)
    bobs = bob.page.locator("form[action$='keys/add'] [data-key]").get_attribute("data-key")
    nora.page.goto(place)
    for _, options, _, read in nora.page.evaluate(FETCHES, [page, page + "programs/revoke"]):
        assert not holds_secrets(read, CLIENT), options
    for nonce in (bobs, f"{'A' * 43}.{'a' * 64}", ""):
        nora.page.goto(place)
        nora.page.evaluate(SUBMIT, [page + "programs/revoke", {"nonce": nonce, "token": hers}])
        expect(nora.page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert program.call("GET", "me").status == 200
