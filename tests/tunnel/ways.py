"""Ways through the Hub's own proxy: either kind of it, HTTPS with a private CA, a base URL, subdomains."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psutil

from ..client import certificates
from ..harness.hub import Answer, Hub, request
from ..harness.processes import arguments

JHSSH = Path(sys.executable).with_name("jhssh")
LOCALHOST_NAMES = Path(__file__).with_name("localhost_names.py")


def tunnel_url(hub: Hub) -> str:
    """The gateway's tunnel, through the proxy."""
    assert hub.gateway is not None
    at = urlsplit(hub.url)
    return urlunsplit((at.scheme.replace("http", "ws"), at.netloc, hub.gateway.prefix + "tunnel", "", ""))


def tunnel_command(hub: Hub, *options: str) -> str:
    """``jhssh proxy``, for ProxyCommand."""
    return shlex.join([str(JHSSH), "proxy", tunnel_url(hub), *options])


def tunnels(hub: Hub) -> list[psutil.Process]:
    """The processes that :func:`tunnel_command` became."""
    return [each for each in hub.processes() if arguments(each)[1:3] == [str(JHSSH), "proxy"]]


@dataclass
class Way:
    """How a Hub is set up before it starts, and what leads to its gateway then."""

    prepare: Callable[[Hub], None]
    command: Callable[[Hub], str] = tunnel_command


@contextmanager
def way(name: str, folder: Path, node_proxy: Path | None) -> Iterator[Way]:
    """``name``: a proxy (``node``, ``python``) and what is special: ``node-https``, ``python-base_url``, ``node-subdomains``;
    or the client: ``node-websocat``."""
    kind, _, special = name.partition("-")

    def prepare(hub: Hub) -> None:
        if kind == "node":
            assert node_proxy is not None
            hub.config += f"\nc.ConfigurableHTTPProxy.command = [{str(node_proxy)!r}]\n"
        if special == "base_url":
            _under_a_base_url(hub)
        elif special == "subdomains":
            _with_subdomains(hub)

    if special == "https":
        with _private_ca(folder) as (ca_file, server_file):
            yield Way(lambda hub: (prepare(hub), _with_https(hub, server_file))[0], lambda hub: _with_ca(hub, ca_file))
    elif special == "subdomains":
        yield Way(prepare, _to_the_services_domain)
    elif special == "websocat":
        yield Way(prepare, _websocat)
    else:
        yield Way(prepare)


def _websocat(hub: Hub) -> str:
    """As docs/users.md has it."""
    return f"{Path(sys.executable).with_name('websocat')} --binary --no-async-stdio --ping-interval 30 {tunnel_url(hub)}"


def _under_a_base_url(hub: Hub) -> None:
    assert hub.gateway is not None
    hub.url += "/below/this"
    hub.gateway.hub_url = hub.url
    hub.gateway.prefix = "/below/this/services/ssh/"


def _with_https(hub: Hub, server_file: Path) -> None:
    assert hub.gateway is not None
    hub.url = hub.gateway.hub_url = hub.url.replace("http:", "https:")
    hub.config += f"\nc.JupyterHub.ssl_key = c.JupyterHub.ssl_cert = {str(server_file)!r}\n"


@contextmanager
def _private_ca(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Which all processes know but the one that is tried: it has to be told."""
    ca_file, server_file = certificates.make(folder)
    os.environ["SSL_CERT_FILE"] = str(ca_file)
    try:
        yield ca_file, server_file
    finally:
        del os.environ["SSL_CERT_FILE"]


def _with_ca(hub: Hub, ca_file: Path) -> str:
    return "env -u SSL_CERT_FILE " + tunnel_command(hub, "--ca-file", str(ca_file))


def _with_subdomains(hub: Hub) -> None:
    """Python finds no name below localhost: the Hub is called past the proxy, and user servers by their Host."""
    assert hub.gateway is not None
    host = f"hub.localhost:{hub.port}"
    hub.config += f'\nc.JupyterHub.bind_url = "http://127.0.0.1:{hub.port}/"\nc.JupyterHub.subdomain_host = "http://{host}"\n'
    hub.gateway.config += f'c.Gateway.hub_host = "http://{host}"\nc.Gateway.public_url = "http://{host}/"\n'
    hub.url = hub.gateway.hub_url = f"http://127.0.0.1:{hub.hub_port}"

    def server_api(method: str, user: str, path: str, json: Any = None, **_: object) -> Answer:
        headers = {"Authorization": f"token {hub.token(user)}", "Host": f"{user}.{host}"}
        return request(method, f"http://127.0.0.1:{hub.port}/user/{quote(user)}/{path}", json=json, headers=headers)

    hub.server_api = server_api  # type: ignore[method-assign]


def _to_the_services_domain(hub: Hub) -> str:
    url = f"ws://ssh--service.hub.localhost:{hub.port}/services/ssh/tunnel"
    return shlex.join([sys.executable, str(LOCALHOST_NAMES), url])
