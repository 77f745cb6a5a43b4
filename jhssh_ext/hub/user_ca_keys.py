"""The public halves of the gateway's user CAs, as an admin gives them to the Hub; several, so that they can be rotated."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

MAX_FILE = 64 * 1024
_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


class UserCAKeysRefused(ValueError):
    """What was given as the user CA's public keys is something else; the message is for the admin and shows no key."""


def read_file(path: Path) -> str:
    """The text of a file of public keys, read at each start of a server, so that a rotation needs no restart of the Hub."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UserCAKeysRefused(f"{path} can't be read: {error.strerror}") from None
    if len(content) > MAX_FILE:
        raise UserCAKeysRefused(f"{path} is no file of public keys: it has more than {MAX_FILE} bytes")
    return content.decode("utf-8", "replace")


def parse(text: str, source: str) -> tuple[str, ...]:
    """The keys in ``text``, one OpenSSH line each, ``#`` lines and comments left out. ``source`` names it in the error."""
    if "PRIVATE KEY-----" in text:
        raise UserCAKeysRefused(
            f"{source} holds a private key. The Hub must never have it: give the file that ends in .pub, take this one away, "
            "and make a new user CA if others could read it"
        )
    return tuple(_key(line, source, number) for number, line in enumerate(text.splitlines(), 1) if _counts(line))


def unique(keys: Iterable[str]) -> tuple[str, ...]:
    """The keys without repetitions, in their order."""
    return tuple(dict.fromkeys(keys))


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _key(line: str, source: str, number: int) -> str:
    fields = line.split()
    if len(fields) < 2 or fields[0] not in _TYPES:
        raise UserCAKeysRefused(f"line {number} of {source} is not an OpenSSH public key")
    key = f"{fields[0]} {fields[1]}"
    try:
        load_ssh_public_key(key.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        raise UserCAKeysRefused(f"line {number} of {source} is not a whole OpenSSH public key") from None
    return key
