from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jhssh_ext.sshd_config import SFTP_COMMAND, SSHDConfig, UnsafeValue, sshd_config

CONFIG = SSHDConfig(
    host_key="/run/x/host_key",
    user_ca_keys="/run/x/user_ca_keys",
    principals="/run/x/principals",
    forced_command="exec /usr/bin/python3 -IS /x/session.py /run/x/session.json",
    account="alice",
    version=(9, 2),
)


def test_lets_in_certificates_of_the_gateway_alone() -> None:
    lines = sshd_config(CONFIG).splitlines()
    for line in (
        'HostKey "/run/x/host_key"',
        'TrustedUserCAKeys "/run/x/user_ca_keys"',
        'AuthorizedPrincipalsFile "/run/x/principals"',
        "AuthorizedKeysFile none",
        "AuthenticationMethods publickey",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "AllowUsers alice",
        "ForceCommand exec /usr/bin/python3 -IS /x/session.py /run/x/session.json",
        "PermitUserRC no",
        "PermitUserEnvironment no",
        "PermitRootLogin prohibit-password",
    ):
        assert line in lines


def test_lets_in_keys_of_the_users_own_in_their_place() -> None:
    own = replace(CONFIG, user_ca_keys="", principals="", authorized_keys="/run/%x/keys")
    lines = sshd_config(own).splitlines()
    assert "TrustedUserCAKeys none" in lines
    assert 'AuthorizedKeysFile "/run/%%x/keys"' in lines
    assert not [line for line in lines if line.startswith("AuthorizedPrincipalsFile")]
    assert set(sshd_config(CONFIG).splitlines()) - set(lines) == {
        'TrustedUserCAKeys "/run/x/user_ca_keys"',
        'AuthorizedPrincipalsFile "/run/x/principals"',
        "AuthorizedKeysFile none",
    }
    with pytest.raises(ValueError, match="either"):
        sshd_config(replace(CONFIG, authorized_keys="/run/x/keys"))


def test_what_depends_on_the_version_and_on_settings() -> None:
    assert "PerSourcePenalties" not in sshd_config(CONFIG)
    assert "PerSourcePenalties no" in sshd_config(replace(CONFIG, version=(9, 8)))
    assert "PerSourcePenalties no" in sshd_config(replace(CONFIG, version=(10, 0)))
    assert "SetEnv SHLVL=1" in sshd_config(CONFIG)
    assert "SetEnv" not in sshd_config(replace(CONFIG, version=(7, 7)))
    assert f"Subsystem sftp {SFTP_COMMAND}" in sshd_config(CONFIG)
    assert "Subsystem" not in sshd_config(replace(CONFIG, sftp=False))
    assert 'XAuthLocation "/opt/x/xauth"' in sshd_config(replace(CONFIG, xauth="/opt/x/xauth"))


def test_percent_signs_stay_what_they_are() -> None:
    assert 'AuthorizedPrincipalsFile "/run/%%h/principals"' in sshd_config(replace(CONFIG, principals="/run/%h/principals"))


@pytest.mark.parametrize(
    "changes",
    [
        {"host_key": "relative"},
        {"host_key": '/run/"x'},
        {"user_ca_keys": "/run/x\nPermitRootLogin yes"},
        {"principals": "/run/x\\"},
        {"xauth": "/x\0"},
        {"forced_command": "exec x\nPermitRootLogin yes"},
        {"account": "*"},
        {"account": "a b"},
        {"account": "a\nPermitRootLogin yes"},
        {"account": ""},
        {"account": "!alice"},
    ],
)
def test_values_that_could_say_more_than_they_should_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(UnsafeValue):
        sshd_config(replace(CONFIG, **changes))  # type: ignore[arg-type]


def test_openssh_takes_it_with_spaces_in_its_paths(tmp_path: Path) -> None:
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if sshd is None:
        pytest.skip("needs OpenSSH's sshd (openssh-server)")
    folder = tmp_path / "a b"
    folder.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key"], check=True)
    (folder / "user_ca_keys").write_text((folder / "host_key.pub").read_text())
    text = sshd_config(
        replace(
            CONFIG,
            host_key=str(folder / "host_key"),
            user_ca_keys=str(folder / "user_ca_keys"),
            principals=str(folder / "principals"),
        )
    )
    (folder / "sshd_config").write_text(text)
    shown = subprocess.run([sshd, "-T", "-f", folder / "sshd_config"], capture_output=True, text=True, check=False)
    if "privilege separation" in shown.stderr:
        pytest.skip("needs /run/sshd, which root makes")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert f"authorizedprincipalsfile {folder}/principals" in shown.stdout
    assert "authenticationmethods publickey" in shown.stdout
