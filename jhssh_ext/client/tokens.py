"""Where tokens are kept: the system's keyring where there is one that works, else a file that only its owner can read."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from . import hubs

SERVICE = "jhssh"
PATIENCE = 60.0
"""seconds in which a keyring may be unlocked"""

T = TypeVar("T")


def tokens_file() -> Path:
    return hubs.folder() / "tokens.json"


def store(key: str, token: str) -> str:
    """Keeps ``token`` under ``key``, and says where: ``keyring`` or the file's path."""

    def kept(keyring: ModuleType) -> bool:
        keyring.set_password(SERVICE, key, token)
        return bool(keyring.get_password(SERVICE, key) == token)

    if _in_keyring(kept):
        _forget_in_file(key)
        return "keyring"
    hubs.write_private(tokens_file(), json.dumps({**hubs.read_json(tokens_file()), key: token}, indent=1) + "\n")
    return str(tokens_file())


def load(key: str) -> str:
    """The token, or the empty string. The file is looked at first: no keyring is started where there is no need."""
    found = hubs.read_json(tokens_file()).get(key)
    if isinstance(found, str):
        return found
    return str(_in_keyring(lambda keyring: keyring.get_password(SERVICE, key)) or "")


def forget(key: str) -> None:
    _forget_in_file(key)
    _in_keyring(lambda keyring: keyring.delete_password(SERVICE, key))


def _in_keyring(act: Callable[[ModuleType], T]) -> T | None:
    """None where there is none, or it fails (backends raise whatever they like), or waits: for a user who may be elsewhere."""
    found: list[T] = []

    def run() -> None:
        with contextlib.suppress(Exception):
            keyring = _keyring()
            if keyring is not None:
                found.append(act(keyring))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        sys.stderr.write(f"The system's keyring did not answer within {PATIENCE:.0f} seconds.\n")
    return found[0] if found else None


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
