"""``jhssh keys``: the user's public keys on the gateway, or, where there is none, on a server."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from ..errors import KeyRefused
from ..identifiers import printable
from ..public_keys import MAX_TEXT, PublicKey, parse_lines, read_authorized_keys
from . import ssh_client
from .failures import Failure, WrongUsage
from .http_client import Client
from .hub_api import Account, Key
from .output import date, say, say_json, table
from .paths import expanded

DEFAULT_NAMES = ("id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa")
"""that ssh tries by itself (ssh_config(5), IdentityFile), the newest kind first"""
PROVIDERS = {"github": "https://github.com/", "gitlab": "https://gitlab.com/"}
ACCOUNT = re.compile(r"(github|gitlab):([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?)")


def list_keys(account: Account, *, json: bool = False) -> None:
    keys = account.registered_keys()
    if json:
        say_json({"keys": [asdict(key) for key in keys]})
    elif keys:
        rows = [[key.fingerprint, key.type, key.comment, _where(key), _when(key.last_used)] for key in keys]
        table(["FINGERPRINT", "TYPE", "COMMENT", "FROM", "LAST USED"], rows)
    else:
        say("No keys are registered. Add yours: jhssh keys add")


def add(account: Account, file: str | None) -> None:
    """The keys of a file, of stdin (``-``), or the first of the usual names in ~/.ssh."""
    if file == "-":
        keys = _parsed(sys.stdin.read(MAX_TEXT + 1), "What was piped in")
    else:
        path = _public_file(expanded(file)) if file else default_key()
        keys = _parsed(_text(path), str(path))
    _register(account, keys)


def import_from(account: Account, source: str) -> None:
    """``github:NAME``, ``gitlab:NAME``: what that user shows to everybody, fetched by this computer."""
    match = ACCOUNT.fullmatch(source)
    if match is None or ".." in source:
        raise WrongUsage("Say whose keys: github:NAME or gitlab:NAME")
    provider, name = match.groups()
    answer = Client(PROVIDERS[provider]).request("GET", f"{name}.keys")
    if answer.status in (302, 404):  # GitLab sends whoever is not logged in to its login page
        raise Failure(f"{provider} shows no keys of a user named {name}.")
    if answer.status != 200:
        raise Failure(f"{provider} answered with an error ({answer.status}). Try again in a minute.")
    keys, ignored = read_authorized_keys(answer.body.decode("utf-8", "replace"))
    if not keys:
        raise Failure(ignored[0].reason if ignored else f"{provider} shows no keys of {name}.")
    _register(account, [replace(key, comment=key.comment or source) for key in keys])


def remove(account: Account, which: str) -> None:
    """By fingerprint (its beginning will do where it is clear), by comment, or by the file of the key."""
    found = _meant(account.registered_keys(), which)
    account.remove_key(found.fingerprint)
    say(f"Removed {_shown(found)}")


def default_key() -> Path:
    """Raises Failure."""
    folder = ssh_client.folder()
    for name in DEFAULT_NAMES:
        path = folder / f"{name}.pub"
        if path.is_file():
            return path
    raise Failure(f"There is no key in {folder}. Make one, then run this again: ssh-keygen -t ed25519")


def own_keys(agent: str = "") -> list[PublicKey]:
    """Public halves of what ssh on this computer would offer by itself: ~/.ssh/id_*.pub, and the agent's. Never raises.

    ``agent``: as ssh's IdentityAgent has it.
    """
    found = keys_of_files(sorted(ssh_client.folder().glob("id_*.pub")))
    environment = dict(os.environ)
    if agent.startswith("$"):
        environment["SSH_AUTH_SOCK"] = os.environ.get(agent[1:], "")
    elif agent not in ("", "SSH_AUTH_SOCK"):
        environment["SSH_AUTH_SOCK"] = agent if agent != "none" else ""
    try:
        listed = subprocess.run(
            ["ssh-add", "-L"], capture_output=True, stdin=subprocess.DEVNULL, timeout=10, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return found  # no agent
    agents = read_authorized_keys(listed.stdout.decode("utf-8", "replace"))[0] if listed.returncode == 0 else []
    return list(dict.fromkeys([*found, *agents]))


def keys_of_files(files: Iterable[Path]) -> list[PublicKey]:
    """Of key pairs or their .pub files; what can't be read is left out."""
    found: dict[PublicKey, None] = {}
    for file in files:
        path = _public_file(file)
        if path.suffix == ".pub":
            with contextlib.suppress(Failure):
                found.update(dict.fromkeys(read_authorized_keys(_text(path))[0]))
    return list(found)


def _register(account: Account, keys: list[PublicKey]) -> None:
    registered = {key.fingerprint for key in account.registered_keys()}
    new = [key for key in keys if key.fingerprint not in registered]
    for key in keys:
        if key not in new:
            say(f"Already registered: {key.fingerprint} {key.comment}".rstrip())
    if new:
        for added in account.add_keys("\n".join(key.line for key in new)):
            say(f"Added {_shown(added)}")


def _public_file(path: Path) -> Path:
    """The .pub file of a key pair, whichever of the two was named: the private one is not even opened."""
    public = path.parent / f"{path.name}.pub"
    return public if path.suffix != ".pub" and public.is_file() else path


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT + 1).decode("utf-8", "replace")
    except OSError as error:
        raise Failure(f"{path} can't be read: {error.strerror or error}.") from None


def _parsed(text: str, where: str) -> list[PublicKey]:
    """Checked here already: a private key that was named by mistake never leaves this computer."""
    try:
        return parse_lines(text)
    except KeyRefused as error:
        if error.code == "KEY_PRIVATE":
            raise Failure(
                f"{where} is a private key. Nothing was sent. Name the file that ends in .pub.", code=error.code
            ) from None
        line = f", line {error.line}" if error.line else ""
        raise Failure(f"{where}{line}: {error.sentence}", code=error.code) from None


def _meant(keys: list[Key], which: str) -> Key:
    wanted = {which, f"SHA256:{which}"}
    if which.endswith(".pub") and (path := expanded(which)).is_file():
        wanted = {key.fingerprint for key in _parsed(_text(path), which)}
    found = [key for key in keys if key.fingerprint in wanted or key.comment == which]
    if not found and len(which.removeprefix("SHA256:")) >= 4:
        found = [key for key in keys if key.fingerprint.removeprefix("SHA256:").startswith(which.removeprefix("SHA256:"))]
    if not found:
        raise Failure(f"No registered key is {printable(which)}. See: jhssh keys list", code="KEY_UNKNOWN")
    if len({key.fingerprint for key in found}) > 1:
        raise WrongUsage(f"More than one key is {printable(which)}. Give the fingerprint: jhssh keys list")
    return found[0]


def _shown(key: Key) -> str:
    return f"{key.fingerprint} {key.comment}".rstrip()


def _where(key: Key) -> str:
    return key.source if key.server is None else f"server {key.server or '(default)'}"


def _when(seconds: float | None) -> str:
    return date(seconds) if seconds else "never"
