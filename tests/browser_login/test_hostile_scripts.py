"""A script of bob's server, on the Hub's origin in alice's browser, knows all but what is on the page: it approves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import Person, Site, Terminal

pytestmark = pytest.mark.slow

EVIL = Path(__file__).parents[1] / "web/evil_server.py"

READ = """async url => {
  const read = [];
  for (const options of [{}, {mode: "same-origin"}, {method: "POST", body: new URLSearchParams({decision: "approve"})}])
    try { const answer = await fetch(url, options); read.push(await answer.text()); } catch {}
  const opened = window.open(url);
  await new Promise(done => setTimeout(done, 3000));
  try { read.push(opened.document.documentElement.outerHTML); } catch {}
  try { opened.document.forms[0].submit(); } catch {}
  opened.close();
  return read.join("\\n");
}"""

SUBMIT = """([url, nonce]) => {
  const form = document.createElement("form");
  form.method = "post"; form.action = url;
  for (const [name, value] of [["nonce", nonce], ["decision", "approve"]]) {
    const field = document.createElement("input");
    field.name = name; field.value = value;
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}"""

AUTHORIZE = """async () => {
  const query = new URLSearchParams({
    client_id: "service-ssh", redirect_uri: "/services/ssh/oauth_callback", response_type: "code", state: "of bob's own browser",
  });
  const answer = await fetch("/hub/api/oauth2/authorize?" + query);
  return [answer.url, await answer.text()];
}"""


def test_a_script_of_another_server_approves_nothing(
    site: Site, person: Callable[..., Person], terminal: Callable[..., Terminal]
) -> None:
    site.hub.use_command("bob", [sys.executable, str(EVIL)])
    site.hub.start_server("bob")
    alice, bob, ssh = person("alice"), person("bob"), terminal("alice")
    alice.types(ssh.code())
    request = alice.page.url
    bob.page.goto(bob.link)
    bobs_nonce = bob.page.locator("[name=nonce]").first.input_value()
    evil = alice.page.context.new_page()
    for nonce in (bobs_nonce, "A" * 43, ""):
        evil.goto(f"{site.hub.url}/user/bob/evil")
        read = evil.evaluate(READ, request)
        assert 'name="nonce"' not in read
        assert "Let this terminal in" not in read
        evil.evaluate(SUBMIT, [request, nonce])
        expect(evil.get_by_role("alert")).to_contain_text("Nothing was done")
    assert ssh.waits()
    alice.presses("Deny")
    ssh.is_refused("APPROVAL_DENIED")


def test_a_script_of_another_server_takes_no_login_to_bobs_browser(site: Site, person: Callable[..., Person]) -> None:
    """The code of an OAuth login of alice's, made for bob's own state, would make his browser hers."""
    site.hub.use_command("bob", [sys.executable, str(EVIL)])
    site.hub.start_server("bob")
    alice = person("alice")
    alice.page.goto(alice.link)
    alice.page.goto(f"{site.hub.url}/user/bob/evil")
    url, text = alice.page.evaluate(AUTHORIZE)
    assert "code=" not in url
    assert "code=" not in text
