"""A user server whose owner controls every byte, started by a real Hub in place of a user's own, with its JHSSH_* environment.

    python hostile_user_server.py FOLDER

FOLDER/http_mode, FOLDER/tunnel_mode and FOLDER/ssh_mode say what it does (see HTTP and SSHConnection), read anew for each
connection. It writes FOLDER/environ.json, what it was sent to FOLDER/recorded, and one JSON line for each event to FOLDER/events.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncssh
from asyncssh.packet import Boolean, Byte, SSHPacket, String, UInt32

from jhssh_ext.gateway.connect.endpoint import Endpoint
from jhssh_ext.signed_http import ANSWER_TYPE, sign_answer

FOLDER = Path(sys.argv[1])
ENVIRONMENT = {name: os.environ.get("JHSSH_" + name.upper(), "") for name in ("secret", "audience", "host_key", "listen_port")}
PROMPT = b"the hostile server greets\n"


def event(kind: str, **values: Any) -> None:
    with (FOLDER / "events").open("a") as file:
        file.write(json.dumps({"kind": kind, **values}) + "\n")


def record(data: bytes) -> None:
    with (FOLDER / "recorded").open("ab") as file:
        file.write(data + b"\n")


def setting(name: str, otherwise: str) -> str:
    path = FOLDER / name
    return path.read_text().strip() if path.exists() else otherwise


# HTTP


def _response(body: bytes, kind: str = ANSWER_TYPE, status: str = "200 OK", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def _jti(head: str) -> str:
    """Of the gateway's signed request; its payload is readable by everyone."""
    token = next((line.split()[-1] for line in head.split("\r\n") if line.lower().startswith("authorization: jhssh")), "..")
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4) or "e30=")).get("jti"))


def _listed(lines: list[str]) -> dict[str, Any]:
    return {"keys": [{"public_key": line} for line in lines], "ignored": []}


def _keys() -> list[str]:
    return setting("keys", "").splitlines()


def _signed(body: Any, jti: str, audience: str = "") -> bytes:
    return sign_answer(ENVIRONMENT["secret"], audience or ENVIRONMENT["audience"], jti, body).encode()


def _signed_text(claims: str) -> bytes:
    """A JWT whose claims are any text: JSON that no honest library writes."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (b'{"alg":"HS256","typ":"JWT"}', claims.encode())]
    mac = hmac.digest(ENVIRONMENT["secret"].encode(), b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")])


async def _endless(writer: asyncio.StreamWriter, head: bytes, chunk: bytes, times: int, pause: float = 0.0) -> None:
    writer.write(head)
    for _ in range(times):
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(pause)


async def _answer(mode: str, head: str, writer: asyncio.StreamWriter) -> None:
    body = _listed(_keys())
    jti = _jti(head)
    deep = '{"use":"answer","aud":"%s","jti":"%s","exp":99999999999,"body":%s}'
    mega = b"x" * (1 << 20)
    plain: dict[str, Callable[[], bytes]] = {
        "keys": lambda: _response(_signed(body, jti)),
        "other jti": lambda: _response(_signed(body, "0" * 32)),
        "another's audience": lambda: _response(_signed(body, jti, setting("audience", "0" * 64))),
        "unsigned": lambda: _response(json.dumps(body).encode(), "application/json"),
        "unsigned jwt": lambda: _response(
            b"eyJhbGciOiJub25lIn0."
            + base64.urlsafe_b64encode(json.dumps({"jti": jti, "body": body}).encode()).rstrip(b"=")
            + b"."
        ),
        "garbage": lambda: _response(os.urandom(4096)),
        "no http": lambda: b"\x1b]0;owned\x07SSH-2.0-x\r\n\r\n" + os.urandom(512),
        "redirect": lambda: _response(b"", status="307 Temporary Redirect", extra=f"Location: {setting('location', '')}\r\n"),
        "deep": lambda: _response(_signed_text(deep % (ENVIRONMENT["audience"], jti, "[" * 300000))),
        "terminal": lambda: _response(b"", status="200 \x1b[31mred\x1b]0;owned\x07"),
    }
    if mode in plain:
        writer.write(plain[mode]())
    elif mode == "1 GB":
        await _endless(
            writer, f"HTTP/1.1 200 OK\r\nContent-Type: {ANSWER_TYPE}\r\nContent-Length: {1 << 30}\r\n\r\n".encode(), mega, 1024
        )
    elif mode == "1 GB in chunks":
        head_ = f"HTTP/1.1 200 OK\r\nContent-Type: {ANSWER_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        await _endless(writer, head_, b"100000\r\n" + mega + b"\r\n", 1024)
    elif mode == "headers without end":
        await _endless(writer, b"HTTP/1.1 200 OK\r\n", b"X-Header: " + b"x" * 1000 + b"\r\n", 1 << 20)
    elif mode == "continue without end":
        await _endless(writer, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 10000)
    elif mode == "slow":
        await _endless(writer, b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 600, 0.1)
    elif mode == "never":
        await asyncio.Event().wait()


async def _frames(mode: str, head: str, writer: asyncio.StreamWriter) -> None:
    """A WebSocket (RFC 6455) that is opened as it should be, and then: garbage, nothing, or one frame without end."""
    key = next(line.split()[-1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    if mode == "frames of garbage":
        await _endless(writer, b"", b"\x82\x7e\x80\x00" + b"x" * 0x8000, 1 << 15)
    elif mode == "frames without end":
        await _endless(writer, b"\x82\x7f" + (1 << 40).to_bytes(8, "big"), b"x" * (1 << 20), 1024)
    else:
        await asyncio.Event().wait()


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    mode = setting("http_mode", "keys")
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        record(head.encode("latin-1"))
        path = head.split(" ", 2)[1]
        if path.endswith("/publickey"):
            event("http", path=path, mode=mode)
            await _answer(mode, head, writer)
        elif path.endswith("/jhssh/tunnel"):
            event("tunnel", mode=(mode := setting("tunnel_mode", "garbage")))
            await (_frames(mode, head, writer) if mode.startswith("frames") else _answer(mode, head, writer))
        else:
            writer.write(_response(b"{}", "application/json"))  # the Hub looks whether it is up
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError) as error:
        event("http ended", mode=mode, error=type(error).__name__)
    finally:
        writer.close()


# SSH

UNINVITED = (
    (b"auth-agent@openssh.com", b""),
    (b"x11", String("127.0.0.1") + UInt32(6000)),
    (b"session", b""),
    (b"forwarded-tcpip", String("127.0.0.1") + UInt32(22) + String("127.0.0.1") + UInt32(4000)),
    (b"forwarded-streamlocal@openssh.com", String("/tmp/agent") + String("")),
    (b"direct-tcpip", String("127.0.0.1") + UInt32(22) + String("127.0.0.1") + UInt32(4000)),
    (b"tun@openssh.com", UInt32(1) + UInt32(0)),
    (b"\x1b[31m", b""),
)
FIRST_UNINVITED = 1000
WINDOW = 1 << 21


class _Methods(asyncssh.SSHServer):
    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True


class SSHConnection(Endpoint, asyncssh.SSHServerConnection):
    """Takes every proof; then does what ``ssh_mode`` says: `honest` or one of the methods ``_<mode>``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._what_to_do = setting("ssh_mode", "honest")
        self._client_channel: int | None = None
        super().__init__(*args, **kwargs)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        record(key_data)
        event("certificate", blob=base64.b64encode(key_data).decode(), user=username)
        if self._what_to_do == "disconnect":
            self.disconnect(asyncssh.DISC_BY_APPLICATION, "gone\r\n[E fake log line] \x1b]0;owned\x07\u202e")
            return False
        return self._what_to_do != "refuse"

    async def validate_password(self, username: str, password: str) -> bool:
        record(b"password " + password.encode())
        event("password")
        return True

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        record(packet.get_full_payload())
        return super().process_packet(pkttype, pktid, packet)

    async def send_userauth_success(self) -> None:
        await super().send_userauth_success()
        event("open", mode=self._what_to_do)
        self.attach(self._take, lambda _over: None)
        if self._what_to_do == "flood at once":
            for _ in range(10000):
                self.relay_message(Byte(80) + String("keepalive@openssh.com") + Boolean(True))
        if self._what_to_do == "uninvited":
            self._uninvited()

    def _take(self, message: bytes) -> None:
        record(message)
        packet = SSHPacket(message)
        kind = packet.get_byte()
        if kind == 90:
            name, number = packet.get_string(), packet.get_uint32()
            event("asked to open", what=name.decode("latin-1"))
            self._client_channel = number
            self.relay_message(Byte(91) + UInt32(number) + UInt32(number) + UInt32(WINDOW) + UInt32(32768))
        elif kind == 98:
            number, name, reply = packet.get_uint32(), packet.get_string(), packet.get_boolean()
            event("channel request", what=name.decode("latin-1"))
            if reply:
                self.relay_message(Byte(99) + UInt32(number))
            if name in (b"shell", b"exec", b"subsystem"):
                asyncio.get_running_loop().create_task(self._serve(number))
        elif kind == 80:
            name, reply = packet.get_string(), packet.get_boolean()
            event("global request", what=name.decode("latin-1"))
            if reply:
                self.relay_message(Byte(81))
        elif kind in (91, 92):
            answered = packet.get_uint32()
            text = ""
            if kind == 92:
                _reason, text = packet.get_uint32(), packet.get_string().decode()
            event("answer", kind_of_answer=kind, what=UNINVITED[answered - FIRST_UNINVITED][0].decode("latin-1"), text=text)
        elif kind in (81, 82, 99, 100):
            event("reply", number=kind)

    async def _serve(self, number: int) -> None:
        evil: dict[str, Callable[[int], Awaitable[None]]] = {
            "success for nothing": self._one(Byte(99) + UInt32(number)),
            "failure for nothing": self._one(Byte(100) + UInt32(number)),
            "global success for nothing": self._one(Byte(81)),
            "data on no channel": self._one(Byte(94) + UInt32(4242) + String("x")),
            "close of no channel": self._one(Byte(97) + UInt32(4242)),
            "confirmation of nothing": self._one(Byte(91) + UInt32(4242) + UInt32(1) + UInt32(1) + UInt32(1)),
            "unknown message": self._one(Byte(85) + String("x")),
            "malformed": self._one(Byte(90) + b"\xff\xff\xff\xff"),
            "flood": self._flood,
            "flood of requests": self._flood_of_requests,
        }
        if self._what_to_do in evil:
            await evil[self._what_to_do](number)
        if self._what_to_do == "hold":
            return
        self.relay_message(Byte(94) + UInt32(number) + String(PROMPT))
        self.relay_message(Byte(98) + UInt32(number) + String("exit-status") + Boolean(False) + UInt32(0))
        self.relay_message(Byte(96) + UInt32(number))
        self.relay_message(Byte(97) + UInt32(number))

    def _one(self, message: bytes) -> Callable[[int], Awaitable[None]]:
        async def send(_number: int) -> None:
            self.relay_message(message)

        return send

    def _uninvited(self) -> None:
        other = asyncssh.generate_private_key("ssh-ed25519").public_data
        for want_reply in (False, True):
            for name in ("hostkeys-00@openssh.com", "hostkeys-prove-00@openssh.com", "tcpip-forward"):
                self.relay_message(Byte(80) + String(name) + Boolean(want_reply) + String(other))
        for number, (name, rest) in enumerate(UNINVITED, FIRST_UNINVITED):
            self.relay_message(Byte(90) + String(name) + UInt32(number) + UInt32(WINDOW) + UInt32(32768) + rest)

    async def _flood(self, number: int) -> None:
        """Data with no regard to any window, as fast as it goes, for as long as there is somebody."""
        message = Byte(94) + UInt32(number) + String(b"y" * 32768)
        while self._transport is not None and not self._transport.is_closing():
            self.relay_message(message)
            await asyncio.sleep(0 if not self._over_high_water else 0.01)

    async def _flood_of_requests(self, number: int) -> None:
        for _ in range(5000):
            self.relay_message(Byte(98) + UInt32(number) + String("keepalive@openssh.com") + Boolean(True))


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "environ.json").write_text(json.dumps(dict(os.environ)))
    url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    loop = asyncio.get_running_loop()
    if ENVIRONMENT["listen_port"] and ENVIRONMENT["host_key"]:
        options = await asyncssh.SSHServerConnectionOptions.construct(
            config=None,
            server_factory=_Methods,
            server_host_keys=[asyncssh.import_private_key(ENVIRONMENT["host_key"])],
            send_server_host_keys=False,
            keepalive_interval=0,
        )

        def connection() -> asyncio.Protocol:
            event("ssh", mode=setting("ssh_mode", "honest"))
            if setting("ssh_mode", "honest") == "mute":
                return asyncio.Protocol()
            return SSHConnection(loop, options)

        await loop.create_server(connection, "127.0.0.1", int(ENVIRONMENT["listen_port"]))
    server = await asyncio.start_server(http, url.hostname, url.port, limit=1 << 20)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
