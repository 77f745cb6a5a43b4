"""/services/ssh/: how to come in, and what is the user's own: keys, open connections, logins that wait for approval."""

from __future__ import annotations

from tornado.web import RequestHandler

from ...errors import HubUnavailable, KeyDuplicate, KeyPrivate, KeyRefused
from ...identifiers import printable
from ...login_names import UserServer
from ..authenticate.user_keys import keys_of
from ..connect.hub_models import UserModel
from .pages import Page, PageError
from .ways_in import client_setup

DONE = {
    "added": "The key was added. It opens all your servers from now on.",
    "removed": "The key was removed, and the connections that it opened were ended.",
    "renewed": "The key was renewed.",
    "ended": "The connection is being ended.",
    "revoked": "The program is logged out.",
}
"""what a page may say after a form: the address holds the word, never the sentence"""


class SSHPage(Page):
    """Every form that was right is answered by a redirect back to here."""

    button = "Show my keys and connections"
    purpose = "SSH page"

    async def show(self, *, status: int = 200, problem: str = "", text: str = "") -> None:
        """``problem`` is with the key ``text`` that was sent."""
        site, user = self.site, await self.user()
        servers = [UserServer(user.name, name) for name in sorted(user.servers)]
        page_keys = await site.user_keys.list(user.name, user.created) if site.keeps_keys else []
        on_page = {key.fingerprint for key in page_keys}
        self.render_page(
            "ssh.html",
            status=status,
            forms=await self.forms(),
            done="" if problem else DONE.get(self.get_query_argument("done", ""), ""),
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
            with_keys=site.keeps_keys,
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
    kind = "keys/add"

    async def act(self) -> None:
        if not self.site.keeps_keys:
            raise PageError(404, "Keys on this page open nothing on this hub.")
        text = self.get_body_argument("public_key", "", strip=True)
        try:
            await self._add(text)
        except KeyRefused as error:
            # What may be a private key is not sent around once more.
            shown = "" if isinstance(error, KeyPrivate) else text[:4096]
            return await self.show(status=422, problem=error.sentence, text=shown)
        return self.back("added", "keys")

    async def _add(self, text: str) -> None:
        """All or nothing. Raises KeyRefused."""
        keys, user = keys_of(text), await self.user()
        new = await self.site.user_keys.add_all(user.name, user.created, keys, "page")
        if not new:
            raise KeyDuplicate
        for key in new:
            self.site.note("key added", {"user": user.name, "fingerprint": key.fingerprint})


class RemoveKey(SSHPage):
    kind = "keys/remove"

    async def act(self) -> None:
        fingerprint = self.get_body_argument("fingerprint", "")
        if not await self.site.user_keys.remove(self.viewer.name, fingerprint):
            raise PageError(404, "There is no such key.")
        self.site.note("key removed", {"user": self.viewer.name, "fingerprint": printable(fingerprint)})
        self.back("removed", "keys")


class RenewKey(SSHPage):
    kind = "keys/renew"

    async def act(self) -> None:
        user, fingerprint = await self.user(), self.get_body_argument("fingerprint", "")
        if not await self.site.user_keys.renew(user.name, user.created, fingerprint):
            raise PageError(404, "There is no such key.")
        self.site.note("key renewed", {"user": user.name, "fingerprint": printable(fingerprint)})
        self.back("renewed", "keys")


class EndSession(SSHPage):
    kind = "connections/end"

    async def act(self) -> None:
        if not await self.site.sessions.end(self.get_body_argument("session", ""), self.viewer.name):
            raise PageError(404, "This connection has ended already.")
        self.site.note("connection ended", {"by": self.viewer.name, "user": self.viewer.name})
        self.back("ended", "connections")


class RevokeToken(SSHPage):
    kind = "programs/revoke"

    async def act(self) -> None:
        tokens, user = self.site.client_tokens, self.viewer.name
        revoked = await tokens.revoke(user, self.get_body_argument("token", "")) if tokens is not None else None
        if revoked is None:
            raise PageError(404, "This program is logged out already.")
        self.site.note("client token revoked", {"user": user, "client": revoked.client, "token": revoked.id})
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
