"""The test's side of the hostile user server: starts it in place of a user's own, tells it what to do, reads what it was sent."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from ..harness.hub import Answer, Hub, request
from ..harness.processes import wait_until
from ..harness.ssh import KeyPair

SCRIPT = Path(__file__).resolve().parents[1] / "fakes" / "hostile_user_server.py"


class HostileServer:
    """Of ``user`` at ``hub``; ``start`` it, or let a login do so."""

    def __init__(self, hub: Hub, user: str, folder: Path) -> None:
        self.hub, self.user, self.folder = hub, user, folder
        folder.mkdir(parents=True, exist_ok=True)
        hub.use_command(user, [str(hub.python), str(SCRIPT), str(folder)])

    def start(self, server: str = "") -> None:
        self.hub.start_server(self.user, server)

    def stop(self) -> None:
        self.hub.stop_server(self.user)
        self.hub.use_command(self.user, None)

    def http(self, mode: str, **settings: str) -> None:
        self._set("http_mode", mode, settings)

    def tunnel(self, mode: str, **settings: str) -> None:
        self._set("tunnel_mode", mode, settings)

    def ssh(self, mode: str, **settings: str) -> None:
        self._set("ssh_mode", mode, settings)

    def _set(self, name: str, mode: str, settings: dict[str, str]) -> None:
        for key, value in {**settings, name: mode}.items():
            (self.folder / key).write_text(value)

    def lists(self, *keys: KeyPair) -> None:
        """These are the keys that it claims to hold."""
        (self.folder / "keys").write_text("\n".join(key.public for key in keys))

    @property
    def environ(self) -> dict[str, str]:
        found = json.loads((self.folder / "environ.json").read_text())
        assert isinstance(found, dict)
        return found

    def push(self, user: str | None = None, server: str = "", token: str | None = None) -> Answer:
        """Tells the gateway that the keys of a server changed, with the server's own token."""
        assert self.hub.gateway is not None
        return request(
            "POST",
            f"{self.hub.gateway.url}{self.hub.gateway.prefix}api/keys-changed",
            json={"user": self.user if user is None else user, "server": server},
            headers={"Authorization": f"token {token or self.environ['JUPYTERHUB_API_TOKEN']}"},
        )

    def push_and_wait(self) -> None:
        """Until the gateway has asked for the keys, and has been answered in the way of now."""
        before = len(self.events("http"))
        answer = self.push()
        assert answer.status == 202, answer
        wait_until(lambda: len(self.events("http")) > before, what="the gateway to ask for the keys")

    def push_until_fetched(self) -> None:
        """Until the gateway has the keys."""
        wait_until(lambda: self.push().json.get("status") == "fetched", 60, interval=0.5, what="the gateway to have the keys")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        file = self.folder / "events"
        lines = file.read_text().splitlines() if file.exists() else []
        found = [json.loads(line) for line in lines]
        return [each for each in found if not kind or each["kind"] == kind]

    @property
    def recorded(self) -> bytes:
        file = self.folder / "recorded"
        return file.read_bytes() if file.exists() else b""

    def certificates(self) -> list[asyncssh.SSHCertificate]:
        blobs = {each["blob"] for each in self.events("certificate")}
        return [asyncssh.import_certificate(f"ssh-ed25519-cert-v01@openssh.com {blob}") for blob in sorted(blobs)]


def private_key_secrets(path: Path) -> list[bytes]:
    """What must not appear of an OpenSSH private key: its text, and the seed within."""
    text = path.read_text()
    key = load_ssh_private_key(text.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    seed = key.private_bytes_raw()
    assert seed in base64.b64decode("".join(line for line in text.splitlines() if not line.startswith("-----")))
    return [text.splitlines()[2].encode(), seed, base64.b64encode(seed)]


def secrets_of_hub(hub: Hub) -> dict[str, list[bytes]]:
    """By name: everything of Hub and gateway that no user server, log or client may ever see."""
    assert hub.gateway is not None
    return {
        "the gateway's token": [hub.gateway.token.encode()],
        "the admin's token": [hub.admin_token.encode()],
        "the cookie secret": [hub._cookie_secret.encode(), bytes.fromhex(hub._cookie_secret)],
        "the proxy's token": [hub._proxy_token.encode()],
        "the user CA": private_key_secrets(hub.gateway.keys / "user_ca"),
        "the gateway's host key": private_key_secrets(hub.gateway.keys / "host_key"),
    }


def found_in(data: bytes, secrets: dict[str, list[bytes]]) -> list[str]:
    """The names of those secrets that appear, as they are, in base64, or in hexadecimal digits."""
    decoded = b"\n".join(_decoded(data))
    return [
        name
        for name, forms in secrets.items()
        if any(form in data or form in decoded or form.hex().encode() in data.lower() for form in forms)
    ]


def _decoded(data: bytes) -> list[bytes]:
    """What stands in base64 or base64url in ``data``, as JWTs and Authorization headers have it."""
    found = []
    for text in re.findall(rb"[A-Za-z0-9+/_-]{16,}", data):
        cut = text[: len(text) - len(text) % 4].replace(b"-", b"+").replace(b"_", b"/")
        found.append(base64.b64decode(cut))
    return found
