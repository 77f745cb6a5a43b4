"""What all pages for a person share: who it is, what a browser may do with a page, how it looks, and how it says that it failed.

User servers may share the Hub's origin, so scripts of any server that a user visits can send whatever that user's browser can
send. Against them: pages are answers to top-level navigations alone, which no page reads; they are sandboxed, so that a window
that opened one cannot look into it; what a service worker can read, the answer to a GET, holds nothing (Page); and forms count
once, and only as they were filled in (forms.py).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from markupsafe import Markup
from tornado.web import HTTPError, StaticFileHandler

from ...errors import JHSSHError, Unavailable
from ...identifiers import printable
from ..addresses import TrustedProxies
from ..authenticate.browser_login import BrowserLogin
from ..authenticate.client_logins import ClientLogins
from ..authenticate.client_tokens import ClientTokens
from ..authenticate.key_listing import KeyListing
from ..authenticate.sessions import Sessions
from ..authenticate.user_keys import UserKeys
from ..connect.hub_client import HubClient
from .client_servers import ClientServers
from .forms import Forms, IssuedForms
from .handlers import Handler
from .hub_login import HubLogin
from .ways_in import Door

THEMES = ("light", "dark")
THEME_COOKIE = "jhssh-theme"
MAX_TEXT = 4096
"""characters of one value on a page"""

Note = Callable[[str, Mapping[str, str]], None]
"""``note(event, values)``: for the audit log"""
Refresh = Callable[[Collection[str]], Awaitable[str]]
"""fetches the keys of these users anew, or of all; a sentence that says how it went"""

log = logging.getLogger("jhssh.web")


@dataclass(frozen=True)
class Viewer:
    """The Hub's user before the browser."""

    name: str
    hub_admin: bool
    """an admin of the Hub"""
    admin: bool
    """that, or an admin here"""


@dataclass(frozen=True)
class Site:
    """What all pages share. ``service`` is the name of the gateway at the Hub; ``prefix`` and ``hub_url`` end with a slash."""

    hub: HubClient
    login: HubLogin
    forms: Forms
    user_keys: UserKeys
    key_listing: KeyListing
    sessions: Sessions
    prefix: str
    hub_url: str
    """of the Hub's own pages (/hub/), with the origin where subdomains are used"""
    door: Door | None
    """where users find the gateway; None where no way there is known"""
    note: Note
    refresh: Refresh | None = None
    keeps_keys: bool = True
    """do keys that users keep on the page open anything?"""
    browser_login: BrowserLogin | None = None
    client_tokens: ClientTokens | None = None
    """None where the ``jhssh`` command can't log in"""
    client_logins: ClientLogins | None = None
    client_servers: ClientServers | None = None
    separator: str = ""
    """as in login_names"""
    public_url: str = ""
    """the Hub as users see it; empty where the admin has not said"""
    proxies: TrustedProxies = field(default_factory=lambda: TrustedProxies([]))
    service: str = "ssh"
    admin_scope: str = ""
    """who has it is an admin here, as who is one at the Hub"""


class PageError(Exception):
    """A page cannot do what was asked: shown with this status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def is_top_level(headers: Mapping[str, str]) -> bool:
    """Does a person's browser ask for this to show it in a tab? Scripts can't set these headers (Fetch Metadata).

    A service worker, which a user server may register for the whole origin, can pass a navigation on: the destination is lost
    then. It can also have the browser ask in advance, and read that answer: such requests carry a header that it can't take away.
    And it can have a GET sent twice, beside itself and by itself, and read the answer (addRoutes(),
    "race-network-and-fetch-handler"): such a GET looks like any other. A POST is never sent so.
    """
    return (
        headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
        and "Service-Worker-Navigation-Preload" not in headers
    )


class BasePage(Handler):
    """A page in the Hub's look, for anybody. The only script in it is ours."""

    viewer: Viewer | None = None

    @property
    def site(self) -> Site:
        found = self.settings["site"]
        assert isinstance(found, Site)
        return found

    async def prepare(self) -> None:
        """Raises PageError."""
        if not is_top_level(self.request.headers):
            raise PageError(
                403,
                "This page opens only in a window of a current browser, over HTTPS. If that is what you did, a script of another "
                "page of this hub stands between (a service worker): clear this site's data in your browser, and log in again.",
            )

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self._csp_nonce = secrets.token_urlsafe(16)
        source = f"'nonce-{self._csp_nonce}'"
        hub = urlsplit(self.settings["site"].hub_url)
        hosts = f"'self' {hub.scheme}://{hub.netloc}" if hub.netloc else "'self'"
        rules = {
            "sandbox": "allow-forms allow-scripts",
            "default-src": "'none'",
            "style-src": source,
            "script-src": source,
            "img-src": hosts,
            "form-action": hosts,
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        self.set_header("Content-Security-Policy", "; ".join(f"{name} {value}" for name, value in rules.items()))
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Vary", "Cookie, Sec-Fetch-Mode, Sec-Fetch-Dest")

    def render_page(self, template: str, *, status: int = 200, **values: Any) -> None:
        """Ends the request with a template of templates/ (Jinja2, all values escaped)."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        theme = self.get_cookie(THEME_COOKIE, "")
        self.finish(
            TEMPLATES.get_template(template).render(
                viewer=self.viewer if self.request.method == "POST" else None,  # a GET's answer may be read
                prefix=self.site.prefix,
                hub_url=self.site.hub_url,
                csp_nonce=self._csp_nonce,
                theme=theme if theme in THEMES else "",
                **values,
            )
        )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What was raised, as a page: the sentence where there is one for the user, else the name of the status."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        sentence = ""
        if isinstance(error, PageError):
            status_code, sentence = error.status, error.sentence
        elif isinstance(error, JHSSHError):
            status_code, sentence = 503 if isinstance(error, Unavailable) else 400, f"{error.sentence} [{error.code}]"
        self.render_page("error.html", status=status_code, code=status_code, sentence=sentence or self._reason)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, Unavailable):
            log.warning("A page was not shown: %s", value)
        elif not isinstance(value, (HTTPError, PageError, JHSSHError)):
            super().log_exception(typ, value, tb)


class Page(HubOAuthenticated, BasePage):
    """A page for a user of the Hub: ``self.viewer`` is set before show() and act(). Who is not logged in is sent to the Hub.

    A GET is answered by a page with one button, which our script presses at once: the same for every user. The answer to that
    POST is what show() renders. Any other POST is a form, taken once: act() does what it wants. In templates the forms call
    ``sealed(forms.key(kind))``, where ``forms`` is ``await self.forms()``.
    """

    viewer: Viewer
    button = "Open the page"
    """what the one button says"""
    purpose = ""
    """of the forms on the page"""
    kind = ""
    """of those of them that act() takes; empty: none"""

    def initialize(self) -> None:
        self.hub_auth = self.site.login

    async def get(self, *_path: str) -> None:
        self.render_page("open.html", button=self.button)

    async def post(self, *_path: str) -> None:
        """Raises PageError."""
        if self.get_body_argument("view", ""):
            return await self.show()
        if not self.kind or not await self.site.forms.take(
            self.viewer.name, self.purpose, self.kind, self.request.body_arguments
        ):
            raise PageError(403, "This form was sent already, or is too old. Nothing was done: open the page again.")
        return await self.act()

    async def show(self) -> None:
        """Renders the page."""

    async def act(self) -> None:
        """Does what the form wants."""

    async def forms(self) -> IssuedForms:
        """For this view of the page. Raises DatabaseUnavailable."""
        return await self.site.forms.issue(self.viewer.name, self.purpose)

    def get_current_user(self) -> None:
        """Nobody: HubOAuthenticated's asks the Hub and blocks the gateway meanwhile; prepare() asks in its place."""

    async def prepare(self) -> None:
        """Raises PageError or HubUnavailable."""
        await super().prepare()
        viewer = await self._identify()
        if viewer is None:
            self._log_in()
            return
        self.viewer = viewer
        theme = self.get_query_argument("theme", "")
        if self.request.method == "GET" and theme in THEMES:
            self.set_cookie(THEME_COOKIE, theme, path=self.site.prefix, httponly=True, samesite="None", secure=True)
            self.redirect(self.request.path, status=303)

    def _log_in(self) -> None:
        if self.request.method in ("GET", "HEAD"):
            return self.redirect(self.get_login_url(), status=303)
        if self.get_cookie(self.hub_auth.cookie_name) is None:
            # Where the page itself was asked for with a cookie, it would be asked for again and again.
            raise PageError(403, "Your browser sent this form without your login. Allow cookies for this site, and log in again.")
        # The form is lost: it is of the login that has ended.
        query = f"?{self.request.query}" if self.request.query else ""
        return self.redirect(self.request.path + query, status=303)

    async def _identify(self) -> Viewer | None:
        """By the cookie of our own login alone: no token in a header or in the URL opens a page. Not cached."""
        cookie = self.get_secure_cookie(self.hub_auth.cookie_name)
        owner = await self.site.hub.identify(cookie.decode("ascii", "replace")) if cookie else None
        if owner is None:
            return None
        if owner.kind != "user" or owner.scopes.isdisjoint(("access:services", f"access:services!service={self.site.service}")):
            raise PageError(
                403,
                f"Your account has no access to this service. It needs the scope access:services!service={self.site.service}.",
            )
        return Viewer(owner.name, owner.admin, owner.admin or self.site.admin_scope in owner.scopes)


class LoginCallback(BasePage, HubOAuthCallbackHandler):
    """Where the Hub sends the browser back to after a login."""

    def initialize(self) -> None:
        self.hub_auth = self.site.login

    async def prepare(self) -> None:
        # A script of another page would read the code in the address of an error (Response.url), unused. Made for a state of its
        # author's, it would make that one's browser the user's.
        if not is_top_level(self.request.headers):
            self.redirect(self.site.prefix, status=303)

    def get_current_user(self) -> None:
        """Nobody: as in Page."""


class StaticFiles(StaticFileHandler):
    """Our style sheet, the same for everybody."""

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Server", "jhssh-gateway")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")


def _shown(value: Any) -> Any:
    """Without control characters, and bounded: much on the pages was chosen by others."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value, MAX_TEXT)


def _lines(text: str) -> Markup:
    """Text that has lines."""
    return Markup("\n").join(_shown(line) for line in text.splitlines())


def _time(seconds: float) -> Markup:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M UTC")
    )


def _size(count: int) -> str:
    """Bytes as a person reads them: 980 B, 1.2 MB."""
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


TEMPLATES = Environment(
    loader=PackageLoader("jhssh_ext.gateway.web"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters.update(time=_time, size=_size, lines=_lines)
