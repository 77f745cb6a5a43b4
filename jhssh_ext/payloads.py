"""What one process hands to another: the shapes, parsed strictly (docs/architecture.md, "How a connection flows").

Hub → gateway: :class:`ServerState`, in the spawner's state. Hub → user server: :class:`ServerEnvironment`, as ``JHSSH_*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

ENVIRONMENT_PREFIX = "JHSSH_"
STATE_KEY = "jhssh"
SIDECAR = "sidecar"
"""``ServerEnvironment.sshd`` where another container of the pod runs sshd"""


@dataclass(frozen=True)
class ServerState:
    """Where and how the gateway reaches one running user server. Told by the Hub alone, given once when the server starts."""

    host: str
    """address of its sshd"""
    port: int
    """TCP port of its sshd"""
    user: str
    """the account that sshd lets in: what the gateway gives as SSH user name"""
    host_key: str
    """its sshd's public host key, one OpenSSH line of type ssh-ed25519: the gateway takes no other"""
    url: str
    """base URL of the user server itself, not through the Hub's proxy; ends with a slash"""
    secret: str = field(repr=False)
    """per-spawn secret that signs requests and answers between gateway and extension; 64 hexadecimal digits"""
    spawn: str
    """id of this spawn: another after each start"""
    hub_id: str
    """id of the Hub, an input of every opaque id"""
    socket_folders: tuple[str, ...] = ()
    """where its sshd can open the Unix sockets that users forward, absolute; empty: everywhere that its user can"""

    def to_state(self) -> dict[str, Any]:
        return {STATE_KEY: asdict(self)}

    @classmethod
    def from_state(cls, state: Any) -> ServerState | None:
        """From a spawner's whole state; None where SSH is off. Raises ValueError on any other shape."""
        if not isinstance(state, dict) or state.get(STATE_KEY) is None:
            return None
        found = state[STATE_KEY]
        if not isinstance(found, dict):
            raise ValueError("state.jhssh is not an object")
        values: dict[str, Any] = {}
        folders = found.get("socket_folders", ())
        if not isinstance(folders, (list, tuple)) or not all(isinstance(folder, str) and folder[:1] == "/" for folder in folders):
            raise ValueError("state.jhssh.socket_folders is no list of absolute paths")
        values["socket_folders"] = tuple(folders)
        for each in fields(cls):
            if each.name in values:
                continue
            value = found.get(each.name)
            wanted = int if each.name == "port" else str
            if type(value) is not wanted or not value:
                raise ValueError(f"state.jhssh.{each.name} is missing or not a {wanted.__name__}")
            values[each.name] = value
        if not 0 < values["port"] < 65536:
            raise ValueError("state.jhssh.port is no TCP port")
        return cls(**values)


@dataclass(frozen=True)
class ServerEnvironment:
    """What the Hub gives a user server, each field as ``JHSSH_<FIELD>``. The extension takes it out of ``os.environ`` at once."""

    enabled: bool
    """is SSH on for this server"""
    disabled_because: str = ""
    """where it is off: the sentence for the user"""
    can_be_enabled: bool = False
    """where it is off: can the user turn it on at the next start"""
    sshd: str = ""
    """who runs sshd: SIDECAR; empty: the server extension"""
    listen_address: str = "127.0.0.1"
    listen_port: int = 0
    host_key: str = field(default="", repr=False)
    """private host key, OpenSSH format (PROTOCOL.key), Ed25519"""
    public_host_key: str = ""
    """where the private one is elsewhere: one OpenSSH line"""
    user_ca_keys: str = ""
    """public keys of the gateway's user CAs, one OpenSSH line each"""
    principal: str = ""
    """the one principal that opens this server"""
    audience: str = ""
    """audience of signed requests and answers"""
    secret: str = field(default="", repr=False)
    """as ServerState.secret"""
    gateway_url: str = ""
    """where the gateway's HTTP side answers user servers, ending with a slash; empty if it can't be told that keys changed"""
    connect_host: str = ""
    """what users type after the @; empty if the admin has not said"""
    connect_port: int = 0
    login_name: str = ""
    """what users type before the @"""
    gateway_host_key: str = ""
    """public host key of the gateway, type and base64 alone, for known_hosts; empty if the admin has not said"""
    tunnel_url: str = ""
    """the gateway's WebSocket, where users cannot reach its port; else empty"""

    def to_environ(self) -> dict[str, str]:
        return {
            ENVIRONMENT_PREFIX + name.upper(): ("1" if value else "0") if isinstance(value, bool) else str(value)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ServerEnvironment | None:
        """None where no Hub with our mixin started this server. Raises ValueError on values of another shape."""
        if ENVIRONMENT_PREFIX + "ENABLED" not in environ:
            return None
        values: dict[str, Any] = {}
        for each in fields(cls):
            text = environ.get(ENVIRONMENT_PREFIX + each.name.upper())
            if text is None:
                continue
            if each.name in ("enabled", "can_be_enabled"):
                values[each.name] = text == "1"
            elif each.name in ("listen_port", "connect_port"):
                values[each.name] = int(text)
            else:
                values[each.name] = text
        return cls(**values)
