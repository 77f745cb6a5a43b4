"""What the Hub gave this server, and what of the server's environment its SSH sessions get."""

from __future__ import annotations

import base64
import binascii
import contextlib
import struct
from collections.abc import Mapping, MutableMapping
from ipaddress import ip_address

from ..payloads import ENVIRONMENT_PREFIX, SIDECAR, ServerEnvironment
from ..public_keys import ED25519, PublicKey, parse_line

_MAGIC = b"openssh-key-v1\0"
# Facts about the SSH session in which somebody may have started the Jupyter server: not those of its sessions.
_OF_ANOTHER_SESSION = ("SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_ORIGINAL_COMMAND")
NO_HUB = ServerEnvironment(False, disabled_because="This server was not started by a Hub that offers SSH.")
"""where nobody has said whether SSH is on"""


def take(environ: MutableMapping[str, str]) -> ServerEnvironment:
    """Takes all JHSSH_* out of ``environ``, so that no kernel or terminal gets them, and reads them."""
    taken = {name: environ.pop(name) for name in list(environ) if name.startswith(ENVIRONMENT_PREFIX)}
    try:
        found = ServerEnvironment.from_environ(taken)
    except ValueError:
        return ServerEnvironment(
            False, disabled_because="The Hub gave this server an SSH setup that it can't read. Tell your admin."
        )
    if found is None:
        return NO_HUB
    if not found.enabled:
        return found
    # A sidecar has its own copy of what only sshd needs.
    needed = [found.audience, found.secret]
    needed += [found.public_host_key] if found.sshd == SIDECAR else [found.host_key, found.user_ca_keys, found.principal]
    if not (all(needed) and 0 < found.listen_port < 65536):
        return ServerEnvironment(False, disabled_because="The Hub gave this server an incomplete SSH setup. Tell your admin.")
    return found


def sshd_address(given: ServerEnvironment) -> tuple[str, int]:
    """Where this server, or the containers of its pod, reach the sshd that the Hub ordered: host and port."""
    address = given.listen_address
    with contextlib.suppress(ValueError):
        if ip_address(address).is_unspecified:
            address = ""
    return address or "localhost", given.listen_port


def session_environment(environ: Mapping[str, str], server_root: str, server_url: str) -> dict[str, str]:
    """The environment of SSH sessions: the server's own, as in a JupyterLab terminal (its ``extra_env``)."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(ENVIRONMENT_PREFIX) and name not in _OF_ANOTHER_SESSION
    }
    return {**kept, "JUPYTER_SERVER_ROOT": server_root, "JUPYTER_SERVER_URL": server_url}


def public_host_key(private: str) -> PublicKey:
    """The public half of an unencrypted Ed25519 private key in OpenSSH's format (PROTOCOL.key).

    Raises ValueError or KeyRefused.
    """
    lines = private.strip().splitlines()
    if len(lines) < 3 or lines[0] != "-----BEGIN OPENSSH PRIVATE KEY-----" or lines[-1] != "-----END OPENSSH PRIVATE KEY-----":
        raise ValueError("the host key is not in OpenSSH's format")
    try:
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
        if not data.startswith(_MAGIC):
            raise ValueError("the host key is not in OpenSSH's format")
        fields, position = [], len(_MAGIC)
        for _ in range(3):  # ciphername, kdfname, kdfoptions
            (length,) = struct.unpack_from(">I", data, position)
            fields.append(data[position + 4 : position + 4 + length])
            position += 4 + length
        number, length = struct.unpack_from(">II", data, position)
    except (binascii.Error, struct.error):
        raise ValueError("the host key is cut short") from None
    if fields[0] != b"none" or number != 1:
        raise ValueError("the host key is encrypted")
    blob = data[position + 8 : position + 8 + length]
    return parse_line(f"{ED25519} {base64.b64encode(blob).decode('ascii')}")
