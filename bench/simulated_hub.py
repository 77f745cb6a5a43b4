"""A Hub and its user servers, over real HTTP and SSH, a process for each: ``python -m bench.simulated_hub FOLDER COUNT WHAT``.

WHAT is "servers", which writes FOLDER/servers.json, or then "hub", which writes FOLDER/hub.json: ports and tokens. Of every
hundred user servers one never answers and one answers garbage; all others sign the keys that they list as the server extension
does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncssh

from jhssh_ext.identifiers import AUDIENCE, PRINCIPAL, opaque_id
from jhssh_ext.public_keys import PublicKey
from jhssh_ext.signed_http import ANSWER_TYPE

HUB_ID = "bench"
CREATED = "2026-01-01T00:00:00.000000Z"
ADMIN, GATEWAY = secrets.token_hex(16), secrets.token_hex(16)
NICE = 10
"""of the user servers, which stand for other machines: here they give way to the gateway"""


def name_of(number: int) -> str:
    return f"user{number:05d}"


def behaviour(number: int) -> str:
    return {1: "hang", 2: "garbage"}.get(number % 100, "answer")


def some_key(text: str) -> str:
    """A line of an authorized_keys file that nobody has the private half of."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(text.encode()).digest()
    return PublicKey("ssh-ed25519", blob, "bench").line


class Hub:
    """Answers for all of them."""

    def __init__(self, count: int, login_key: str) -> None:
        self.count, self.login_key = count, login_key
        self.ports: dict[str, int] = {}
        self.host_key = ""

    def secret(self, number: int) -> str:
        return hashlib.sha256(f"secret {number}".encode()).hexdigest()

    def user(self, number: int) -> dict[str, Any]:
        state = {
            "host": "127.0.0.1", "port": self.ports["ssh"], "user": opaque_id(PRINCIPAL, HUB_ID, name_of(number), ""),
            "host_key": self.host_key,
            "url": f"http://127.0.0.1:{self.ports['http']}/user/{number}/",
            "secret": self.secret(number), "spawn": "1", "hub_id": HUB_ID,
        }  # fmt: skip
        server = {"name": "", "ready": True, "pending": None, "user_options": {}, "state": {"jhssh": state}}
        return {"name": name_of(number), "kind": "user", "created": CREATED, "servers": {"": server}}

    async def api(self, path: str, query: dict[str, list[str]], token: str) -> Any:
        if path == "/hub/api/user":
            if token == ADMIN:
                return {"name": "admin", "kind": "user", "admin": True, "scopes": ["admin:servers"]}
            return {"status": 403, "message": "no"}
        if path == "/hub/api/users":
            offset, limit = int(query["offset"][0]), int(query["limit"][0])
            end = min(self.count, offset + limit)
            following = {"offset": end, "limit": limit} if end < self.count else None
            return {"items": [self.user(number) for number in range(offset, end)], "_pagination": {"next": following}}
        if path.startswith("/hub/api/users/"):
            name = unquote(path.removeprefix("/hub/api/users/").split("/")[0])
            if path.endswith("/activity"):
                return {}
            return self.user(int(name.removeprefix("user")))
        return {"version": "6.1.1"}

    async def publickey(self, number: int, token: str) -> bytes:
        if behaviour(number) == "hang":
            await asyncio.Event().wait()
        if behaviour(number) == "garbage":
            return os.urandom(4096)
        payload = token.split(".")[1]
        jti = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["jti"]
        lines = [self.login_key] if number % 100 == 0 else [some_key(f"{number} {each}") for each in range(3)]
        body = {"keys": [{"public_key": line} for line in lines], "ignored": []}
        claims = {"use": "answer", "aud": opaque_id(AUDIENCE, HUB_ID, name_of(number), ""), "jti": jti, "body": body,
                  "exp": int(time.time()) + 30}  # fmt: skip
        parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
        mac = hmac.digest(self.secret(number).encode(), b".".join(parts), "sha256")
        return b".".join([*parts, _base64(mac)])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = (line.partition(":") for line in head.split("\r\n")[1:])
                fields = {key.lower(): value.strip() for key, _, value in lines}
                await reader.readexactly(int(fields.get("content-length", "0")))
                url = urlsplit(head.split(" ", 2)[1])
                token = fields.get("authorization", " ").split(" ")[-1]
                if url.path.startswith("/user/"):
                    kind, body = ANSWER_TYPE, await self.publickey(int(url.path.split("/")[2]), token)
                else:
                    kind, body = "application/json", json.dumps(await self.api(url.path, parse_qs(url.query), token)).encode()
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class _AnyCertificate(asyncssh.SSHServer):
    """Lets in whoever has a certificate: who may is not what is measured."""

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


async def main(folder: Path, count: int, what: str) -> None:
    hub = Hub(count, (folder / "login_key.pub").read_text().strip())
    server = await asyncio.start_server(hub.serve, "127.0.0.1", 0, backlog=1024)
    told: dict[str, Any] = {"http": server.sockets[0].getsockname()[1]}
    if what == "hub":
        key = asyncssh.generate_private_key("ssh-ed25519")
        sshd = await asyncssh.listen("127.0.0.1", 0, server_factory=_AnyCertificate, server_host_keys=[key], encoding=None)
        hub.host_key = key.export_public_key().decode().strip()
        hub.ports = {**json.loads((folder / "servers.json").read_text()), "ssh": sshd.get_port()}
        told |= {"admin": ADMIN, "gateway": GATEWAY}
    else:
        os.nice(NICE)
    (folder / "new").write_text(json.dumps(told))
    (folder / "new").rename(folder / f"{what}.json")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
