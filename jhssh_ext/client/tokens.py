"""Where tokens are kept: the system's keyring where there is one that works, else a file that only its owner can read."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType

from . import hubs

SERVICE = "jhssh"


def tokens_file() -> Path:
    return hubs.folder() / "tokens.json"


def store(key: str, token: str) -> str:
    """Keeps ``token`` under ``key``, and says where: ``keyring`` or the file's path."""
    keyring = _keyring()
    if keyring is not None:
        with contextlib.suppress(Exception):  # backends raise whatever they like; the file always works
            keyring.set_password(SERVICE, key, token)
            if keyring.get_password(SERVICE, key) == token:
                _forget_in_file(key)
                return "keyring"
    hubs.write_private(tokens_file(), json.dumps({**hubs.read_json(tokens_file()), key: token}, indent=1) + "\n")
    return str(tokens_file())


def load(key: str) -> str:
    """The token, or the empty string. The file is looked at first: no keyring is started where there is no need."""
    found = hubs.read_json(tokens_file()).get(key)
    if isinstance(found, str):
        return found
    keyring = _keyring()
    if keyring is not None:
        with contextlib.suppress(Exception):  # as above
            return str(keyring.get_password(SERVICE, key) or "")
    return ""


def forget(key: str) -> None:
    _forget_in_file(key)
    keyring = _keyring()
    if keyring is not None:
        with contextlib.suppress(Exception):  # as above; also where there is none
            keyring.delete_password(SERVICE, key)


def _forget_in_file(key: str) -> None:
    kept = hubs.read_json(tokens_file())
    if kept.pop(key, None) is not None:
        hubs.write_private(tokens_file(), json.dumps(kept, indent=1) + "\n")


def _keyring() -> ModuleType | None:
    """None where there is none, or none that could answer: on Linux it needs the desktop's session bus, else it waits for it."""
    chosen = "PYTHON_KEYRING_BACKEND" in os.environ
    if sys.platform not in ("win32", "darwin") and not chosen and "DBUS_SESSION_BUS_ADDRESS" not in os.environ:
        return None
    try:
        import keyring
        import keyring.backends.fail

        backend = keyring.get_keyring()
    except Exception:  # noqa: BLE001  not installed, or a backend that cannot be loaded
        return None
    return None if isinstance(backend, keyring.backends.fail.Keyring) else keyring
