"""Scripts on the Hub's origin, which those of any user server are without subdomains: they can neither read a page, nor press a
button on it, nor make a request count. Alice is logged in, and runs them: on a page of bob's server, and in her own Lab.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from ..harness.hostile_scripts import (
    FETCHES,
    FRAMES,
    OPENED,
    SUBMIT,
    XHR,
    come_between,
    holds_secrets,
    start_evil_server,
    taken,
)
from ..harness.hub import Hub
from ..harness.ssh import KeyPair
from .conftest import ssh_page

pytestmark = pytest.mark.slow

HERS = "evil-alice@"
"""on her page: a command"""
PATHS = ("", "login", "admin", "keys/add", "login/whatever")


@pytest.fixture(scope="module")
def places(hub: Hub) -> dict[str, str]:
    """Where the scripts run: addresses by name."""
    hub.start_server("evil-alice")
    return {"bob": start_evil_server(hub), "lab": hub.server_url("evil-alice") + "lab"}


@pytest.fixture(params=["bob", "lab"])
def page(request: pytest.FixtureRequest, places: dict[str, str], hub: Hub, window: Callable[..., Page]) -> Page:
    """Alice's window, in which a hostile script is about to run; she has been on the SSH page before."""
    opened = window("evil-alice")
    opened.goto(ssh_page(hub))
    expect(opened.get_by_label("Add a public key")).to_be_visible()
    answer = opened.goto(places[request.param])
    assert answer is not None
    assert answer.ok
    opened.wait_for_load_state("domcontentloaded")
    return opened


def has_no_key(page: Page, hub: Hub) -> None:
    page.goto(ssh_page(hub))
    expect(page.get_by_label("Add a public key")).to_be_visible()
    expect(page.get_by_role("button", name="Remove key")).to_have_count(0)


def test_pages_are_not_read_by_fetch_or_xhr(page: Page, hub: Hub) -> None:
    answers = page.evaluate(FETCHES, [ssh_page(hub) + path for path in PATHS])
    assert len(answers) == 9 * len(PATHS)
    for url, options, status, text in answers:
        assert status in (0, 403), (url, options, status)
        assert not holds_secrets(text, HERS), (url, options)
    assert not holds_secrets(page.evaluate(XHR, ssh_page(hub)), HERS)


def test_pages_are_shown_in_no_frame(page: Page, hub: Hub) -> None:
    assert not any(holds_secrets(inside, HERS) for inside in page.evaluate(FRAMES, ssh_page(hub)))


def test_a_window_that_was_opened_is_not_looked_into(page: Page, hub: Hub) -> None:
    assert page.evaluate(OPENED, ssh_page(hub)) == "refused: SecurityError"


def test_a_form_of_another_page_adds_no_key(page: Page, hub: Hub, keys: list[KeyPair]) -> None:
    page.evaluate(SUBMIT, [ssh_page(hub) + "keys/add", {"public_key": keys[0].public, "nonce": "A" * 43 + "." + "a" * 64}])
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    has_no_key(page, hub)


def test_a_nonce_of_another_user_is_worth_nothing(page: Page, hub: Hub, window: Callable[..., Page], keys: list[KeyPair]) -> None:
    bob = window("bob")
    bob.goto(ssh_page(hub))
    nonce = bob.locator("form[action$='keys/add'] [data-key]").get_attribute("data-key")
    page.evaluate(SUBMIT, [ssh_page(hub) + "keys/add", {"public_key": keys[0].public, "nonce": nonce}])
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    has_no_key(page, hub)


@pytest.mark.parametrize(("by", "opens"), [("fetch", False), ("preload", False), ("race", True), ("race-post", False)])
def test_a_service_worker_for_the_whole_origin_reads_no_page(
    hub: Hub, places: dict[str, str], window: Callable[..., Page], keys: list[KeyPair], by: str, opens: bool
) -> None:
    page = window("evil-alice")
    page.goto(ssh_page(hub))
    expect(page.get_by_label("Add a public key")).to_be_visible()
    come_between(page, places["bob"], by=by)
    page.goto(ssh_page(hub))
    if opens:
        expect(page.get_by_label("Add a public key")).to_be_visible()
    else:
        expect(page.get_by_role("alert")).to_contain_text("stands between")
    kept = taken(page, places["bob"], read=by.startswith("race"))
    assert kept, "the worker was in between"
    read = "".join(each[3] for each in kept)
    assert not holds_secrets(read, HERS, "evil-alice")
    assert "jhssh-copyable" not in read, "what a page loads passes it by: a style sheet could tell what is in the page"
    # It tries with all that looks like a nonce.
    for nonce in {"", *re.findall(r"[\w-]{16,}(?:\.\w+)?", read)}:
        page.goto(places["bob"])
        page.evaluate(SUBMIT, [ssh_page(hub) + "keys/add", {"public_key": keys[0].public, "nonce": nonce}])
        expect(page.get_by_role("alert")).to_be_visible()
    has_no_key(window("evil-alice"), hub)


def test_a_service_worker_that_keeps_a_form_back_has_nothing_to_send_in_its_place(
    hub: Hub, places: dict[str, str], window: Callable[..., Page], keys: list[KeyPair]
) -> None:
    """It sees alice's form on its way, before its nonce is used up."""
    page = window("evil-alice")
    page.goto(ssh_page(hub))
    expect(page.get_by_label("Add a public key")).to_be_visible()
    come_between(page, places["bob"], by="swap", key=keys[1].public)
    page.goto(ssh_page(hub))
    page.get_by_label("Add a public key").fill(keys[0].public)
    page.get_by_role("button", name="Add key").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert any("nonce=" in sent for _, _, sent, _ in taken(page, places["bob"])), "the worker had it"
    has_no_key(window("evil-alice"), hub)
