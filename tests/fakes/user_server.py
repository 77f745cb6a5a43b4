"""Takes the place of a single-user server where a test is about the Hub alone: answers 204. Standard library only."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    assert url.hostname
    assert url.port
    HTTPServer((url.hostname, url.port), Handler).serve_forever()
