"""The settings of the Hub's side, as traits: their help texts are their reference.

In ``jupyterhub_config.py`` they are set as ``c.SSHSpawnerMixin.<name>``, or for one spawner class under its own name.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from traitlets import Bool, Bytes, Enum, Integer, List, TraitError, Unicode, Union, validate
from traitlets.config import Configurable

from ..login_names import DEFAULT_SEPARATOR
from . import host_keys, options_form

TUNNEL_URL = re.compile(r"wss?://(\[[\da-fA-F:]+\]|[\w-]+(?:\.[\w-]+)*)(?::\d{1,5})?(?:/[\w.~%/-]*)?", re.ASCII)
"""made into commands for users to copy"""


def _is_tunnel(url: str) -> bool:
    """As browsers take it: what looks like an address is one (URL Standard, "Host parsing")."""
    found = TUNNEL_URL.fullmatch(url)
    if found is None:
        return False
    host = found[1]
    try:
        if host.startswith("[") or host.rpartition(".")[2].isdecimal():
            ipaddress.ip_address(host.strip("[]"))
        return urlsplit(url).port != 0
    except ValueError:
        return False


class SSHSettings(Configurable):
    """What an admin sets; the spawner mixin has them all."""

    ssh_policy = Enum(
        [options_form.OPTIONAL, options_form.ALWAYS, options_form.NEVER],
        options_form.OPTIONAL,
        help="""Who decides whether a server can be reached by SSH.

        `optional`: the user, by a checkbox on the page that starts a server. `always`, `never`: you, for every server.
        `Spawner.group_overrides` and profiles may set it for some: what counts is its value when the server starts.
        """,
    ).tag(config=True)

    ssh_default = Bool(
        False,
        help="""With the policy `optional`: is SSH on for a user who has not chosen yet. The checkbox shows it.""",
    ).tag(config=True)

    ssh_ask_without_form = Bool(
        False,
        help="""With the policy `optional`, on a Hub that has no options form: show a page with the checkbox alone at each start.

        Where it is off, such a Hub starts servers with one click as before, and `ssh_default` decides.
        """,
    ).tag(config=True)

    ssh_user_ca_file = Unicode(
        "",
        help="""File with the public keys of the gateway's user CA, one OpenSSH line each: the `.pub` file that
        `jhssh-gateway keys init` makes. Read at each start of a server. The private half is the gateway's alone.
        Without a key here or in `ssh_user_ca_keys`, SSH stays off.
        """,
    ).tag(config=True)

    ssh_user_ca_keys = List(
        Unicode(),
        help="""Public keys of the gateway's user CA, one OpenSSH line each, besides those in `ssh_user_ca_file`.

        Several, so that the CA can be rotated: add the new key, restart the user servers, switch the gateway over, remove the
        old key.
        """,
    ).tag(config=True)

    ssh_secret = Union(
        [Bytes(), Unicode()],
        default_value=b"",
        help="""Secret of the Hub that the host keys of user servers are made of; at least 32 bytes.

        Default: derived from the Hub's cookie secret. Set it where the cookie secret changes, so that host keys stay.
        """,
    ).tag(config=True)

    ssh_host_key_epoch = Unicode(
        "",
        help="""Any text. Another one gives every user server another host key at its next start; for use after a leak.""",
    ).tag(config=True)

    ssh_hub_id = Unicode(
        "",
        help="""Name of this Hub among those that share a user CA. Default: derived from `ssh_secret`, another for each Hub.""",
    ).tag(config=True)

    ssh_port = Integer(
        0,
        min=0,
        max=65535,
        help="""TCP port of sshd on the user server.

        0: the Hub picks a free one of its own machine at each start, right for servers that run there. Where each server has
        a network of its own (containers), set one port for all, 1024 or higher.
        """,
    ).tag(config=True)

    ssh_listen_address = Unicode(
        "127.0.0.1",
        help="""Address on which sshd of the user server listens. In containers `0.0.0.0`; let only the gateway reach it.""",
    ).tag(config=True)

    ssh_user = Unicode(
        "jovyan",
        help="""Account under which user servers run, where the spawner class does not know it: see `get_ssh_user`.""",
    ).tag(config=True)

    ssh_gateway_service = Unicode("ssh", help="""Name of the Hub service that is the SSH gateway.""").tag(config=True)

    ssh_gateway_url = Unicode(
        "",
        help="""URL under which user servers reach the HTTP side of the gateway. They tell it that a key was added or removed;
        where they can't, such a change counts only after the gateway's cache has aged.
        Default: the URL of the Hub's service `ssh_gateway_service`.
        """,
    ).tag(config=True)

    ssh_public_host = Unicode("", help="""Host name that users type after the @, shown by their server's jhssh/status.""").tag(
        config=True
    )

    ssh_public_port = Integer(
        22, min=1, max=65535, help="""TCP port that users connect to, shown by their server's jhssh/status."""
    ).tag(config=True)

    ssh_tunnel_url = Unicode(
        "",
        help="""Set it where users cannot reach the gateway's SSH port (`c.Gateway.ssh_published = False`): the URL of its tunnel,
        `wss://hub.example.org/services/ssh/tunnel`. The panel and jhssh/status then show this way in place of the port.
        """,
    ).tag(config=True)

    ssh_gateway_host_key_file = Unicode(
        "",
        help="""File with the gateway's public host key, one OpenSSH line: the `host_key.pub` that `jhssh-gateway keys init`
        makes. Shown to users, so that they can check it. Default: `host_key.pub` beside `ssh_user_ca_file`, if it is there.
        """,
    ).tag(config=True)

    ssh_login_separator = Unicode(
        DEFAULT_SEPARATOR,
        help="""What stands between user and named server in a login name, as `+` in `alice+gpu`. Must be the gateway's too.""",
    ).tag(config=True)

    @validate("ssh_tunnel_url")
    def _check_ssh_tunnel_url(self, proposal: Any) -> str:
        value = str(proposal.value)
        if value and not _is_tunnel(value):
            raise TraitError(f"ssh_tunnel_url is no URL of a WebSocket, as wss://hub.example.org/services/ssh/tunnel: {value!r}")
        return value

    @validate("ssh_secret")
    def _check_ssh_secret(self, proposal: Any) -> bytes:
        value = proposal.value.encode("utf-8") if isinstance(proposal.value, str) else bytes(proposal.value)
        if value and len(value) < host_keys.MIN_SECRET:
            raise TraitError(f"ssh_secret must have at least {host_keys.MIN_SECRET} bytes: make one with `openssl rand -hex 32`")
        return value
