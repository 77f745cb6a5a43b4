"""The text of an sshd_config (sshd_config(5)) for OpenSSH's sshd of one user server. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

SFTP_COMMAND = "internal-sftp"
"""what SSH_ORIGINAL_COMMAND says when a client asks for the sftp subsystem: the forced command starts the sftp-server itself"""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"\\]")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")


class UnsafeValue(ValueError):
    """A value that sshd_config(5) has no sure way to quote."""


@dataclass(frozen=True)
class SSHDConfig:
    """Paths are absolute. Everything that is not here is the same for every user server."""

    host_key: str
    """path of the private host key"""
    forced_command: str
    """shell command that every session becomes; the caller quotes it for a shell"""
    account: str
    """the one account that may log in"""
    version: tuple[int, int]
    """of the sshd that will read it, as (9, 2)"""
    user_ca_keys: str = ""
    """path of the public keys of the CAs whose certificates are taken"""
    principals: str = ""
    """path of the file with the one principal"""
    authorized_keys: str = ""
    """in place of those two: path of the file with the user's own keys"""
    sftp: bool = True
    xauth: str = ""
    """path of xauth; empty: where sshd was built to look for it"""


def sshd_config(config: SSHDConfig) -> str:
    """Raises UnsafeValue where a value could end a line or an argument early."""
    if not _ACCOUNT.fullmatch(config.account):  # AllowUsers takes patterns
        raise UnsafeValue(f"the account name {config.account!r} cannot stand in an sshd_config")
    if re.search(r"[\x00-\x1f\x7f]", config.forced_command):
        raise UnsafeValue("the forced command holds a control character")
    lines = [
        "# Written by jhssh at each start: changes here are lost.",
        f"HostKey {_path(config.host_key)}",
        "HostKeyAlgorithms ssh-ed25519",
        f"AllowUsers {config.account}",
        *_who_gets_in(config),
        "AuthenticationMethods publickey",
        "PubkeyAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "HostbasedAuthentication no",
        "PermitEmptyPasswords no",
        "PermitRootLogin prohibit-password",
        # Files lie in a folder that only this account can enter; homes on network file systems often fail the check.
        "StrictModes no",
        "MaxAuthTries 3",
        "LoginGraceTime 30",
        "UseDNS no",
        # What a session is: the forced command's business alone.
        f"ForceCommand {config.forced_command}",
        "PermitUserRC no",
        "PermitUserEnvironment no",
        "PermitTTY yes",
        "PrintMotd no",
        "PrintLastLog no",
        "Banner none",
        "AcceptEnv LANG LC_* COLORTERM TERM_PROGRAM*",
        "MaxSessions 100",
        # Whoever is in is the user, in the user's own server: forwarding gives nothing that a shell does not.
        "AllowTcpForwarding yes",
        "AllowStreamLocalForwarding yes",
        "StreamLocalBindUnlink yes",
        "AllowAgentForwarding yes",
        "X11Forwarding yes",
        "X11UseLocalhost yes",
        "GatewayPorts clientspecified",
        "PermitTunnel no",
        "TCPKeepAlive yes",
        "ClientAliveInterval 60",
        "ClientAliveCountMax 3",
        "PidFile none",
        "LogLevel INFO",
    ]
    if config.version >= (7, 8):
        # The shell that runs the forced command is none of the user's: bash reads ~/.bashrc for sshd only where it is the
        # first shell (bash(1), INVOCATION), and what a user has there would hold up each session, or garble sftp.
        lines.append("SetEnv SHLVL=1")
    if config.sftp:
        lines.append(f"Subsystem sftp {SFTP_COMMAND}")
    if config.xauth:
        lines.append(f"XAuthLocation {_path(config.xauth)}")
    if config.version >= (9, 8):
        # All users of the gateway come from one address: one who fails must not ban the others.
        lines.append("PerSourcePenalties no")
    return "\n".join(lines) + "\n"


def _who_gets_in(config: SSHDConfig) -> list[str]:
    """Certificates of the gateway's CAs that name this server, or the user's own keys: never both."""
    if config.authorized_keys:
        if config.user_ca_keys or config.principals:
            raise ValueError("either certificates or keys")
        return ["TrustedUserCAKeys none", f"AuthorizedKeysFile {_path(config.authorized_keys).replace('%', '%%')}"]
    return [
        f"TrustedUserCAKeys {_path(config.user_ca_keys)}",
        f"AuthorizedPrincipalsFile {_path(config.principals).replace('%', '%%')}",
        "AuthorizedKeysFile none",
    ]


def _path(path: str) -> str:
    """As one argument: sshd_config(5) allows double quotes around those that contain spaces."""
    if not path.startswith("/") or _UNSAFE.search(path):
        raise UnsafeValue(f"the path {path!r} cannot stand in an sshd_config")
    return f'"{path}"'
