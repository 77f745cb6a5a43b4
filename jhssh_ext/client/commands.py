"""What `jhssh` takes on its command line, and which function each command is."""

from __future__ import annotations

import argparse

from .. import __version__
from . import hubs
from .cli import TOOLS

EDITORS = ("code", "code-insiders", "cursor", "windsurf", "codium")
START_TIMEOUT, STOP_TIMEOUT = 300.0, 60.0
EPILOG = """\
Begin with: jhssh login https://hub.example.org, jhssh keys add, jhssh config --write; then: ssh alice.hub
Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 login needed, 4 the hub can't be reached;
of ssh, scp, rsync, sftp and code their own.
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="jhssh",
        description="SSH into your servers on a JupyterHub.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"jhssh {__version__}")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    hub, json, wait = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False), _waiting()
    hub.add_argument("--hub", metavar="NAME", help="which hub, where you are logged in to several (or: JHSSH_HUB)")
    json.add_argument("--json", action="store_true", help="for programs")

    command = commands.add_parser("login", help="log in to a hub, by approval in the browser")
    command.add_argument("url", metavar="URL", help="of the hub, as https://hub.example.org: any of its pages will do")
    command.add_argument("--name", help="what to call it here; it becomes part of host names: alice.NAME (default: hub)")
    command.add_argument(
        "--token", action="store_true", help="for a hub without a gateway: asks for a token of the Hub's Token page"
    )
    command.add_argument("--ca-file", metavar="FILE", help="the CA certificate of your organisation (PEM), kept for this hub")
    command.add_argument(
        "--service", metavar="NAME", help="what the gateway is called among the Hub's services (as the time before, or ssh)"
    )
    command.add_argument("--no-browser", dest="browser", action="store_false", help="only print the link")
    command.add_argument("--plain-http", action="store_true", help="allow http://: whoever is in between can read your token")

    commands.add_parser("logout", parents=[hub], help="revoke the token and forget the hub")

    command = commands.add_parser("config", parents=[hub], help="the hosts for ssh's own configuration: print or write them")
    command.add_argument("--write", action="store_true", help="put them into a block of ~/.ssh/config, and nothing else")
    command.add_argument("--dry-run", action="store_true", help="show what --write would change")
    command.add_argument("--file", metavar="FILE", help="in place of ~/.ssh/config")
    ways = command.add_mutually_exclusive_group()
    for name, text in (
        ("tunnel", "always through the Hub (port 443)"),
        ("direct", "always to the SSH port"),
        ("auto", "to the SSH port if it can be reached now, else through the Hub (the default)"),
    ):
        ways.add_argument(f"--{name}", dest="way", action="store_const", const=name, help=text)

    command = commands.add_parser("proxy", help="connect stdin and stdout with a host through the Hub: for ssh's ProxyCommand")
    command.add_argument("host", metavar="HOST", help="as in alice.hub, or the address of a tunnel: wss://…")
    command.add_argument("--ca-file", metavar="FILE", default="", help="with an address: the CA certificate of your organisation")

    for tool in TOOLS:
        commands.add_parser(tool, add_help=False, help=f"{tool}, with your hosts known to it; all options are {tool}'s own")

    keys = commands.add_parser("keys", help="your public keys on the hub").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    of_server = argparse.ArgumentParser(add_help=False)
    of_server.add_argument("--server", metavar="NAME", default="", help="where there is no gateway: on which of your servers")
    keys.add_parser("list", parents=[hub, json, of_server], help="which are registered")
    command = keys.add_parser("add", parents=[hub, of_server], help="register one of this computer")
    command.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="its .pub file, - for stdin (default: ~/.ssh/id_ed25519.pub, then the other usual ones)",
    )
    command = keys.add_parser("remove", parents=[hub, of_server], help="take one away; what it opened ends")
    command.add_argument("key", metavar="KEY", help="its fingerprint or the beginning of it, its comment, or its .pub file")
    command = keys.add_parser("import", parents=[hub, of_server], help="register those that an account elsewhere shows")
    command.add_argument("source", metavar="github:NAME", help="or gitlab:NAME")

    servers = commands.add_parser("servers", help="your servers").add_subparsers(dest="action", metavar="ACTION", required=True)
    servers.add_parser("list", parents=[hub, json], help="what you have, and what runs")
    command = servers.add_parser("start", parents=[hub, wait], help="start one, and wait until it runs")
    command.add_argument("server", metavar="SERVER", nargs="?", default="", help="its name (default: your default server)")
    command.add_argument(
        "-o",
        metavar="NAME=VALUE",
        dest="options",
        action="append",
        default=[],
        help="an option of the spawn form; NAME:=JSON for numbers, true, false",
    )
    command = servers.add_parser("stop", parents=[hub, wait], help="stop one, and wait until it is stopped")
    command.add_argument("server", metavar="SERVER", nargs="?", default="", help="its name (default: your default server)")

    command = commands.add_parser("code", parents=[hub], help="open VS Code on a folder of your server (Remote-SSH)")
    command.add_argument("folder", metavar="DIR", nargs="?", help="there; relative to where a login begins (default: no folder)")
    command.add_argument("--server", metavar="NAME", default="", help="which of your servers (default: your default server)")
    command.add_argument("--editor", default="code", help=f"its command: {', '.join(EDITORS)} (default: code)")

    commands.add_parser("doctor", parents=[hub, json], help="find out what does not work, and what to do about it")
    command = commands.add_parser("completion", help="a script that completes all this in your shell")
    command.add_argument("shell", choices=["bash", "zsh", "fish", "hosts"], metavar="SHELL", help="bash, zsh or fish")
    return made


def _waiting() -> argparse.ArgumentParser:
    wait = argparse.ArgumentParser(add_help=False)
    wait.add_argument("--no-wait", dest="wait", action="store_false", help="only ask for it")
    wait.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long to wait (300 for a start, 60 for a stop)")
    return wait


def seconds(text: str) -> float:
    """Raises ValueError, of which argparse makes a sentence."""
    if not 0 < float(text) < 1e9:
        raise ValueError(text)
    return float(text)


def run(given: argparse.Namespace) -> int:
    """Raises Failure."""
    if given.command == "login":
        from .login import login

        login(
            given.url,
            name=given.name,
            token=given.token,
            ca_file=given.ca_file,
            plain_http=given.plain_http,
            service=given.service,
            browser=given.browser,
        )
    elif given.command == "logout":
        from .login import logout

        logout(hubs.choose(given.hub))
    elif given.command == "config":
        from .config import config

        config(write=given.write, dry_run=given.dry_run, way=given.way, hub=given.hub, file=given.file)
    elif given.command == "proxy":
        from .proxy import proxy

        proxy(given.host, ca_file=given.ca_file)
    elif given.command == "keys":
        _keys(given)
    elif given.command == "servers":
        _servers(given)
    elif given.command == "code":
        from .editor import code

        return code(hubs.choose(given.hub), given.folder, server=given.server, editor=given.editor)
    elif given.command == "doctor":
        from .doctor import doctor

        return doctor(given.hub, json=given.json)
    elif given.command == "completion":
        from .completion import completion

        completion(given.shell, parser())
    return 0


def _keys(given: argparse.Namespace) -> None:
    from . import keys
    from .hub_api import account

    asked = account(hubs.choose(given.hub), given.server)
    if given.action == "list":
        keys.list_keys(asked, json=given.json)
    elif given.action == "add":
        keys.add(asked, given.file)
    elif given.action == "remove":
        keys.remove(asked, given.key)
    else:
        keys.import_from(asked, given.source)


def _servers(given: argparse.Namespace) -> None:
    from . import servers

    hub = hubs.choose(given.hub)
    if given.action == "list":
        servers.list_servers(hub, json=given.json)
    elif given.action == "start":
        servers.start(hub, given.server, given.options, timeout=given.timeout or START_TIMEOUT, wait=given.wait)
    else:
        servers.stop(hub, given.server, timeout=given.timeout or STOP_TIMEOUT, wait=given.wait)
