from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest
from asyncssh.channel import SSHChannel

from jhssh_ext.singleuser.embedded_connection import CertificateAuthorities, Channel, Connection, RegisteredKeys

PRINCIPAL = "ab" * 32


@pytest.fixture(scope="module")
def ca() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def admits(ca: asyncssh.SSHKey, principals: list[str] | None, *, key: asyncssh.SSHKey | None = None, as_ca: bool = True) -> bool:
    return CertificateAuthorities([ca], PRINCIPAL).validate(key or ca, "host", "127.0.0.1", principals, as_ca) is not None


def test_the_one_principal_is_admitted(ca: asyncssh.SSHKey) -> None:
    assert admits(ca, [PRINCIPAL])


@pytest.mark.parametrize("principals", [None, [], ["*"], [PRINCIPAL[:-1] + "?"], [PRINCIPAL, PRINCIPAL], [PRINCIPAL, "x"], [""]])
def test_other_principals_are_not(ca: asyncssh.SSHKey, principals: list[str] | None) -> None:
    assert not admits(ca, principals)


def test_other_authorities_and_bare_keys_are_not(ca: asyncssh.SSHKey) -> None:
    assert not admits(ca, [PRINCIPAL], key=asyncssh.generate_private_key("ssh-ed25519"))
    assert not admits(ca, [PRINCIPAL], as_ca=False)
    assert CertificateAuthorities([ca], PRINCIPAL).validate_x509() == (None, None)


@pytest.mark.parametrize("principal", ["", PRINCIPAL])
def test_nobody_is_admitted_by_default(ca: asyncssh.SSHKey, principal: str) -> None:
    with pytest.raises(ValueError, match="no user CA or no principal"):
        CertificateAuthorities([] if principal else [ca], principal)


def test_registered_keys_are_read_anew_and_are_no_authorities(ca: asyncssh.SSHKey, tmp_path: Path) -> None:
    def admitted(**kwargs: bool) -> bool:
        return RegisteredKeys(path).validate(ca, "", "", **kwargs) is not None

    path = tmp_path / "keys"
    assert not admitted()
    line = ca.export_public_key().decode()
    path.write_text(f"ssh-ed25519\n\n{line}")
    assert admitted()
    assert not admitted(ca=True)
    path.write_text(line[:-8] + "\n")
    assert not admitted()
    assert RegisteredKeys(path).validate_x509() == (None, None)


def test_internals_of_asyncssh_that_are_relied_upon_exist() -> None:
    for name in ("send_userauth_failure", "create_server_channel", "attach_x11_listener", "_update_recv_pktlen"):
        assert callable(getattr(asyncssh.SSHServerConnection, name))
        assert name in vars(Connection) or name == "_update_recv_pktlen"
    for name in ("_process_exec_request", "_process_close", "_discard_recv", "_start_session"):
        assert callable(getattr(asyncssh.SSHServerChannel, name))
    assert SSHChannel._packet_handlers.keys() == Channel._packet_handlers.keys()
    assert sum(SSHChannel._packet_handlers[number] is not handler for number, handler in Channel._packet_handlers.items()) == 1
