"""/services/ssh/admin: everybody's open connections, found and ended; keys fetched anew. For admins of the Hub, or by a scope."""

from __future__ import annotations

import re

from tornado.web import RequestHandler

from ..authenticate.sessions import MAX_LISTED
from .pages import Page, PageError

PURPOSE = "admin page"
MAX_SEARCH = 255
MAX_USERS = 100


class AdminPage(Page):
    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished and not self.viewer.admin:
            raise PageError(403, "This page is for admins.")

    async def get(self) -> None:
        done = "The connection is being ended." if self.get_query_argument("done", "") == "ended" else ""
        await self.show(done=done)

    async def show(self, *, done: str = "") -> None:
        search = self.get_argument("search", "")[:MAX_SEARCH]
        sessions = await self.site.sessions.list(search=search, limit=MAX_LISTED + 1)
        self.render_page(
            "admin.html",
            nonce=await self.nonce(PURPOSE),
            done=done,
            search=search,
            sessions=sessions[:MAX_LISTED],
            more=len(sessions) > MAX_LISTED,
            with_refresh=self.site.refresh is not None,
        )


class EndAnySession(AdminPage):
    async def post(self) -> None:
        await self.redeem(PURPOSE)
        id, user = self.get_body_argument("session", ""), self.get_body_argument("user", "")
        if not await self.site.sessions.end(id, user):
            raise PageError(404, "This connection has ended already.")
        self.site.note("connection ended", {"by": self.viewer.name, "user": user})
        self.redirect(f"{self.site.prefix}admin?done=ended", status=303)


class RefreshKeys(AdminPage):
    async def post(self) -> None:
        await self.redeem(PURPOSE)
        if self.site.refresh is None:
            raise PageError(404, "There is nothing to fetch.")
        users = re.split(r"[\r\n]+", self.get_body_argument("users", ""))
        names = [name for name in users if name][:MAX_USERS]
        self.site.note("keys refreshed", {"by": self.viewer.name})
        await self.show(done=await self.site.refresh(names))


HANDLERS: list[tuple[str, type[RequestHandler]]] = [
    (r"/admin", AdminPage),
    (r"/admin/connections/end", EndAnySession),
    (r"/admin/refresh", RefreshKeys),
]
"""by path below the service's prefix"""
