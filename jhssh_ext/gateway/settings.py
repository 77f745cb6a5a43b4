"""The gateway's settings: their help is the reference (``jhssh-gateway --generate-config``)."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from traitlets import Bool, Enum, Float, Integer, List, Unicode, default
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
        "Scopes: list:users, read:users, read:servers, admin:server_state, servers, users:activity."
    ).tag(config=True)
    hub_host = Unicode(
        help="https://hub.example.org where the Hub gives each user a subdomain (c.JupyterHub.subdomain_host), else empty; "
        "default: $JUPYTERHUB_HOST."
    ).tag(config=True)
    oauth_client_id = Unicode(help="OAuth client of the pages; default: $JUPYTERHUB_CLIENT_ID, else service-ssh.").tag(
        config=True
    )
    admin_scope = Unicode(
        "custom:jhssh:admin",
        help="Who has this scope sees and ends everybody's connections on the page, as an admin of the Hub does. "
        "Define it in c.JupyterHub.custom_scopes, and allow it in the service's oauth_client_allowed_scopes.",
    ).tag(config=True)
    database_url = Unicode(
        "sqlite:///jhssh.sqlite",
        help="Where the gateway remembers keys, approvals and open connections: a URL of SQLAlchemy's. A file (SQLite), "
        "or for several gateways a PostgreSQL: postgresql+psycopg://user:password@host/database.",
    ).tag(config=True)
    public_url = Unicode(
        "", help="The Hub as users see it, with its base URL: https://hub.example.org/. Links are made from it."
    ).tag(config=True)
    ssh_host = Unicode("", help="What users type after the @.").tag(config=True)
    public_ssh_port = Integer(0, help="The port that users connect to, where it is not ssh_port.").tag(config=True)
    ssh_published = Bool(
        True,
        help="Can users reach the SSH port? Where not, the page and the jhssh command show the way through the tunnel alone.",
    ).tag(config=True)

    tunnel = Bool(
        True,
        help="Serve SSH also as a WebSocket, at `tunnel` below the service's prefix: through the Hub's own HTTPS, for networks "
        "that let nothing else out. SSH inside it is the same, with the same limits. Set trusted_proxies, so that clients that "
        "come this way do not all count as one address.",
    ).tag(config=True)
    tunnel_ping_interval = Float(
        30.0,
        min=0.1,
        help="Seconds between the pings that keep a proxy from ending an idle tunnel: less than the shortest idle time-out on "
        "the way, which is often 60. Who answers none for four minutes is taken for gone.",
    ).tag(config=True)

    login_separator = Unicode(
        DEFAULT_SEPARATOR, help="Stands between user and named server: alice+gpu. Empty: default servers only."
    ).tag(config=True)
    allow_shared_servers = Bool(
        False,
        help="Let a token of another user in, if a share gives it access to the server. They then act as the server's owner.",
    ).tag(config=True)

    start_timeout = Float(300.0, help="Seconds that a login waits for a user server to start.").tag(config=True)
    route = Enum(
        ["auto", "direct", "websocket"],
        "auto",
        help="How the gateway reaches user servers: by TCP to their sshd (direct); by the address of their Jupyter server, where "
        "jhssh-ext answers /jhssh/tunnel (websocket): batch systems and remote machines often let nothing else through; or the "
        "first and, where it fails, the second (auto).",
    ).tag(config=True)
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
    browser_login = Bool(
        True,
        help="Let a client in without key or token once its user approved it in the browser. Needs public_url (or page_url).",
    ).tag(config=True)
    page_url = Unicode(
        help="The gateway's page as users see it; default: $JUPYTERHUB_PUBLIC_URL, else service_prefix on the host of public_url."
    ).tag(config=True)
    approval_timeout = Float(300.0, help="Seconds that a login waits for its approval in the browser.", min=10, max=3600).tag(
        config=True
    )
    trusted_proxies = List(
        Unicode(),
        help="Networks of the reverse proxies before the gateway's pages, the Hub's own among them: ['127.0.0.1'] where it runs "
        "on this machine. By them a browser's address is known (X-Forwarded-For), and where the ssh client is at the same one, "
        "an approved login goes on by itself; else a number has to be typed. By them the address of an ssh client that comes "
        "through the tunnel is known, too. Leave it empty where a load balancer hides the addresses of ssh clients: there "
        "everybody would seem to be at the same one.",
    ).tag(config=True)
    max_approvals = Integer(
        128, help="Logins in all that wait for an approval in the browser. They count as unauthenticated too.", min=1
    ).tag(config=True)
    max_approvals_per_address = Integer(32, help="The same for one IPv4 address or IPv6 /64.", min=1).tag(config=True)
    max_approvals_per_user = Integer(10, help="The same for one user.", min=1).tag(config=True)
    client_token_days = Float(
        30.0,
        help="Days for which `jhssh login` lets the jhssh command in; 0: it can't log in. Its token, which users see and revoke "
        "on the page, is good for this gateway alone: it shows and changes keys there, and lists, starts and stops servers.",
        min=0.0,
        max=3650.0,
    ).tag(config=True)
    failures_per_minute = Float(30.0, help="How fast an address may fail after that.").tag(config=True)
    key_max_age = Float(900.0, help="Seconds after which a user server's keys are fetched anew at the next login.").tag(
        config=True
    )
    key_fresh_age = Float(120.0, help="Seconds during which an unknown key is refused without asking the user server again.").tag(
        config=True
    )

    key_sources = List(
        Unicode(),
        ["server", "page"],
        help='Where keys are registered. "server": the key store of each user server, for itself. "page": the page in the Hub, '
        'for all servers of a user. "github", "gitlab" or an https URL with {username} in its path: whoever has that name there '
        "opens all servers of the user of that name here, so only for hubs whose users are those of that site.",
    ).tag(config=True)
    stopped_key_max_age = Float(
        30.0,
        help="Days that a key may start a stopped server after its server (or site) was last seen to list it; 0: for ever.",
        min=0.0,
    ).tag(config=True)
    page_key_max_age = Float(0.0, help="Days after which keys on the page have to be renewed there; 0: never.", min=0.0).tag(
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

    @default("hub_host")
    def _default_hub_host(self) -> str:
        return os.environ.get("JUPYTERHUB_HOST", "")

    @default("oauth_client_id")
    def _default_oauth_client_id(self) -> str:
        return os.environ.get("JUPYTERHUB_CLIENT_ID", "service-ssh")

    @default("http_address")
    def _default_http_address(self) -> str:
        return urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "")).hostname or "127.0.0.1"

    @default("http_port")
    def _default_http_port(self) -> int:
        return urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "")).port or 8099

    @default("service_prefix")
    def _default_service_prefix(self) -> str:
        return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/services/ssh/")

    @default("page_url")
    def _default_page_url(self) -> str:
        if os.environ.get("JUPYTERHUB_PUBLIC_URL"):
            return os.environ["JUPYTERHUB_PUBLIC_URL"]
        host = urlsplit(self.public_url)
        return f"{host.scheme}://{host.netloc}{self.service_prefix}" if host.netloc else ""

    @default("host_key_file")
    def _default_host_key_file(self) -> str:
        return str(Path(self.keys_dir) / key_files.HOST_KEY)

    @default("user_ca_file")
    def _default_user_ca_file(self) -> str:
        return str(Path(self.keys_dir) / key_files.USER_CA)
