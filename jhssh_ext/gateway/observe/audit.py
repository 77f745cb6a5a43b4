"""The audit log: one line for each login, refusal and end, and what is done on the pages; on the logger jhssh.audit."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from ...identifiers import printable
from ..authenticate.login import Login


class Audit:
    """Lines are ``event {JSON}``, ASCII alone; what others chose is cut and freed of control characters. Never a secret."""

    def __init__(self) -> None:
        self._log = logging.getLogger("jhssh.audit")

    def refused(self, address: str, login_name: str, code: str) -> None:
        self._write("refused", {"code": code, "login_name": login_name, "address": address})

    def opened(self, login: Login) -> None:
        self._write("login", {"code": "OK", **_who(login)})

    def closed(self, login: Login, from_client: int, from_server: int) -> None:
        self._write("end", {**_who(login), "bytes_from_client": from_client, "bytes_from_server": from_server})

    def page(self, event: str, values: Mapping[str, str]) -> None:
        """Something was done on a page."""
        self._write(event, dict(values))

    def _write(self, event: str, values: dict[str, str | int]) -> None:
        shown = {key: printable(value) if isinstance(value, str) else value for key, value in values.items()}
        self._log.info("%s %s", event, json.dumps(shown, ensure_ascii=True))


def _who(login: Login) -> dict[str, str | int]:
    return {
        "user": login.target.user,
        "server": login.target.server,
        "method": login.method,
        "fingerprint": login.fingerprint,
        "address": login.address,
    }
