"""/login: a person types the code that their own terminal shows, sees who asks for what, and approves or denies it.

Who asks is an SSH connection, or ``jhssh login`` for a token.

The link to this page holds no code: who sends it to somebody else, and waits for an approval, gets none (docs/security.md).
"""

from __future__ import annotations

from dataclasses import replace

from tornado.web import RequestHandler

from ...errors import HubUnavailable, TooManyAttempts
from ...public_keys import parse_line
from ..authenticate.approvals import Request
from ..authenticate.browser_login import BrowserLogin
from ..connect.hub_models import UserModel
from .pages import Page, PageError

OVER = "This login is over, or was never yours. Start again in your terminal for a new code."


class ApprovalPage(Page):
    """What the two pages share."""

    @property
    def browser_login(self) -> BrowserLogin:
        found = self.site.browser_login
        if found is None:
            raise PageError(404, "This hub has no SSH login by browser. Log in with a key, or with a token as password.")
        return found

    @property
    def browser_address(self) -> str:
        """Empty where it is not known."""
        return self.site.proxies.client(self.request.remote_ip or "", self.request.headers.get_list("X-Forwarded-For"))

    def same_address(self, request: Request) -> bool:
        """Of addresses that nobody can claim."""
        return not request.by_proxy and self.site.proxies.same(request.address, self.browser_address)

    def _note(self, event: str, request: Request) -> None:
        target = request.target
        what = {"client": request.client} if request.client else {"server": target.server}
        self.site.note(event, {"user": target.user, **what, "address": request.address, "browser": self.browser_address})


class CodePage(ApprovalPage):
    """Asks for the code."""

    button = "Enter the code from my terminal"
    purpose, kind = "approval code", "login"

    async def act(self) -> None:
        try:
            found = await self.browser_login.claim(self.viewer.name, self.get_body_argument("code", ""))
        except TooManyAttempts as error:
            return await self.show(status=429, problem=error.sentence)
        if found is None:
            # Whether the code is nobody's or another user's is not told.
            sentence = f"No login of {self.viewer.name} waits with this code. Look at your terminal, and type it again."
            return await self.show(status=400, problem=sentence)
        self._note("login claimed", found)
        self.redirect(f"{self.site.prefix}login/{found.id}", status=303)
        return None

    async def show(self, *, status: int = 200, problem: str = "") -> None:
        assert self.browser_login, "there is such a login"
        self.render_page(
            "login_code.html",
            status=status,
            forms=await self.forms(),
            problem=problem,
            with_client=self.site.client_logins is not None,
        )


class DecisionPage(ApprovalPage):
    """One login whose code was typed: who asks, from where, for what; Approve or Deny; then whether to remember its key."""

    button, kind = "Look at the login that waits", "login"

    async def prepare(self) -> None:
        await super().prepare()
        self.id = self.path_args[0]
        self.purpose = f"approval {self.id}"

    async def show(self) -> None:
        await self._show(await self._found())

    async def act(self) -> None:
        decision = self.get_body_argument("decision", "")
        request = await self._found()
        if decision == "approve":
            return await self._approve(request)
        if decision == "deny":
            if not await self.browser_login.approvals.deny(self.viewer.name, self.id):
                raise PageError(410, OVER)
            self._note("login denied", request)
            return self.render_page("login_done.html", title="Denied", sentence="The login was refused.")
        if decision == "remember":
            return await self._remember(request)
        raise PageError(400, "Nothing was done.")

    async def _approve(self, request: Request) -> None:
        approvals, user = self.browser_login.approvals, self.viewer.name
        if not self.same_address(request):
            created = (await self._user()).created if request.client else ""
            if request.client and not created:  # before a number is typed for nothing
                raise HubUnavailable(
                    explanation="the Hub does not say when users were made: give the gateway the scope read:users"
                )
            number = await approvals.approve_by_number(user, request.id, created=created)
            if number is None:
                raise PageError(410, OVER)
            self._note("login approved by number", request)
            return self.render_page("login_number.html", number=number, request=request)
        if not await approvals.approve(user, request.id):
            raise PageError(410, OVER)
        self._note("login approved", request)
        return await self._show(replace(request, state="approved"))

    async def _remember(self, request: Request) -> None:
        if not self.site.keeps_keys:
            raise PageError(404, "No key can be remembered on this hub.")
        user = await self._user()
        found = await self.browser_login.approvals.take_key(self.viewer.name, request.id, self.get_body_argument("key", ""))
        if found is None:
            raise PageError(400, "No key was chosen, or it is too late. Nothing is remembered.")
        key = parse_line(f"{found.line} login from {request.address}")
        await self.site.user_keys.add(self.viewer.name, user.created, key, "approval")
        self.site.note("key remembered", {"user": self.viewer.name, "fingerprint": key.fingerprint, "address": request.address})
        self.render_page(
            "login_done.html",
            title="Remembered",
            sentence=f"The key {key.fingerprint} opens all your servers from now on. Remove it on the SSH page.",
        )

    async def _user(self) -> UserModel:
        found = await self.site.hub.user(self.viewer.name)
        if found is None:
            raise HubUnavailable(explanation="a user who is logged in is gone")
        return found

    async def _found(self) -> Request:
        found = await self.browser_login.approvals.of(self.viewer.name, self.id)
        # A program may have asked before its logins were turned off.
        if found is None or (found.client and self.site.client_logins is None):
            raise PageError(404, OVER)
        return found

    async def _show(self, request: Request) -> None:
        if request.state == "claimed":
            logins = self.site.client_logins
            return self.render_page(
                "login_decide_client.html" if request.client else "login_decide.html",
                request=request,
                forms=await self.forms(),
                browser_address=self.browser_address,
                same_address=self.same_address(request),
                days=f"{self.site.client_tokens.days:g}" if self.site.client_tokens else "",
                with_keys=self.site.keeps_keys,
                hub=self.site.public_url or (logins.link.removesuffix("login") if logins else ""),
            )
        if request.state in ("approved", "entered") and request.offered and self.site.keeps_keys:
            return self.render_page("login_approved.html", request=request, forms=await self.forms())
        title, sentence = {
            "number": ("Approved", "The number was shown once. Where it is lost, start again in your terminal for a new code."),
            "denied": ("Denied", "The login was refused."),
        }.get(request.state, ("Approved", "Your terminal goes on by itself."))
        return self.render_page("login_done.html", title=title, sentence=sentence)


HANDLERS: list[tuple[str, type[RequestHandler]]] = [
    (r"/login", CodePage),
    (r"/login/([A-Za-z0-9_-]{1,64})", DecisionPage),
]
"""by path below the service's prefix"""
