"""``jhssh doctor``: from the hub to a login, each thing that must work, and for what does not, what to do."""

from __future__ import annotations

import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urljoin

from ..identifiers import printable
from ..public_keys import PublicKey
from . import config, hubs, keys, ssh_client, ssh_config, tokens, tools, websocket_handshake
from .addresses import address
from .failures import FAILED, Failure, LoginNeeded, Unreachable
from .http_client import Client
from .hub_api import Account, Key, Me, account, known, login_again
from .output import Progress, colored, date, say, say_json
from .tls import tls_context
from .websocket_frames import BINARY, PING

OK, WARNING, FAIL, SKIPPED = "ok", "warning", "failed", "skipped"
COLORS = {OK: "green", WARNING: "yellow", FAIL: "red", SKIPPED: "grey"}
SOON = 3 * 86400
BANNER, BANNER_TIMEOUT = b"SSH-2.0-jhssh_doctor\r\n", 10.0


@dataclass(frozen=True)
class Finding:
    """One line. ``advice``: what to do."""

    check: str
    status: str
    message: str
    advice: str = ""


def doctor(hub: str | None, *, json: bool = False) -> int:
    """The exit status: 0 if nothing failed."""
    chosen = [hubs.choose(hub)] if hub else list(hubs.load().values())
    if not chosen:
        hubs.choose()  # raises
    reports = {}
    for each in chosen:
        reports[each.name] = _examined(each, show=not json)
    if json:
        say_json({name: [asdict(finding) for finding in findings] for name, findings in reports.items()})
    return FAILED if any(finding.status == FAIL for findings in reports.values() for finding in findings) else 0


def _examined(hub: hubs.Hub, *, show: bool) -> list[Finding]:
    if show:
        say(f"{hub.name}: {hub.url}")
    found, progress = [], Progress()
    examination = Examination(hub, progress.show if show else lambda _text: None)
    for finding in examination.findings():
        found.append(finding)
        if show:
            progress.clear()
            say(f"  {colored(finding.status.ljust(8), COLORS[finding.status])} {finding.check}: {finding.message}")
            if finding.advice:
                say(f"           → {finding.advice}")
    return found


class Examination:
    """Of one hub. What one check learns the later ones use."""

    def __init__(self, hub: hubs.Hub, working_on: Callable[[str], None]) -> None:
        self.hub = hub
        self._working_on = working_on
        self._me: Me | None = None
        self._account: Account | None = None
        self._ways: dict[bool, bool] = {}
        """by tunnel (True) or port: does sshd answer there"""

    def findings(self) -> Iterator[Finding]:
        steps = (self._hub_answers, self._token, self._servers, self._port, self._tunnel, self._configuration, self._host_key)
        for step in (*steps, self._key_and_login):
            self._working_on(f"  {step.__name__.strip('_').replace('_', ' ')} …")
            for finding in step():
                yield finding
                if finding.check == "hub" and finding.status == FAIL:
                    return  # nothing else can be true then

    def _hub_answers(self) -> Iterator[Finding]:
        hub = self.hub
        gateway = hub.kind == hubs.GATEWAY
        url = urljoin(hub.service, "health") if gateway else urljoin(hub.url, "hub/api/")
        try:
            answer = Client(url, ca_file=hub.ca_file, plain_http=hub.plain_http).request("GET", url)
        except Unreachable as error:
            if error.code == "CERTIFICATE_INVALID":
                advice = f"jhssh login {hub.url} --name {hub.name} --ca-file FILE"
            else:
                advice = "Is this computer online? Does the hub open in a browser? If not, tell its admin."
            yield Finding("hub", FAIL, error.sentence, advice)
            return
        except Failure as error:
            yield Finding("hub", FAIL, error.sentence, f"jhssh login {hub.url} --name {hub.name} --ca-file FILE")
            return
        found = answer.json
        said = found.get("cause") if isinstance(found, dict) else None
        cause = f": {printable(said, 300)}" if isinstance(said, str) and said else ""
        if answer.status == 200 and isinstance(found, dict):
            yield Finding("hub", OK, "the SSH gateway answers" if gateway else "it answers")
        elif gateway and answer.status == 503 and isinstance(found, dict):
            yield Finding(
                "hub", FAIL, f"its SSH gateway is out of order{cause}", "Try again in a minute; then tell the hub's admin."
            )
        elif gateway and answer.status in (502, 503, 504):
            advice = "Try again in a minute; then tell the hub's admin: it does not run."
            yield Finding("hub", FAIL, f"its SSH gateway does not answer ({answer.status})", advice)
        elif gateway and answer.status in (403, 404):
            advice = f"Tell the hub's admin: it is off, or moved. Then: jhssh login {hub.url}"
            yield Finding("hub", FAIL, f"there is no SSH gateway at {hub.service} ({answer.status})", advice)
        else:
            yield Finding(
                "hub", FAIL, f"{url} answers with {answer.status}", f"Is this still the hub's address? jhssh login {hub.url}"
            )

    def _token(self) -> Iterator[Finding]:
        hub = self.hub
        try:
            self._account = account(hub)
            self._me = self._account.me()
        except LoginNeeded as error:
            missing = not tokens.load(hub.token_key)
            expired = not missing and (error.code == "TOKEN_EXPIRED" or 0 < hub.expires < time.time())
            what = "there is none here" if missing else "it has expired" if expired else "the hub does not take it (any more)"
            yield Finding("token", FAIL, what, login_again(hub).partition(": ")[2])
            self._account = None
            return
        except Failure as error:
            yield Finding("token", FAIL, error.sentence, "Try again in a minute; then tell the hub's admin.")
            self._account = None
            return
        self.hub = hub = known(hub, self._me)
        until = f", until {date(hub.expires)}" if hub.expires else ""
        if 0 < hub.expires < time.time() + SOON:
            yield Finding("token", WARNING, f"yours, {printable(hub.user)}{until}: soon", login_again(hub).partition(": ")[2])
        else:
            yield Finding("token", OK, f"yours, {printable(hub.user)}{until}")

    def _servers(self) -> Iterator[Finding]:
        if self._me is None:
            yield Finding("servers", SKIPPED, "without a token nobody says what runs")
            return
        for server in self._me.servers:
            name = f"server {printable(server.name)}" if server.name else "default server"
            if server.ssh is False:
                advice = (
                    server.message or f"Stop it, tick 'Enable SSH access' on the page where it is started, start it: {server.url}"
                )
                yield Finding(name, FAIL, f"{server.state}, and SSH is off for it", advice)
            elif server.ready:
                yield Finding(name, OK, "running" + (", with SSH" if server.ssh else ""))
            elif server.message:
                yield Finding(
                    name,
                    WARNING,
                    f"{server.state}; its last start failed: {server.message}",
                    "Start it in the browser to see more.",
                )
            else:
                starts = not server.pending and (self.hub.host_keys or any(each.host_keys for each in self.hub.servers))
                yield Finding(name, OK, f"{server.state}; a login starts it" if starts else server.state)

    def _port(self) -> Iterator[Finding]:
        hub = self.hub
        if hub.kind == hubs.TOKEN:
            return
        check = f"port {hub.ssh_port} of {hub.ssh_host}" if hub.ssh_port else "SSH port"
        if not hub.published or not hub.ssh_port:
            yield Finding(check, SKIPPED, "the hub publishes none: the way is port 443")
            return
        self._ways[False] = config.reachable(hub.ssh_host, hub.ssh_port)
        if self._ways[False]:
            yield Finding(check, OK, "SSH answers")
            return
        message = "nothing that speaks SSH can be reached there from this network"
        if not hub.tunnel:
            yield Finding(check, FAIL, message, "Try another network, or a VPN: this hub has no way over port 443.")
        elif self._goes_by_port():
            yield Finding(check, FAIL, message, "jhssh config --write: your hosts then go through the hub's port 443")
        else:
            yield Finding(check, WARNING, message, "Nothing needs doing if port 443 works.")

    def _goes_by_port(self) -> bool:
        """Does the user's own ssh configuration lead there?"""
        found = ssh_client.configured(self._host) if self._host else None
        return found is not None and not found.get("proxycommand") and self.hub.way != config.TUNNEL

    def _tunnel(self) -> Iterator[Finding]:
        hub = self.hub
        url, headers = hub.tunnel, {}
        if hub.kind == hubs.TOKEN:
            url = next((each.tunnel for each in self._me.servers if each.tunnel), "") if self._me else ""
            headers = {"Authorization": f"token {tokens.load(hub.token_key)}"}
        if not url:
            yield Finding("tunnel", SKIPPED, "the hub has none" if hub.kind == hubs.GATEWAY else "no server that runs has one")
            return
        to = address(url)
        check = f"port {to.port} (tunnel)" if to else "tunnel"
        try:
            banner = _first_bytes(url, headers, tls_context(hub.ca_file) if url.startswith("wss:") else None)
        except Failure as error:
            advice = "An HTTP proxy between here and the hub must let WebSockets pass." if self._me is not None else ""
            yield Finding(check, FAIL, error.sentence, advice)
            return
        self._ways[True] = banner.startswith(b"SSH-")
        if self._ways[True]:
            yield Finding(check, OK, "SSH answers")
        else:
            yield Finding(check, FAIL, "what answers there is not SSH", "Tell the hub's admin.")

    @property
    def _host(self) -> str:
        """The one that is tried: of a server that runs, if there is one."""
        running = {each.name for each in self._me.servers if each.ready and each.ssh is not False} if self._me else set()
        hosts = [each.host for each in self.hub.servers if each.name in running] or [each.host for each in self.hub.servers]
        return hosts[0] if hosts else ""

    def _configuration(self) -> Iterator[Finding]:
        if not self._host:
            yield Finding("ssh configuration", SKIPPED, "you have no server")
            return
        if ssh_client.configured(self._host) is None:
            yield Finding(
                "ssh configuration", WARNING, f"ssh does not know {self._host}", "jhssh config --write (or use: jhssh ssh)"
            )
            return
        wanted = ssh_config.known_hosts([self.hub]).splitlines()[1:]
        file = ssh_client.folder() / "jhssh_known_hosts"
        try:
            written = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            written = []
        if set(wanted) <= set(written):
            yield Finding("ssh configuration", OK, f"ssh knows {self._host}")
        else:
            yield Finding("ssh configuration", FAIL, f"{file} is not what the hub says now", "jhssh config --write")

    def _host_key(self) -> Iterator[Finding]:
        ways = [way for way, works in self._ways.items() if works]
        if not ways or not self._host:
            yield Finding("host key", SKIPPED, "no way leads to an sshd")
        for tunnel in ways:
            by = "through the tunnel" if tunnel else f"at port {self.hub.ssh_port}"
            with tempfile.TemporaryDirectory(prefix="jhssh-") as folder:
                tried = ssh_client.try_host_key(self._files(Path(folder), tunnel=tunnel), self._host)
            if tried.ok:
                yield Finding("host key", OK, f"{by}: it is the one that the hub tells")
                continue
            self._ways[tunnel] = False
            if tried.wrong_host_key:
                yield Finding(
                    "host key",
                    FAIL,
                    f"{by}: NOT the one that the hub tells. Somebody may be in between",
                    "Do not log in this way. Try another network, and tell the hub's admin.",
                )
            else:
                yield Finding("host key", FAIL, f"{by}: {tried.said}", "Try again in a minute; then tell the hub's admin.")

    def _key_and_login(self) -> Iterator[Finding]:
        """The login is tried whatever is known of keys: ssh has more ways to come by one than can be looked at from here."""
        running = self._me is not None and any(each.ready and each.ssh is not False for each in self._me.servers)
        ways = [way for way, works in self._ways.items() if works]
        tried = None
        if running and ways:
            with tempfile.TemporaryDirectory(prefix="jhssh-") as folder:
                tried = ssh_client.try_login(self._files(Path(folder), tunnel=ways[0]), self._host)
        key = self._key(works=tried is not None and tried.ok)
        yield key
        if tried is None:
            why = "no server runs that takes SSH" if self._me is not None and not running else "what is above must work first"
            yield Finding("login", SKIPPED, why)
        elif tried.ok:
            yield Finding("login", OK, f"ssh {self._host} works")
        else:
            locked = key.status == OK and "Permission denied" in tried.said
            advice = "Is the key locked by a passphrase? ssh-add. Is it another one that ssh offers? ssh -v" if locked else ""
            yield Finding("login", FAIL, f"ssh {self._host}: {tried.said}", advice)

    def _key(self, *, works: bool) -> Finding:
        """``works``: did a login?"""
        if self._account is None:
            return Finding("key", SKIPPED, "without a token nobody says which keys are registered")
        try:
            registered = self._account.registered_keys()
        except Failure as error:
            return Finding("key", FAIL, error.sentence, "jhssh servers start" if self.hub.kind == hubs.TOKEN else "")
        have = self._keys_here()
        good = [key for key in have if key.fingerprint in {each.fingerprint for each in registered}]
        if good:
            return Finding("key", OK, f"{good[0].fingerprint} {good[0].comment} is registered".replace("  ", " "))
        if works:
            return Finding("key", OK, "one that ssh comes by in its own way is good")
        if have:
            return Finding("key", FAIL, f"no key of this computer is registered{_others(registered)}", "jhssh keys add")
        return Finding("key", FAIL, "none was found on this computer", "ssh-keygen -t ed25519, then: jhssh keys add")

    def _keys_here(self) -> list[PublicKey]:
        """Also those that the user's own configuration names."""
        with tempfile.TemporaryDirectory(prefix="jhssh-") as folder:
            files, agent = ssh_client.identities(self._files(Path(folder), tunnel=False), self._host or config.PROBE_HOST)
        return [*keys.own_keys(agent), *keys.keys_of_files(files)]

    def _files(self, folder: Path, *, tunnel: bool) -> Path:
        return tools.write_files(folder, [self.hub], ssh_config.hosts(self.hub, tunnel=tunnel))


def _first_bytes(url: str, headers: dict[str, str], tls: ssl.SSLContext | None) -> bytes:
    """What sshd says first through the tunnel; empty where nothing comes in time. Raises Failure."""
    frames = websocket_handshake.connect(url, headers, tls)
    end = threading.Timer(BANNER_TIMEOUT, frames.break_off)
    end.start()
    try:
        frames.send(BINARY, BANNER)  # the other end lets us speak first
        while (frame := frames.receive()).opcode == PING:
            pass
        return frame.data
    except (OSError, ValueError):
        return b""
    finally:
        end.cancel()
        frames.close()


def _others(registered: list[Key]) -> str:
    return f" ({len(registered)} of other computers are)" if registered else ""
