"""``jhssh login`` and ``jhssh logout``: from a hub's address to a token, by approval in the browser or with the user's own."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import socket
import sys
import time
from dataclasses import replace
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from .. import __version__
from ..identifiers import printable
from . import hubs, tokens
from .addresses import address
from .failures import Failure, LoginNeeded, Unreachable, WrongUsage
from .host_names import HUB_NAME
from .http_client import Answer, Client, refusal
from .hub_api import Gateway, Me, account, field, known, seconds, service_name
from .output import Progress, date, note, say
from .paths import expanded

MIN_INTERVAL, MAX_INTERVAL = 0.2, 10.0
MAX_WAIT = 900.0
HANDLE = re.compile(r"[A-Za-z0-9_-]{20,200}")
TOKEN = re.compile(r"[!-~]{8,500}")


def base_url(text: str) -> str:
    """The hub's base URL, whatever page of it was copied from the browser; ends with a slash. Raises WrongUsage."""
    text = text.strip()
    url = text if "://" in text else f"https://{text}"
    to = address(url)
    if to is None or to.scheme not in ("http", "https") or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise WrongUsage(f"{printable(text)} is no address of a hub. It looks like https://hub.example.org")
    parts = urlsplit(url)
    if parts.username is not None:
        raise WrongUsage("Leave the user name out of the address: the hub asks who you are.")
    path = re.sub(r"/(?:hub|user|services)(?:/.*)?$", "/", parts.path)
    return urlunsplit((parts.scheme, parts.netloc.lower(), path.rstrip("/") + "/", "", ""))


def login(
    url: str,
    *,
    name: str | None = None,
    token: bool = False,
    ca_file: str | None = None,
    plain_http: bool = False,
    service: str | None = None,
    browser: bool = True,
) -> None:
    """Logs in, and remembers the hub and its token. ``service``: else as the time before, or ssh. Raises Failure."""
    base = base_url(url)
    hub = _new_hub(base, name, ca_file, plain_http, "" if token else service)
    if token:
        secret, me = _own_token(hub)
    else:
        hub, secret, me = _approved(hub, browser)
    old = hubs.load().get(hub.name)
    if old is not None:
        _revoke(old)
        if old.token_key != hub.token_key:
            tokens.forget(old.token_key)
    where = tokens.store(hub.token_key, secret)
    hub = known(hub, me)
    hubs.save(hub)
    until = f" until {date(me.expires)}" if me.expires else ""
    say(f"Logged in to {hub.url} as {printable(me.user)}{until}.")
    note(f"Here it is called {hub.name}. The token is in the {_place(where)}.")
    steps = ["jhssh keys add", "jhssh config --write", *(f"ssh {each.host}" for each in hub.servers[:1])]
    if token and not any(server.ready for server in me.servers):
        steps.insert(0, "jhssh servers start")
    note(f"Next: {', '.join(steps)}")


def logout(hub: hubs.Hub) -> None:
    """Revokes the token where that is possible, and forgets the hub."""
    revoked = _revoke(hub)
    tokens.forget(hub.token_key)
    hubs.forget(hub.name)
    say(f"Logged out of {hub.name} ({hub.url}).")
    if hub.kind == hubs.TOKEN:
        note("The token itself is still good: revoke it on the Hub's Token page.")
    elif not revoked:
        note("The hub could not be told: the token is good until it expires. Revoke it on the Hub's SSH page.")
    note("Its hosts stay in ssh's configuration until you run: jhssh config --write")


def _new_hub(base: str, name: str | None, ca_file: str | None, plain_http: bool, service: str | None) -> hubs.Hub:
    """``service``: empty where there is none; None: the one that is known, or ssh."""
    hubs_here = hubs.load()
    same = next((each for each in hubs_here.values() if each.url == base and name in (None, each.name)), None)
    if name is None:
        name = same.name if same else _free_name(base, set(hubs_here))
    if not HUB_NAME.fullmatch(name):
        raise WrongUsage(f"{printable(name)} is no name for a hub: small letters, digits and hyphens, as in alice.hub.")
    if name in hubs_here and hubs_here[name].url != base:
        raise WrongUsage(f"{name} is already {hubs_here[name].url}. Log out of it, or choose another: --name NAME")
    if ca_file is None and same is not None:
        ca_file, plain_http = same.ca_file, plain_http or same.plain_http
    if service is None:
        service = service_name(same) if same is not None and same.service else "ssh"
    return hubs.Hub(
        name=name,
        url=base,
        kind=hubs.GATEWAY if service else hubs.TOKEN,
        user="",
        service=urljoin(base, f"services/{quote(unquote(service), safe='')}/") if service else "",
        ca_file=str(expanded(ca_file)) if ca_file else "",
        plain_http=plain_http,
        way=same.way if same else "auto",
    )


def _free_name(base: str, taken: set[str]) -> str:
    """``hub``, or for a second one what its address begins with."""
    host = urlsplit(base).hostname or ""
    address = re.fullmatch(r"[0-9.]*|.*:.*", host)
    first = "" if address else re.sub(r"[^a-z0-9-]", "-", host.partition(".")[0]).strip("-")[:24].rstrip("-")
    first = first or "hub"
    wanted = ["hub", first, *(f"{first}-{number}" for number in range(2, 100))]
    return next(each for each in wanted if each not in taken)


def _approved(hub: hubs.Hub, browser: bool) -> tuple[hubs.Hub, str, Me]:
    """Asks for approval in the browser, and waits for it; ``hub`` with the gateway where it was found. Raises Failure."""
    hub, client, asked = _asked(hub)
    request, code, link = field(asked, "request", str), field(asked, "code", str), field(asked, "link", str)
    if not HANDLE.fullmatch(request):
        raise Failure("The hub's answer makes no sense to this version of jhssh (request). Update it.")
    if _site(link) is None or _site(link) not in (_site(hub.service), _site(hub.url)):
        raise Failure(
            f"{hub.url} sends you to the login page of another site: {printable(link, 500)}. If that is your hub, log in there. "
            "If not, do not approve anything: somebody wants to get at your servers."
        )
    lasts = min(seconds(asked.get("expires_in")) or 300.0, MAX_WAIT)
    interval = min(max(seconds(asked.get("interval")) or 1.0, MIN_INTERVAL), MAX_INTERVAL)
    note(f"\n  Open   {printable(link, 500)}\n  Type   {printable(code, 40)}\n")
    note("and approve there what you started here. Never type a code that somebody sent you.")
    if browser and _has_screen():
        import webbrowser

        webbrowser.open(link)
    found = _wait(client, request, lasts, interval)
    token = field(found, "token", str)
    if not TOKEN.fullmatch(token):
        raise Failure("The hub's answer makes no sense to this version of jhssh (token). Update it.")
    return hub, token, Gateway(hub, token).me()


def _site(url: str) -> tuple[str, str] | None:
    """Scheme, and host with the port. A hub that passes a login on to another one would get the token that is approved there."""
    found = re.match(r"(https?)://([^/?#@\\\s]+)(?:/|$)", url)
    return (found[1], found[2].lower().removesuffix(":443" if found[1] == "https" else ":80")) if found else None


def _asked(hub: hubs.Hub) -> tuple[hubs.Hub, Client, dict[str, object]]:
    """The gateway's answer, and at which address it is. Raises Failure."""
    who = {"client": f"jhssh {__version__} on {printable(socket.gethostname(), 80)}"}
    client = Client(hub.service, ca_file=hub.ca_file, plain_http=hub.plain_http)
    answer = client.request("POST", "api/login", who)
    if answer.status == 201:
        return hub, client, answer.object
    if _of_a_gateway(answer):
        raise refusal(answer, urljoin(hub.service, "api/login"))
    # A hub whose users have subdomains has its services there too (c.JupyterHub.subdomain_hook: idna, legacy).
    parts, name = urlsplit(hub.service), service_name(hub)
    for subdomain in (f"{name}--service", "services"):
        elsewhere = replace(hub, service=urlunsplit(parts._replace(netloc=f"{subdomain}.{parts.netloc}")))
        client = Client(elsewhere.service, ca_file=hub.ca_file, plain_http=hub.plain_http)
        with contextlib.suppress(Unreachable):
            found = client.request("POST", "api/login", who)
            if found.status == 201:
                return elsewhere, client, found.object
    if 300 <= answer.status < 400:
        raise refusal(answer, urljoin(hub.service, "api/login"))
    raise Failure(
        f"There is no SSH gateway at {hub.service}. If the address is right and the hub has none, a token of your own "
        f"and the jhssh-ext extension on your server do as well: jhssh login {hub.url} --token"
    )


def _of_a_gateway(answer: Answer) -> bool:
    """Or of the Hub, which answers whatever it likes where there is no such service."""
    found = answer.json
    return answer.status >= 500 or (isinstance(found, dict) and isinstance(found.get("code"), str))


def _wait(client: Client, request: str, lasts: float, interval: float) -> dict[str, object]:
    """Until it is approved. A gateway that is away for a moment is asked again. Raises Failure."""
    deadline = time.monotonic() + lasts + 5
    progress, number = Progress(), None
    try:
        while time.monotonic() < deadline:
            progress.show("Waiting for the approval in the browser …")
            sent = {"request": request, **({"number": number} if number else {})}
            number = None
            try:
                answer = client.request("POST", "api/login/answer", sent)
            except Unreachable:
                time.sleep(interval)
                continue
            if answer.status == 200:
                return answer.object
            if answer.status == 202 and answer.object.get("status") == "number":
                progress.clear()
                said = answer.object.get("message")
                if isinstance(said, str):
                    note(printable(said, 300))
                number = _asked_number()
                continue
            if answer.status not in (202, 429, 502, 503, 504):
                raise refusal(answer, "the hub")
            time.sleep(_retry_after(answer, interval))
    finally:
        progress.clear()
    raise Failure("Nobody approved this login in time. Try again: jhssh login", code="APPROVAL_EXPIRED")


def _retry_after(answer: Answer, interval: float) -> float:
    with contextlib.suppress(ValueError):
        return min(max(seconds(float(answer.headers.get("Retry-After", ""))) or interval, interval), MAX_INTERVAL)
    return interval


def _asked_number() -> str:
    """What the browser shows: the approval alone never counts, since the code may have come from somebody else's program."""
    while True:
        sys.stderr.write("Number that the browser shows (never one that somebody sent you): ")
        sys.stderr.flush()
        typed = sys.stdin.readline()
        if not typed:
            raise Failure("The number was not typed, so nobody is logged in.")
        number = re.sub(r"[\s-]", "", typed)
        if re.fullmatch(r"[0-9]{4,10}", number):
            return number


def _own_token(hub: hubs.Hub) -> tuple[str, Me]:
    """Reads the user's own token, never from the command line, which every user of the machine can see. Raises Failure."""
    if sys.stdin.isatty():
        note(f"Make a token on {urljoin(hub.url, 'hub/token')} and paste it here; it is not shown.")
        token = ""
        with contextlib.suppress(EOFError):
            token = getpass.getpass("Token: ").strip()
    else:
        token = sys.stdin.readline().strip()
    if not TOKEN.fullmatch(token):
        raise WrongUsage("That is no token.")
    from .own_servers import OwnServers  # here, since it is the rarer way

    try:
        return token, OwnServers(hub, token).me()
    except LoginNeeded:
        raise LoginNeeded("The Hub does not take this token. Make a new one on its Token page.", code="TOKEN_INVALID") from None


def _revoke(hub: hubs.Hub) -> bool:
    """Best effort: a hub that is down must not keep anybody from logging out. Does it know?"""
    try:
        account(hub).forget_token()
    except LoginNeeded:
        return True  # no token, or one that is no longer good
    except Failure:
        return False
    return True


def _has_screen() -> bool:
    """Is there a desktop on which a browser would open? A browser in the terminal would take its place."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(each) for each in ("DISPLAY", "WAYLAND_DISPLAY"))


def _place(where: str) -> str:
    return "system's keyring" if where == "keyring" else f"file {where}"
