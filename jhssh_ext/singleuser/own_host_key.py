"""The host key of the sshd that a user's own tunnel leads to: made once, and kept under the home, so that clients can pin it."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from ..errors import KeyRefused
from .environment import public_host_key

MAX_FILE = 16 << 10


class HostKeyUnusable(Exception):
    """Why there is none: a sentence."""


def own_host_key(path: Path) -> str:
    """The private key, Ed25519 in OpenSSH's format; made where there is no such file. Raises HostKeyUnusable."""
    try:
        text = _read(path)
        if text is None:
            _make(path)
            text = _read(path) or ""
    except OSError as error:
        raise HostKeyUnusable(f"The host key {path} can't be kept: {error.strerror}.") from None
    try:
        public_host_key(text)
    except (ValueError, KeyRefused) as error:
        raise HostKeyUnusable(f"{path} can't be used: {error}. Remove it, and a new one is made.") from None
    return text


def _read(path: Path) -> str | None:
    """None where there is no such file. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe must not hold us up
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return ""
        if status.st_mode & 0o077:
            with contextlib.suppress(OSError):  # not all file systems have modes
                os.fchmod(descriptor, 0o600)
        return file.read(MAX_FILE).decode("ascii", "replace")


def _make(path: Path) -> None:
    """As a whole or not at all. All servers of a user share the home: the key that was there first stays. Raises OSError."""
    # Here, as servers without a tunnel do without it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                os.replace(temporary, path)  # noqa: PTH105 - beside os.link
    finally:
        Path(temporary).unlink(missing_ok=True)
