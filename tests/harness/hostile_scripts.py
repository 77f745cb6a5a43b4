"""What scripts on the Hub's origin, those of any user server without subdomains, try at the gateway's pages: for Page.evaluate().

bob's server (fakes/evil_server.py) is where they come from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page

from .hub import Hub
from .processes import wait_until

COMMAND = [sys.executable, str(Path(__file__).parents[1] / "fakes/evil_server.py")]

FETCHES = """async urls => {
  const read = [];
  for (const url of urls)
    for (const options of [
      {}, {credentials: "include"}, {mode: "same-origin"}, {mode: "no-cors"}, {redirect: "manual"},
      {cache: "only-if-cached", mode: "same-origin"},
      {headers: {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}},
      {method: "POST", body: new URLSearchParams({view: "page"})},
      {method: "POST", body: new URLSearchParams({public_key: "KEY", decision: "approve", nonce: "x"})},
    ])
      try {
        const answer = await fetch(url, options);
        read.push([url, JSON.stringify(options), answer.status, await answer.text()]);
      } catch (error) { read.push([url, JSON.stringify(options), 0, ""]); }
  return read;
}"""
"""(addresses) → [address, how, status or 0, what was read] of each try"""

XHR = """url => new Promise(done => {
  const request = new XMLHttpRequest();
  request.open("GET", url);
  request.responseType = "document";
  request.onloadend = () => done(request.response ? request.response.documentElement.outerHTML : "");
  request.send();
})"""

FRAMES = """async url => {
  const seen = [];
  for (const kind of ["iframe", "embed", "object"]) {
    const frame = document.createElement(kind);
    frame[kind === "object" ? "data" : "src"] = url;
    const loaded = new Promise(done => { frame.onload = frame.onerror = done; setTimeout(done, 3000); });
    document.body.append(frame);
    await loaded;
    let inside = "";
    try { inside = (frame.contentDocument || frame.getSVGDocument())?.documentElement?.outerHTML || ""; } catch {}
    seen.push(inside);
  }
  return seen;
}"""

OPENED = """async url => {
  const opened = window.open(url, "_blank");
  const left = () => { try { return opened.location.href !== "about:blank"; } catch { return true; } };
  for (let tries = 0; tries < 600 && !left(); tries++) await new Promise(done => setTimeout(done, 100));
  await new Promise(done => setTimeout(done, 1000));
  let inside = "";
  try { inside = opened.document.documentElement.outerHTML; } catch (error) { inside = "refused: " + error.name; }
  try { opened.document.forms[0].submit(); } catch {}
  opened.close();
  return inside;
}"""
"""what is read of a window that it opened"""

SUBMIT = """([url, fields]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = url;
  for (const [name, value] of Object.entries(fields))
    form.append(Object.assign(document.createElement("input"), {name, value}));
  document.body.append(form);
  form.submit();
}"""
"""a form of its own"""

REGISTER = """async script => {
  const registration = await navigator.serviceWorker.register(script, {scope: "/"});
  await navigator.serviceWorker.ready;
  for (let i = 0; i < 600 && !navigator.serviceWorker.controller; i++) await new Promise(done => setTimeout(done, 50));
  return [registration.scope, Boolean(navigator.serviceWorker.controller)];
}"""
TAKEN = """() => new Promise(done => {
  navigator.serviceWorker.onmessage = event => done(event.data);
  navigator.serviceWorker.controller.postMessage("give");
})"""

AUTHORIZE = """async () => {
  const query = new URLSearchParams({
    client_id: "service-ssh", redirect_uri: "/services/ssh/oauth_callback", response_type: "code", state: "of bob's own browser",
  });
  const answer = await fetch("/hub/api/oauth2/authorize?" + query);
  return [answer.url, await answer.text()];
}"""


def start_evil_server(hub: Hub) -> str:
    """Of bob; the address of its page."""
    hub.use_command("bob", COMMAND)
    hub.start_server("bob")
    return f"{hub.url}/user/bob/evil"


def come_between(page: Page, evil: str, **how: str) -> None:
    """The page's browser visits bob's, and has his service worker from then on; ``how`` as in fakes/evil_server.py."""
    page.goto(evil)
    origin = evil.partition("/user/")[0]
    assert page.evaluate(REGISTER, f"/user/bob/worker.js?{urlencode(how)}") == [f"{origin}/", True], "or the test shows nothing"


def taken(page: Page, evil: str, *, read: bool = False) -> list[list[str]]:
    """What the worker kept: method, status, what was sent, what was answered. ``read``: of a GET at least, however late it is."""

    def kept() -> list[list[str]]:
        page.goto(evil)
        found: list[list[str]] = page.evaluate(TAKEN)
        return found if found and (not read or ["GET", 200] in [each[:2] for each in found]) else []

    return wait_until(kept, interval=0.5, what="the worker") if read else kept()


def holds_secrets(text: str, *more: str) -> bool:
    """Has it one of our pages' forms, or what else such a page shows?"""
    return 'name="nonce"' in text or 'data-key="' in text or any(each in text for each in more)
