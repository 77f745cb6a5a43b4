"""/services/ssh/: how to come in, and what is the user's own: keys, open connections, logins that wait for approval."""

from __future__ import annotations

from tornado.web import RequestHandler

from ...errors import HubUnavailable, KeyDuplicate, KeyPrivate, KeyRefused
from ...identifiers import printable
from ...login_names import UserServer
from ...public_keys import parse_lines
from ..connect.hub_models import UserModel
from .pages import Page, PageError
from .ways_in import client_setup

PURPOSE = "SSH page"
DONE = {
    "added": "The key was added. It opens all your servers from now on.",
    "removed": "The key was removed, and the connections that it opened were ended.",
    "renewed": "The key was renewed.",
    "ended": "The connection is being ended.",
    "revoked": "The program is logged out.",
}
"""what a page may say after a form: the address holds the word, never the sentence"""


class SSHPage(Page):
    """Its one script copies commands, nothing needs it. Every form is answered by a redirect back to here."""

    scripts = True

    async def get(self) -> None:
        await self.show(done=DONE.get(self.get_query_argument("done", ""), ""))

    async def show(self, *, status: int = 200, done: str = "", problem: str = "", text: str = "") -> None:
        """``problem`` is with the key ``text`` that was sent."""
        site, user = self.site, await self.user()
        servers = [UserServer(user.name, name) for name in sorted(user.servers)]
        page_keys = await site.user_keys.list(user.name, user.created)
        on_page = {key.fingerprint for key in page_keys}
        self.render_page(
            "ssh.html",
            status=status,
            nonce=await self.nonce(PURPOSE),
            done=done,
            problem=problem,
            text=text,
            door=site.door,
            ways=[way for server in servers if (way := site.door.way_to(server))] if site.door else [],
            user=user,
            page_keys=page_keys,
            other_keys=[key for key in await site.key_listing.of(user.name, user.created) if key.fingerprint not in on_page],
            sessions=await site.sessions.list(user.name),
            pending=await site.browser_login.approvals.list_pending(user.name) if site.browser_login else [],
            with_browser=site.browser_login is not None,
            client_tokens=await site.client_tokens.list(user.name, user.created) if site.client_tokens else [],
            client_setup=client_setup(site.client_logins.link.removesuffix("login")) if site.client_logins else "",
        )

    async def user(self) -> UserModel:
        found = await self.site.hub.user(self.viewer.name)
        if found is None:
            raise HubUnavailable(explanation="a user who is logged in is none of the Hub's")
        return found

    def back(self, done: str, part: str) -> None:
        self.redirect(f"{self.site.prefix}?done={done}#{part}", status=303)


class AddKey(SSHPage):
    async def post(self) -> None:
        await self.redeem(PURPOSE)
        text = self.get_body_argument("public_key", "", strip=True)
        try:
            await self._add(text)
        except KeyRefused as error:
            # What may be a private key is not sent around once more.
            shown = "" if isinstance(error, KeyPrivate) else text[:4096]
            return await self.show(status=422, problem=error.sentence, text=shown)
        return self.back("added", "keys")

    async def _add(self, text: str) -> None:
        user, added = await self.user(), 0
        for key in parse_lines(text):
            try:
                await self.site.user_keys.add(user.name, user.created, key, "page")
            except KeyDuplicate:
                continue
            self.site.note("key added", {"user": user.name, "fingerprint": key.fingerprint})
            added += 1
        if not added:
            raise KeyDuplicate


class RemoveKey(SSHPage):
    async def post(self) -> None:
        await self.redeem(PURPOSE)
        fingerprint = self.get_body_argument("fingerprint", "")
        if not await self.site.user_keys.remove(self.viewer.name, fingerprint):
            raise PageError(404, "There is no such key.")
        self.site.note("key removed", {"user": self.viewer.name, "fingerprint": printable(fingerprint)})
        self.back("removed", "keys")


class RenewKey(SSHPage):
    async def post(self) -> None:
        await self.redeem(PURPOSE)
        user = await self.user()
        if not await self.site.user_keys.renew(user.name, user.created, self.get_body_argument("fingerprint", "")):
            raise PageError(404, "There is no such key.")
        self.back("renewed", "keys")


class EndSession(SSHPage):
    async def post(self) -> None:
        await self.redeem(PURPOSE)
        if not await self.site.sessions.end(self.get_body_argument("session", ""), self.viewer.name):
            raise PageError(404, "This connection has ended already.")
        self.site.note("connection ended", {"by": self.viewer.name, "user": self.viewer.name})
        self.back("ended", "connections")


class RevokeToken(SSHPage):
    async def post(self) -> None:
        await self.redeem(PURPOSE)
        tokens = self.site.client_tokens
        if tokens is None or not await tokens.revoke(self.viewer.name, self.get_body_argument("token", "")):
            raise PageError(404, "This program is logged out already.")
        self.site.note("client token revoked", {"user": self.viewer.name})
        self.back("revoked", "programs")


HANDLERS: list[tuple[str, type[RequestHandler]]] = [
    (r"/?", SSHPage),
    (r"/keys/add", AddKey),
    (r"/keys/remove", RemoveKey),
    (r"/keys/renew", RenewKey),
    (r"/connections/end", EndSession),
    (r"/programs/revoke", RevokeToken),
]
"""by path below the service's prefix"""
