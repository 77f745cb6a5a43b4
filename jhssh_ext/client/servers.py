"""``jhssh servers``: list, start and stop, with what the wait is about."""

from __future__ import annotations

import json as json_module
import time
from typing import Any

from ..identifiers import printable
from . import hubs
from .failures import Failure, Unreachable, WrongUsage
from .host_names import host_names
from .hub_api import Account, Me, Server, account, remembered
from .output import Progress, note, say, say_json, table

INTERVAL = 1.0
NOT_BEGUN = 15.0
"""seconds after which a start that the hub shows nothing of counts as failed"""
MAX_OPTIONS = 4096


def list_servers(hub: hubs.Hub, *, json: bool = False) -> None:
    me = account(hub).me()
    remembered(hub, me)
    hosts = host_names(me.user, [each.name for each in me.servers], hub.name)
    if json:
        say_json({"servers": [_model(each, hosts[each.name]) for each in me.servers]})
        return
    rows = [[each.name or "(default)", hosts[each.name], each.state, _ssh(each), each.url] for each in me.servers]
    table(["SERVER", "HOST", "STATE", "SSH", "URL"], rows)
    for each in me.servers:
        if each.message:
            note(f"{hosts[each.name]}: {each.message}")


def start(hub: hubs.Hub, name: str, options: list[str], *, timeout: float, wait: bool = True) -> None:
    """``options``: ``key=text``, or ``key:=JSON`` for numbers and the like. Raises Failure."""
    wanted = parsed_options(options)
    asked = account(hub)
    me = asked.me()
    server = found(me, name, hub)
    host = host_names(me.user, [each.name for each in me.servers], hub.name)[server.name]
    if server.ready and not server.pending:
        say(f"{_called(server)} runs already." + (" Its options were not changed: stop it first." if wanted else ""))
        return
    progress = Progress()
    progress.show(f"{_called(server)} is starting …")  # a Hub may keep the answer back for ten seconds
    try:
        asked.start(server.name, wanted)
        ready = wait_until_ready(asked, server, timeout, progress) if wait else None
    finally:
        progress.clear()
    if ready is None:
        say(f"{_called(server)} is being started.")
        return
    if ready.ssh is False:
        say(f"{_called(ready)} runs, and SSH is off for it. {ready.message}".rstrip())
    else:
        say(f"{_called(ready)} runs: ssh {host}")


def stop(hub: hubs.Hub, name: str, *, timeout: float, wait: bool = True) -> None:
    asked = account(hub)
    server = found(asked.me(), name, hub)
    if not server.ready and not server.pending:
        say(f"{_called(server)} is stopped already.")
        return
    asked.stop(server.name)
    if not wait:
        say(f"{_called(server)} is being stopped.")
        return
    progress, deadline = Progress(), time.monotonic() + timeout
    try:
        while True:
            now = asked.me().server(server.name)
            if now is None or not (now.ready or now.pending):
                break
            if time.monotonic() > deadline:
                raise Unreachable(f"{_called(server)} is not stopped after {timeout:.0f} s. See: jhssh servers list")
            progress.show(f"{_called(server)} is stopping …")
            time.sleep(INTERVAL)
    finally:
        progress.clear()
    say(f"{_called(server)} is stopped.")


def wait_until_ready(asked: Account, server: Server, timeout: float, progress: Progress) -> Server:
    """Raises Failure with what the hub said where the start failed."""
    began, seen = time.monotonic(), False
    while True:
        now = asked.me().server(server.name)
        waited = time.monotonic() - began
        if now is not None and now.ready and not now.pending:
            return now
        if now is not None and now.pending:
            seen = True
        elif now is not None and now.message and (seen or waited > NOT_BEGUN):
            raise Failure(now.message, code="SPAWN_FAILED")
        elif seen or waited > NOT_BEGUN:
            raise Failure(f"{_called(server)} could not be started. Start it in the browser to see why.", code="SPAWN_FAILED")
        if waited > timeout:
            raise Unreachable(f"{_called(server)} is not ready after {timeout:.0f} s. See: jhssh servers list")
        progress.show(now.message if now is not None and now.pending and now.message else f"{_called(server)} is starting …")
        time.sleep(INTERVAL)


def found(me: Me, name: str, hub: hubs.Hub) -> Server:
    """By the server's name, its login name or its host name. None is ever made by a typo. Raises Failure."""
    hosts = host_names(me.user, [each.name for each in me.servers], hub.name)
    for test in (lambda each: each.name == name, lambda each: name in (each.login_name, hosts[each.name])):
        matching = [each for each in me.servers if test(each)]
        if len(matching) == 1:
            return matching[0]
    have = ", ".join(printable(each.name) or "(default)" for each in me.servers)
    raise Failure(f"You have no server called {printable(name) or '(default)'} on {hub.name}. There is: {have}.")


def parsed_options(options: list[str]) -> dict[str, Any]:
    """Raises WrongUsage."""
    wanted: dict[str, Any] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key.rstrip(":"):
            raise WrongUsage(f"-o {printable(option)}: write NAME=VALUE, or NAME:=JSON for a number, true or false.")
        if not key.endswith(":"):
            wanted[key] = value
            continue
        try:
            wanted[key[:-1]] = json_module.loads(value)
        except (ValueError, RecursionError):
            raise WrongUsage(f"-o {printable(option)}: what follows := is no JSON.") from None
    if len(json_module.dumps(wanted)) > MAX_OPTIONS:
        raise WrongUsage(f"The options are too long: at most {MAX_OPTIONS} bytes of JSON.")
    return wanted


def _called(server: Server) -> str:
    return f"The server {printable(server.name)}" if server.name else "Your server"


def _ssh(server: Server) -> str:
    return {True: "on", False: "off", None: ""}[server.ssh]


def _model(server: Server, host: str) -> dict[str, Any]:
    return {
        "name": server.name,
        "host": host,
        "login_name": server.login_name,
        "state": server.state,
        "ssh": server.ssh,
        "url": server.url,
        "message": server.message,
    }
