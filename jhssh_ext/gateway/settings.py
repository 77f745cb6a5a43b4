"""The gateway's settings: their help is the reference (``jhssh-gateway --generate-config``)."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from traitlets import Bool, Float, Integer, List, Unicode, default
from traitlets.config import Application

from ..login_names import DEFAULT_SEPARATOR
from . import key_files


class GatewaySettings(Application):
    """Set them as ``c.Gateway.…``."""

    config_file = Unicode("", help="Configuration file (Python, `c.Gateway.… = …`).").tag(config=True)
    generate_config = Bool(False, help="Print a configuration file with every setting, and end.").tag(config=True)

    ssh_address = Unicode("", help="Address on which SSH is served; empty: all of the machine's.").tag(config=True)
    ssh_port = Integer(
        2222,
        min=1,
        max=65535,
        help="TCP port on which SSH is served. Port 22 needs a right that the gateway should not have: forward it.",
    ).tag(config=True)
    http_address = Unicode(help="Address of the HTTP side; default: that of $JUPYTERHUB_SERVICE_URL, else loopback.").tag(
        config=True
    )
    http_port = Integer(
        8099, min=1, max=65535, help="TCP port of the HTTP side; default: that of $JUPYTERHUB_SERVICE_URL, else 8099."
    ).tag(config=True)
    service_prefix = Unicode(
        help="Path under which the Hub's proxy serves the HTTP side; default: $JUPYTERHUB_SERVICE_PREFIX, else /services/ssh/."
    ).tag(config=True)

    keys_dir = Unicode("jhssh-keys", help="Folder that `jhssh-gateway keys init --dir …` filled.").tag(config=True)
    host_key_file = Unicode(help="Private host key, Ed25519; default: host_key in keys_dir.").tag(config=True)
    user_ca_file = Unicode(
        help="Private key of the user CA, which opens every user server; default: user_ca in keys_dir. "
        "Its public half is c.SSHSpawnerMixin.ssh_user_ca_file; the private half never belongs into the Hub."
    ).tag(config=True)

    hub_api_url = Unicode(help="The Hub's REST API; default: $JUPYTERHUB_API_URL.").tag(config=True)
    hub_api_token = Unicode(
        help="Token of the gateway's service at the Hub; default: $JUPYTERHUB_API_TOKEN. "
        "Scopes: read:servers, admin:server_state, servers, users:activity."
    ).tag(config=True)
    public_url = Unicode(
        "", help="The Hub as users see it, with its base URL: https://hub.example.org/. Links are made from it."
    ).tag(config=True)
    ssh_host = Unicode("", help="What users type after the @.").tag(config=True)
    public_ssh_port = Integer(0, help="The port that users connect to, where it is not ssh_port.").tag(config=True)

    login_separator = Unicode(
        DEFAULT_SEPARATOR, help="Stands between user and named server: alice+gpu. Empty: default servers only."
    ).tag(config=True)
    allow_shared_servers = Bool(
        False,
        help="Let a token of another user in, if a share gives it access to the server. They then act as the server's owner.",
    ).tag(config=True)

    start_timeout = Float(300.0, help="Seconds that a login waits for a user server to start.").tag(config=True)
    connect_timeout = Float(20.0, help="Seconds that a login waits for the sshd of a user server that runs.").tag(config=True)
    login_timeout = Float(60.0, help="Seconds that a client has to prove who it is (sshd_config's LoginGraceTime).").tag(
        config=True
    )
    drain_timeout = Float(
        10.0, help="Seconds that open connections have to end when the gateway ends; at most 25.", max=25.0
    ).tag(config=True)
    max_auth_tries = Integer(
        10,
        help="Failed keys and passwords per connection (sshd_config's MaxAuthTries, which is 6: an agent often offers more).",
        min=1,
    ).tag(config=True)
    failure_floor = Float(
        0.5,
        help="Seconds: a refusal is told after a whole number of these, whatever its cause. A connection's first "
        "after two of them: meanwhile a user server may be asked for its keys.",
        min=0.05,
    ).tag(config=True)
    max_unauthenticated = Integer(256, help="Connections in all that have not proved who they are (MaxStartups).").tag(
        config=True
    )
    max_unauthenticated_per_address = Integer(
        64,
        help="The same for one IPv4 address or IPv6 /64 (PerSourceMaxStartups). Raise it where a load balancer hides addresses.",
    ).tag(config=True)
    max_connections_per_user = Integer(100, help="Open connections of one user.").tag(config=True)
    failures_burst = Integer(
        100,
        help="Failed keys and tokens of one address before further ones are refused without asking anybody. "
        "Raise it where a load balancer hides addresses: there one stranger's failures are everybody's.",
    ).tag(config=True)
    failures_per_minute = Float(30.0, help="How fast an address may fail after that.").tag(config=True)
    key_max_age = Float(900.0, help="Seconds after which a user server's keys are fetched anew at the next login.").tag(
        config=True
    )
    key_fresh_age = Float(120.0, help="Seconds during which an unknown key is refused without asking the user server again.").tag(
        config=True
    )

    kex_algs = List(
        Unicode(),
        ["mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com", "curve25519-sha256",
         "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "diffie-hellman-group16-sha512"],
        help="Key exchange methods for clients; those that this machine's libraries lack are left out.",
    ).tag(config=True)  # fmt: skip
    encryption_algs = List(
        Unicode(),
        [
            "chacha20-poly1305@openssh.com",
            "aes256-gcm@openssh.com",
            "aes128-gcm@openssh.com",
            "aes256-ctr",
            "aes192-ctr",
            "aes128-ctr",
        ],
        help="Ciphers for clients.",
    ).tag(config=True)
    mac_algs = List(
        Unicode(),
        ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"],
        help="MACs for clients, with the ciphers that need one.",
    ).tag(config=True)

    @default("log_level")
    def _default_log_level(self) -> int:
        return logging.INFO

    @default("log_format")
    def _default_log_format(self) -> str:
        return "[%(levelname)1.1s %(asctime)s %(name)s] %(message)s"

    @default("hub_api_url")
    def _default_hub_api_url(self) -> str:
        return os.environ.get("JUPYTERHUB_API_URL", "")

    @default("hub_api_token")
    def _default_hub_api_token(self) -> str:
        return os.environ.get("JUPYTERHUB_API_TOKEN", "")

    @default("http_address")
    def _default_http_address(self) -> str:
        return urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "")).hostname or "127.0.0.1"

    @default("http_port")
    def _default_http_port(self) -> int:
        return urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "")).port or 8099

    @default("service_prefix")
    def _default_service_prefix(self) -> str:
        return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/services/ssh/")

    @default("host_key_file")
    def _default_host_key_file(self) -> str:
        return str(Path(self.keys_dir) / key_files.HOST_KEY)

    @default("user_ca_file")
    def _default_user_ca_file(self) -> str:
        return str(Path(self.keys_dir) / key_files.USER_CA)
