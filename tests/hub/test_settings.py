from __future__ import annotations

from pathlib import Path

import pytest

from jhssh_ext.hub import SSHSpawnerMixin

SETTINGS = sorted(SSHSpawnerMixin.class_trait_names(config=True))
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/spawners.md"


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_help_and_stands_in_the_document(name: str) -> None:
    assert SSHSpawnerMixin.class_traits()[name].help.strip()
    assert f"`{name}`" in DOCUMENT.read_text()


def test_by_default_nobody_gets_ssh_unasked() -> None:
    defaults = {name: SSHSpawnerMixin.class_traits()[name].default_value for name in SETTINGS}
    assert defaults["ssh_policy"] == "optional"
    assert defaults["ssh_default"] is defaults["ssh_ask_without_form"] is False
    assert defaults["ssh_listen_address"] == "127.0.0.1"
