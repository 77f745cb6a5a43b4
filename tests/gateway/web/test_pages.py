"""What all pages share: whom they answer and what, what a browser may do with them, login at the Hub, what others wrote."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncssh
import pytest
import pytest_asyncio
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import create_signed_value

from jhssh_ext.errors import HubUnavailable
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.authenticate.key_listing import KeyListing
from jhssh_ext.gateway.authenticate.login import Login
from jhssh_ext.gateway.authenticate.nonces import Nonces
from jhssh_ext.gateway.authenticate.sessions import Sessions
from jhssh_ext.gateway.authenticate.user_keys import UserKeys
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.connect.hub_models import ServerModel, TokenModel, UserModel
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.gateway.observe.metrics import Metrics
from jhssh_ext.gateway.web.app import Health, make_app
from jhssh_ext.gateway.web.forms import Forms
from jhssh_ext.gateway.web.hub_login import HubLogin
from jhssh_ext.gateway.web.pages import Site
from jhssh_ext.gateway.web.ways_in import Door
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import PublicKey, parse_line

PREFIX = "/services/ssh/"
ACCESS = frozenset({"access:services!service=ssh"})
TOP_LEVEL = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
HOST_KEY = PublicKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32))
VIEW = {"view": "page"}
ON_SSH_PAGE = "SSH page"
KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


class FakeHub(HubClient):
    """Tokens are named for their users."""

    def __init__(self) -> None:
        self.down = False
        self.scopes = ACCESS

    async def identify(self, token: str) -> TokenModel | None:
        if self.down:
            raise HubUnavailable
        return TokenModel(token, "user", self.scopes, admin=token == "admin") if token in ("alice", "bob", "admin") else None

    async def user(self, name: str) -> UserModel | None:
        return UserModel(name, {"": ServerModel("", False, None)}, created="2026")


def login() -> HubLogin:
    return HubLogin(
        api_url="http://127.0.0.1:1/hub/api",
        api_token="t" * 32,
        client_id="service-ssh",
        prefix=PREFIX,
        hub_path="/hub/",
        hub_host="",
    )


@dataclass
class Pages:
    url: str
    site: Site
    hub: FakeHub
    database: Database
    notes: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    async def ask(
        self,
        path: str = "",
        *,
        user: str = "alice",
        headers: Mapping[str, str] = TOP_LEVEL,
        form: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """As a browser in which that user is logged in here ("": nobody)."""
        sent = dict(headers)
        if user:
            value = create_signed_value(self.site.login.cookie_secret, "service-ssh", user).decode()
            sent["Cookie"] = f"service-ssh={value}"
        return await AsyncHTTPClient(force_instance=True).fetch(
            self.url + PREFIX + path,
            method="GET" if form is None else "POST",
            body=None if form is None else urlencode(form),
            headers=sent,
            follow_redirects=False,
            raise_error=False,
        )

    async def view(self, path: str = "", **keywords: Any) -> HTTPResponse:
        """The page itself, once its only button is pressed."""
        return await self.ask(path, form=VIEW, **keywords)

    async def key(self, kind: str, page: str = ON_SSH_PAGE, user: str = "alice") -> str:
        """What a form of this kind holds."""
        return (await self.site.forms.issue(user, page)).key(kind)


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    database = Database(sqlite_url(str(tmp_path / "gateway.sqlite")))
    await database.migrate()
    hub, notes = FakeHub(), list[tuple[str, Mapping[str, str]]]()
    sessions = Sessions(database)
    site = Site(
        hub=hub,
        login=login(),
        forms=Forms(Nonces(database), b"x" * 32),
        user_keys=UserKeys(database),
        key_listing=KeyListing(database),
        sessions=sessions,
        prefix=PREFIX,
        hub_url="/hub/",
        door=Door("hub.example.org", 22, HOST_KEY, "+"),
        note=lambda event, values: notes.append((event, values)),
    )
    app = make_app(PREFIX, health=Health(), metrics=Metrics(), hub=hub, keys=None, site=site)
    server = HTTPServer(app)
    (listening,) = bind_sockets(0, "127.0.0.1")
    server.add_socket(listening)
    yield Pages(f"http://127.0.0.1:{listening.getsockname()[1]}", site, hub, database, notes)
    server.stop()
    await server.close_all_connections()
    await sessions.close()
    await database.close()


def text(response: HTTPResponse) -> str:
    return response.body.decode()


def holds_a_form(response: HTTPResponse) -> bool:
    """One that counts."""
    return 'name="nonce"' in text(response) or 'data-key="' in text(response)


NO_WINDOW = pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "empty"},
        {**TOP_LEVEL, "Service-Worker-Navigation-Preload": "true"},
    ],
    ids=["no headers", "fetch", "script", "frame", "service worker", "preload"],
)


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["", "admin", "keys/add", "programs/revoke", "login", "login/some-request"])
@NO_WINDOW
async def test_only_a_window_gets_a_page(pages: Pages, path: str, headers: dict[str, str]) -> None:
    for answer in (await pages.ask(path, user="admin", headers=headers), await pages.view(path, user="admin", headers=headers)):
        assert answer.code == 403
        assert not holds_a_form(answer)
        assert "Set-Cookie" not in answer.headers


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path",
    ["", "?done=added", "admin", "admin?search=x", "keys/add", "programs/revoke", "?done=revoked", "login", "login/some-request"],
)
async def test_what_a_get_gets_is_the_same_for_all_and_leads_to_the_page(pages: Pages, path: str) -> None:
    await pages.site.user_keys.add("alice", "2026", parse_line(KEY + " me@laptop"), "page")
    answers = [await pages.ask(path, user=user) for user in ("alice", "bob", "admin")]
    assert {answer.code for answer in answers} == {200}
    shown = {re.sub(r'nonce="[^"]*"', "", text(answer)) for answer in answers}
    assert len(shown) == 1
    assert not holds_a_form(answers[0])
    assert "alice" not in shown.pop()
    assert '<form method="post" class' in text(answers[0]), "to the same address"


@pytest.mark.asyncio
async def test_the_button_shows_the_page(pages: Pages) -> None:
    await pages.site.user_keys.add("alice", "2026", parse_line(KEY + " me@laptop"), "page")
    for path in ("", "?done=removed", "keys/add"):
        answer = await pages.view(path)
        assert answer.code == 200
        assert holds_a_form(answer)
        assert "me@laptop" in text(answer)
        assert ("The key was removed" in text(answer)) == (path == "?done=removed")


@pytest.mark.asyncio
@NO_WINDOW
async def test_who_is_no_window_is_left_without_the_code_of_a_login(pages: Pages, headers: dict[str, str]) -> None:
    answer = await pages.ask("oauth_callback?code=x&state=y", user="admin", headers=headers)
    assert (answer.code, answer.headers["Location"]) == (303, "/services/ssh/")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.asyncio
@pytest.mark.parametrize("ask", [Pages.ask, Pages.view])
async def test_a_page_is_sandboxed_and_framed_by_nobody(pages: Pages, ask: Callable[[Pages], Awaitable[HTTPResponse]]) -> None:
    answer = await ask(pages)
    assert answer.code == 200
    rules = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert rules["sandbox"] == "allow-forms allow-scripts"
    assert rules["frame-ancestors"] == rules["default-src"] == rules["base-uri"] == "'none'"
    assert rules["form-action"] == rules["img-src"] == "'self'"
    assert rules["script-src"] == rules["style-src"]
    source = re.fullmatch(r"'nonce-([\w-]{20,})'", rules["script-src"])
    assert source
    assert f'nonce="{source[1]}"' in text(answer)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await ask(pages)).headers["Content-Security-Policy"] != answer.headers["Content-Security-Policy"]


@pytest.mark.asyncio
async def test_who_is_not_logged_in_is_sent_to_the_hub(pages: Pages) -> None:
    answer = await pages.ask("?done=added", user="")
    assert answer.code == 303
    target = urlsplit(answer.headers["Location"])
    assert target.path == "/hub/api/oauth2/authorize"
    (state,) = parse_qs(target.query)["state"]
    (cookie,) = answer.headers.get_list("Set-Cookie")
    assert {"HttpOnly", "Secure", "SameSite=None", f"Path={PREFIX}"} <= set(cookie.split("; "))
    assert pages.site.login.get_next_url(state) == PREFIX + "?done=added"


@pytest.mark.asyncio
async def test_a_form_of_a_login_that_has_ended_leads_to_the_page_and_one_without_a_cookie_nowhere(pages: Pages) -> None:
    for form in (VIEW, {"public_key": KEY, "nonce": await pages.key("keys/add")}):
        answer = await pages.ask("keys/add?x=y", user="gone", form=form)
        assert (answer.code, answer.headers["Location"]) == (303, PREFIX + "keys/add?x=y")
        answer = await pages.ask("keys/add", user="", form=form)
        assert answer.code == 403
        assert "Allow cookies" in text(answer)
    assert await pages.site.user_keys.list("alice", "2026") == []


@pytest.mark.asyncio
async def test_a_token_opens_no_page(pages: Pages) -> None:
    for path, headers in (("?token=alice", TOP_LEVEL), ("", {**TOP_LEVEL, "Authorization": "token alice"})):
        answer = await pages.ask(path, user="", headers=headers)
        assert answer.code == 303
        assert answer.headers["Location"].startswith("/hub/api/oauth2/authorize")


@pytest.mark.asyncio
async def test_a_cookie_of_another_service_opens_no_page(pages: Pages) -> None:
    for secret, name in ((b"x" * 32, "service-ssh"), (pages.site.login.cookie_secret, "service-other")):
        value = create_signed_value(secret, name, "alice").decode()
        answer = await pages.ask(user="", headers={**TOP_LEVEL, "Cookie": f"service-ssh={value}"})
        assert answer.code == 303


@pytest.mark.asyncio
async def test_without_the_scope_there_is_a_sentence(pages: Pages) -> None:
    pages.hub.scopes = frozenset({"access:services!service=other"})
    answer = await pages.ask()
    assert answer.code == 403
    assert "access:services!service=ssh" in text(answer)


@pytest.mark.asyncio
async def test_a_hub_that_does_not_answer_is_named(pages: Pages) -> None:
    pages.hub.down = True
    answer = await pages.ask()
    assert answer.code == 503
    assert "[HUB_UNAVAILABLE]" in text(answer)


@pytest.mark.asyncio
async def test_the_admin_page_is_for_admins_and_who_has_the_scope(pages: Pages) -> None:
    assert (await pages.view("admin")).code == 403
    assert (await pages.view("admin", user="admin")).code == 200
    nonce = await pages.key("admin/connections/end", "admin page")
    assert (await pages.ask("admin/connections/end", form={"nonce": nonce, "session": "x", "user": "bob"})).code == 403
    object.__setattr__(pages.site, "admin_scope", "custom:jhssh:admin")
    assert (await pages.view("admin")).code == 403
    pages.hub.scopes = ACCESS | {"custom:jhssh:admin"}
    assert (await pages.view("admin")).code == 200


@pytest.mark.asyncio
async def test_a_form_works_once_for_its_user_and_purpose(pages: Pages) -> None:
    right = await pages.key("keys/add")
    nonce, _, key = right.partition(".")
    wrong = ["", "x" * 43, "x" * 5000, "ä.ä", nonce, f"{nonce}.", key, f"{nonce}.{key[:-1]}", f"{'x' * 43}.{key}"]
    wrong += [await pages.key("keys/add", user="bob"), await pages.key("keys/add", "admin page"), await pages.key("keys/remove")]
    for nonce in wrong:
        answer = await pages.ask("keys/add", form={"public_key": KEY, "nonce": nonce})
        assert answer.code == 403, nonce
    assert await pages.site.user_keys.list("alice", "2026") == []
    form = {"public_key": KEY + " me@laptop", "nonce": right}
    answer = await pages.ask("keys/add", form=form)
    assert (answer.code, answer.headers["Location"]) == (303, PREFIX + "?done=added#keys")
    assert (await pages.ask("keys/add", form=form)).code == 403
    assert [event for event, _ in pages.notes] == ["key added"]


@pytest.mark.asyncio
async def test_others_keys_and_connections_are_out_of_reach(pages: Pages) -> None:
    ended: list[object] = []
    id = await pages.site.sessions.opened(
        Login(UserServer("bob"), "password", "", "192.0.2.1", may_start=True), ended.append, lambda: (0, 0)
    )
    key = parse_line(KEY)
    await pages.site.user_keys.add("bob", "2026", key, "page")
    for path, form in (
        ("connections/end", {"session": id}),
        ("keys/remove", {"fingerprint": key.fingerprint}),
        ("keys/renew", {"fingerprint": key.fingerprint}),
    ):
        nonce = await pages.key(path)
        assert (await pages.ask(path, form={**form, "nonce": nonce})).code == 404, path
    assert ended == []
    assert len(await pages.site.user_keys.list("bob", "2026")) == 1
    assert "192.0.2.1" not in text(await pages.view())


@pytest.mark.asyncio
async def test_what_others_wrote_is_text(pages: Pages) -> None:
    login_ = Login(UserServer("<b>eve</b>", "\x1b[31mx"), "password", "", '"><script>1</script>', may_start=True)
    await pages.site.sessions.opened(login_, lambda _: None, lambda: (0, 1234567))
    shown = text(await pages.view("admin", user="admin"))
    assert "&lt;b&gt;eve&lt;/b&gt;" in shown
    assert "<script>1" not in shown
    assert "\x1b" not in shown
    assert "1.2 MB" in shown
    for page in (await pages.ask("?done=<script>"), await pages.view("?done=<script>")):
        assert "<script>" not in text(page)


@pytest.mark.asyncio
async def test_a_theme_is_remembered_and_nothing_else(pages: Pages) -> None:
    answer = await pages.ask("?theme=dark")
    assert (answer.code, answer.headers["Location"]) == (303, PREFIX)
    assert answer.headers["Set-Cookie"].startswith("jhssh-theme=dark;")
    assert (await pages.ask("?theme=x")).code == 200
    value = create_signed_value(pages.site.login.cookie_secret, "service-ssh", "alice").decode()
    for theme, shown in (("dark", True), ('"><b', False)):
        headers = {**TOP_LEVEL, "Cookie": f"service-ssh={value}; jhssh-theme={theme}"}
        assert ("data-bs-theme=" in text(await pages.ask(user="", headers=headers))) is shown


@pytest.mark.asyncio
async def test_the_style_sheet_is_for_everybody(pages: Pages) -> None:
    answer = await pages.ask("static/page.css", user="", headers={})
    assert answer.code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (await pages.ask("static/../pages.py", user="", headers={})).code in (403, 404)


@pytest.mark.asyncio
async def test_many_keys_are_added_all_or_none_and_too_many_are_not_looked_at(pages: Pages) -> None:
    def line() -> str:
        return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()

    for lines, code, count in (([line(), "nonsense"], 422, 0), ([line(), line()], 303, 2), (["x"] * 101, 422, 2)):
        answer = await pages.ask("keys/add", form={"public_key": "\n".join(lines), "nonce": await pages.key("keys/add")})
        assert answer.code == code
        assert len(await pages.site.user_keys.list("alice", "2026")) == count
    assert "Too many keys" in text(answer)


@pytest.mark.asyncio
async def test_what_a_server_lists_that_is_no_key_breaks_no_page(pages: Pages) -> None:
    good, odd = parse_line(KEY), PublicKey("ssh-ed25519", b"\0\0\0")
    copies = KeyCopies(pages.database, "server")
    await copies.store(UserServer("alice"), Fetched(frozenset({good, odd}), "1", "2026"), asked=1.0, changes=0)
    answer = await pages.view()
    assert answer.code == 200
    assert good.fingerprint in text(answer)


@pytest.mark.asyncio
async def test_where_keys_of_the_page_open_nothing_it_offers_none(pages: Pages) -> None:
    await pages.site.user_keys.add("alice", "2026", parse_line(KEY + " me@laptop"), "page")
    object.__setattr__(pages.site, "keeps_keys", False)
    shown = text(await pages.view())
    assert "Add a public key" not in shown
    assert "me@laptop" not in shown
    answer = await pages.ask("keys/add", form={"public_key": KEY, "nonce": await pages.key("keys/add")})
    assert answer.code == 404


@pytest.mark.asyncio
async def test_a_key_that_is_renewed_is_in_the_audit_log(pages: Pages) -> None:
    key = parse_line(KEY)
    await pages.site.user_keys.add("alice", "2026", key, "page")
    form = {"fingerprint": key.fingerprint, "nonce": await pages.key("keys/renew")}
    assert (await pages.ask("keys/renew", form=form)).code == 303
    assert pages.notes == [("key renewed", {"user": "alice", "fingerprint": key.fingerprint})]


def test_a_login_may_be_finished_by_another_gateway() -> None:
    state = login().generate_state(PREFIX + "login", code_verifier="v", cookie_name="c")
    other = login()
    assert other.get_next_url(state) == PREFIX + "login"
    assert other.get_code_verifier(state) == "v"
    assert other.get_state_cookie_name(state) == "c"


@pytest.mark.parametrize("state", ["", "x", "ä", "gAAAAABn" + "A" * 100])
def test_a_state_that_is_none_of_ours_leads_to_the_page(state: str) -> None:
    assert login().get_next_url(state) == PREFIX
    assert login().get_code_verifier(state) is None
    assert login().get_state_cookie_name(state) == "service-ssh-oauth-state"
