"""Scripts on the Hub's origin, which those of any user server are without subdomains: they can neither read a page, nor press a
button on it, nor make a request count. Alice is logged in, and runs them: on a page of bob's server, and in her own Lab.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ..harness.hub import Hub
from ..harness.ssh import KeyPair
from .conftest import ssh_page

pytestmark = pytest.mark.slow

EVIL = Path(__file__).with_name("evil_server.py")
PATHS = ("", "login", "admin", "keys/add", "login/whatever")

FETCHES = """async paths => {
  const read = [];
  for (const path of paths)
    for (const options of [
      {}, {credentials: "include"}, {mode: "same-origin"}, {mode: "no-cors"}, {redirect: "manual"},
      {cache: "only-if-cached", mode: "same-origin"},
      {headers: {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}},
      {method: "POST", body: new URLSearchParams({public_key: "KEY", nonce: "x"})},
    ])
      try {
        const answer = await fetch("/services/ssh/" + path, options);
        read.push([path, JSON.stringify(options), answer.status, await answer.text()]);
      } catch (error) { read.push([path, JSON.stringify(options), 0, ""]); }
  return read;
}"""

XHR = """() => new Promise(done => {
  const request = new XMLHttpRequest();
  request.open("GET", "/services/ssh/");
  request.responseType = "document";
  request.onloadend = () => done(request.response ? request.response.documentElement.outerHTML : "");
  request.send();
})"""

FRAMES = """async () => {
  const seen = [];
  for (const kind of ["iframe", "embed", "object"]) {
    const frame = document.createElement(kind);
    frame[kind === "object" ? "data" : "src"] = "/services/ssh/";
    const loaded = new Promise(done => { frame.onload = frame.onerror = done; setTimeout(done, 3000); });
    document.body.append(frame);
    await loaded;
    let inside = "";
    try { inside = (frame.contentDocument || frame.getSVGDocument())?.documentElement?.outerHTML || ""; } catch {}
    seen.push(inside);
  }
  return seen;
}"""

OPENED = """async () => {
  const opened = window.open("/services/ssh/", "_blank");
  await new Promise(done => setTimeout(done, 4000));
  let inside = "";
  try { inside = opened.document.documentElement.outerHTML; } catch (error) { inside = "refused: " + error.name; }
  opened.close();
  return inside;
}"""

SUBMIT = """key => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/services/ssh/keys/add";
  for (const [name, value] of [["public_key", key], ["nonce", "A".repeat(43)]]) {
    const field = document.createElement("input");
    field.name = name; field.value = value;
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}"""

WORKER = """async () => {
  const registration = await navigator.serviceWorker.register("/user/bob/worker.js", {scope: "/"});
  await navigator.serviceWorker.ready;
  for (let i = 0; i < 100 && !navigator.serviceWorker.controller; i++) await new Promise(done => setTimeout(done, 50));
  return [registration.scope, Boolean(navigator.serviceWorker.controller)];
}"""
TAKEN = """() => new Promise(done => {
  navigator.serviceWorker.onmessage = event => done(event.data);
  navigator.serviceWorker.controller.postMessage("give");
})"""


def holds_secrets(text: str) -> bool:
    """Is it one of our pages with its forms or what it shows of alice?"""
    return 'name="nonce"' in text or "evil-alice@" in text


@pytest.fixture(scope="module")
def places(hub: Hub) -> dict[str, str]:
    """Where the scripts run: addresses by name."""
    hub.use_command("bob", [sys.executable, str(EVIL)])
    hub.start_server("bob")
    hub.start_server("evil-alice")
    return {"bob": f"{hub.url}/user/bob/evil", "lab": hub.server_url("evil-alice") + "lab"}


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


def test_pages_are_not_read_by_fetch_or_xhr(page: Page) -> None:
    answers = page.evaluate(FETCHES, list(PATHS))
    assert len(answers) == 8 * len(PATHS)
    for path, options, status, text in answers:
        assert status in (0, 403), (path, options, status)
        assert not holds_secrets(text), (path, options)
    assert not holds_secrets(page.evaluate(XHR))


def test_pages_are_shown_in_no_frame(page: Page) -> None:
    assert not any(holds_secrets(inside) for inside in page.evaluate(FRAMES))


def test_a_window_that_was_opened_is_not_looked_into(page: Page) -> None:
    assert page.evaluate(OPENED) == "refused: SecurityError"


def test_a_form_of_another_page_adds_no_key(page: Page, hub: Hub, keys: list[KeyPair]) -> None:
    page.evaluate(SUBMIT, keys[0].public)
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    page.goto(ssh_page(hub))
    expect(page.get_by_role("button", name="Remove key")).to_have_count(0)


def test_a_nonce_of_another_user_is_worth_nothing(page: Page, hub: Hub, window: Callable[..., Page], keys: list[KeyPair]) -> None:
    bob = window("bob")
    bob.goto(ssh_page(hub))
    nonce = bob.locator("input[name=nonce]").first.input_value()
    page.evaluate(SUBMIT.replace('"A".repeat(43)', repr(nonce)), keys[0].public)
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    page.goto(ssh_page(hub))
    expect(page.get_by_role("button", name="Remove key")).to_have_count(0)


@pytest.mark.parametrize("by", ["fetch", "preload"])
def test_a_service_worker_for_the_whole_origin_reads_no_page(
    hub: Hub, places: dict[str, str], window: Callable[..., Page], by: str
) -> None:
    page = window("evil-alice")
    page.goto(ssh_page(hub))
    page.goto(places["bob"])
    scope, controls = page.evaluate(WORKER)
    assert (scope, controls) == (f"{hub.url}/", True), "or the test shows nothing"
    answer = page.goto(ssh_page(hub) + f"?by={by}")
    assert answer is not None
    assert answer.status == 403
    expect(page.get_by_role("alert")).to_contain_text("stands between")
    page.goto(places["bob"])
    taken = page.evaluate(TAKEN)
    assert [by] == [each[0] for each in taken if each[0]], "the worker was in between"
    assert not any(holds_secrets(text) for _, _, text in taken)
