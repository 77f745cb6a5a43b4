"""/health, /metrics, and the page of a gateway that is not ready. All handlers share: no caching, no framing, no scripts."""

from __future__ import annotations

from typing import Any, Protocol

from tornado.escape import xhtml_escape
from tornado.web import HTTPError, RequestHandler

from ... import __version__
from ...identifiers import printable


class MetricsPage(Protocol):
    """What /metrics needs of the metrics."""

    content_type: str

    def render(self) -> bytes: ...


class Handler(RequestHandler):
    """Reads no cookie: whoever may do something says so by a token in a header. Pages for a person are in pages.py."""

    def set_default_headers(self) -> None:
        self.set_header("Server", "jhssh-gateway")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")

    def fail(self, status: int, code: str, message: str) -> None:
        """Ends the request with ``{"message", "code"}``."""
        self.set_status(status)
        self.finish({"message": message, "code": code})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.fail(status_code, "HTTP_ERROR", self._reason)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)


class NotFoundHandler(Handler):
    def prepare(self) -> None:
        self.fail(404, "NOT_FOUND", "There is no such page.")


class HealthHandler(Handler):
    """For the Hub, a load balancer or a probe of Kubernetes."""

    def get(self) -> None:
        cause = self.settings["health"].cause
        if cause:
            self.set_status(503)
            self.finish({"status": "unavailable", "cause": printable(cause, 300), "version": __version__})
        else:
            self.finish({"status": "ok", "version": __version__})

    head = get


class MetricsHandler(Handler):
    def get(self) -> None:
        metrics: MetricsPage = self.settings["metrics"]
        self.set_header("Content-Type", metrics.content_type)
        self.finish(metrics.render())


class IndexHandler(Handler):
    """Says that the gateway runs and what to type."""

    def get(self) -> None:
        host, port = self.settings["ssh_host"], self.settings["ssh_port"]
        if self.settings["health"].cause:
            text = "<p>SSH is not available right now.</p>"
        elif host:
            command = f"ssh {'' if port == 22 else f'-p {port} '}USER@{host}"
            text = (
                f"<p>Type <code>{xhtml_escape(command)}</code>, with your name on this hub for USER, or "
                f"<code>USER+SERVER</code> for a named server.</p><p>The password is a token of the Hub; with it, "
                "<code>ssh-copy-id</code> registers your public key.</p>"
            )
        else:
            text = "<p>The admin of this hub has not said yet under which name SSH is reached (ssh_host).</p>"
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(f'<!doctype html><html lang="en"><title>SSH gateway</title><h1>SSH gateway</h1>{text}</html>')
