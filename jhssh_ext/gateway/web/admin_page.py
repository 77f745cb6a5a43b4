"""/services/ssh/admin: everybody's open connections, found and ended; keys fetched anew. For admins of the Hub, or by a scope."""

from __future__ import annotations

import re

from tornado.web import RequestHandler

from ..authenticate.sessions import MAX_LISTED
from .pages import Page, PageError

MAX_SEARCH = 255
MAX_USERS = 100


class AdminPage(Page):
    button = "Show all connections"
    purpose = "admin page"

    async def post(self, *_path: str) -> None:
        if not self.viewer.admin:
            raise PageError(403, "This page is for admins.")
        await super().post()

    async def show(self, *, done: str = "") -> None:
        if not done and self.get_query_argument("done", "") == "ended":
            done = "The connection is being ended."
        search = self.get_argument("search", "")[:MAX_SEARCH]
        sessions = await self.site.sessions.list(search=search, limit=MAX_LISTED + 1)
        self.render_page(
            "admin.html",
            forms=await self.forms(),
            done=done,
            search=search,
            sessions=sessions[:MAX_LISTED],
            more=len(sessions) > MAX_LISTED,
            with_refresh=self.site.refresh is not None,
        )


class EndAnySession(AdminPage):
    kind = "admin/connections/end"

    async def act(self) -> None:
        id, user = self.get_body_argument("session", ""), self.get_body_argument("user", "")
        if not await self.site.sessions.end(id, user):
            raise PageError(404, "This connection has ended already.")
        self.site.note("connection ended", {"by": self.viewer.name, "user": user})
        self.redirect(f"{self.site.prefix}admin?done=ended", status=303)


class RefreshKeys(AdminPage):
    kind = "admin/refresh"

    async def act(self) -> None:
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
