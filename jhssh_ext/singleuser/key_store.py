"""The key store: ``~/.ssh/jhssh_authorized_keys``, written as a whole or not at all; and ``~/.ssh/authorized_keys``, only read.

Its form is that of authorized_keys (sshd(8)); when a key was added stands in a comment before its line.
What was written by hand stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..errors import KeyDuplicate, KeyElsewhere, KeyTooMany, KeyUnknown, StoreUnusable
from ..public_keys import PublicKey, parse_lines, read_authorized_keys

LOCK_TIMEOUT = 10.0
MAX_FILE = 128 << 10
"""bytes that are read of either file, so that what the gateway fetches stays under its bound of 1 MiB"""
_ADDED = re.compile(r"#\s*added (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)(?: from ([\w.:/-]{1,200}))?\s*", re.ASCII)


@dataclass(frozen=True)
class StoredKey:
    """A key that opens this server."""

    key: PublicKey
    added: str | None
    """ISO 8601, UTC; None for a line that was written by hand"""
    source: str
    """name of the file in ~/.ssh"""
    origin: str = ""
    """the account elsewhere that it was imported from, as ``github.com/alice``"""


@dataclass(frozen=True)
class IgnoredLine:
    """A line of a key file that opens nothing."""

    source: str
    line: int
    reason: str
    fingerprint: str | None


class KeyStore:
    """All methods block for as long as a disk takes; the lock is between processes and threads alike."""

    def __init__(self, path: Path, other: Path | None, *, max_keys: int) -> None:
        self._path, self._other, self._max_keys = path, other, max_keys
        self._in_this_process = threading.Lock()

    def read(self) -> tuple[list[StoredKey], list[IgnoredLine]]:
        """Each key once, those of the store first. Raises StoreUnusable."""
        keys: dict[PublicKey, StoredKey] = {}
        ignored: list[IgnoredLine] = []
        for path in (self._path, self._other):
            if path is not None:
                try:
                    data = self._data(path)
                except StoreUnusable as error:
                    if path is self._path:
                        raise
                    ignored.append(IgnoredLine(path.name, 0, error.sentence, None))
                    continue
                text = data[:MAX_FILE].decode("utf-8", "surrogateescape")
                if len(data) > MAX_FILE:
                    ignored.append(IgnoredLine(path.name, 0, "This file is too large: only its first 128 KiB are read.", None))
                found, left_out = read_authorized_keys(text)
                added = _added(text) if path is self._path else {}
                for key in found:
                    when, origin = added.get(key.blob, (None, ""))
                    keys.setdefault(key, StoredKey(key, when, path.name, origin))
                ignored += [IgnoredLine(path.name, *line) for line in left_out]
        return list(keys.values()), ignored

    def add(self, text: str, origin: str = "") -> list[StoredKey]:
        """Adds those keys of ``text`` that are new; all or nothing. Raises KeyRefused, StoreUnusable.

        ``origin``, as of :class:`StoredKey`: a host and a user name that were checked.
        """
        offered = parse_lines(text)
        with self._locked():
            known = self.read()[0]
            new = [key for key in offered if key not in [stored.key for stored in known]]
            if not new:
                raise KeyDuplicate
            if len(new) + sum(stored.source == self._path.name for stored in known) > self._max_keys:
                raise KeyTooMany(f"At most {self._max_keys} keys can be registered. Remove one that you no longer use.")
            now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            before = self._text()
            if before and not before.endswith("\n"):
                before += "\n"
            note = f"# added {now} from {origin}" if origin else f"# added {now}"
            after = before + "".join(f"{note}\n{key.line}\n" for key in new)
            if len(after.encode("utf-8", "surrogateescape")) > MAX_FILE:
                raise KeyTooMany
            self._replace(after)
        return [StoredKey(key, now, self._path.name, origin) for key in new]

    def remove(self, fingerprint: str) -> None:
        """Raises KeyUnknown, KeyElsewhere, StoreUnusable."""
        with self._locked():
            kept: list[str] = []
            removed = False
            for line in re.split(r"(?<=\n)", self._text()):
                if fingerprint in (key.fingerprint for key in read_authorized_keys(line)[0]):
                    removed = True
                    if kept and _ADDED.fullmatch(kept[-1]):
                        kept.pop()
                else:
                    kept.append(line)
            if not removed:
                if any(stored.key.fingerprint == fingerprint for stored in self.read()[0]):
                    raise KeyElsewhere
                raise KeyUnknown("This key is not registered here.")
            self._replace("".join(kept))

    def state(self) -> tuple[object, ...]:
        """Differs from an earlier one when a file was changed, made or removed."""
        return tuple(_identity(path) for path in (self._path, self._other) if path is not None)

    def _text(self) -> str:
        data = self._data(self._path)
        if len(data) > MAX_FILE:
            raise StoreUnusable(f"{self._path} is larger than 128 KiB. Remove what is not a key.")
        return data.decode("utf-8", "surrogateescape")

    def _data(self, path: Path) -> bytes:
        """At most one byte more than MAX_FILE."""
        try:
            # O_NONBLOCK: a named pipe in its place must not hold us up
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreUnusable(f"{path} can't be read: {error.strerror}.") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreUnusable(f"{path} is not a file.")
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_FILE + 1)

    def _replace(self, text: str) -> None:
        """On the disk before it counts (fsync), and then at one stroke (rename). A symbolic link is replaced, never followed."""
        temporary = None
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)  # mode 0600
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(self._path)
            temporary = None
        except OSError as error:
            raise StoreUnusable(f"The key store can't be written: {error.strerror}. Nothing was changed.") from None
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the change counts already; without this a power cut may undo it
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, in all processes of this account; where a file system has no locks, in this one."""
        if not self._in_this_process.acquire(timeout=LOCK_TIMEOUT):
            raise StoreUnusable("The key store is being changed by somebody else. Try again.")
        try:
            descriptor = self._open_lock()
            try:
                _lock(descriptor)
                yield
            finally:
                os.close(descriptor)
        finally:
            self._in_this_process.release()

    def _open_lock(self) -> int:
        folder = self._path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
            if status.st_mode & 0o077 and status.st_uid == os.getuid():
                folder.chmod(stat.S_IMODE(status.st_mode) & 0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            return os.open(folder / f".{self._path.name}.lock", flags, 0o600)
        except OSError as error:
            raise StoreUnusable(f"The folder {folder} can't be written: {error.strerror}. Nothing was changed.") from None


def _lock(descriptor: int) -> None:
    """Raises StoreUnusable when another process keeps the lock for too long. Released when the descriptor is closed."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreUnusable("The key store is being changed by somebody else. Try again.") from None
            time.sleep(0.01)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # NFS without locks
                return
            raise StoreUnusable(f"The key store can't be locked: {error.strerror}. Nothing was changed.") from None
        else:
            return


def _added(text: str) -> dict[bytes, tuple[str, str]]:
    """When each key was added and where it came from, by its blob, from the comments before the lines."""
    found: dict[bytes, tuple[str, str]] = {}
    lines = text.split("\n")
    for before, line in itertools.pairwise(lines):
        matched = _ADDED.fullmatch(before.strip())
        if matched:
            for key in read_authorized_keys(line)[0]:
                found.setdefault(key.blob, (matched[1], matched[2] or ""))
    return found


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
