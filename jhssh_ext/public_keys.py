"""OpenSSH public keys, lines of authorized_keys (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"), parsed strictly; no crypto library.

Blobs: RFC 4253 section 6.6 (ssh-rsa), RFC 5656 section 3.1 (ecdsa), RFC 8709 section 4 (ed25519), OpenSSH's PROTOCOL.u2f (sk-).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import KeyMalformed, KeyPrivate, KeyRefused, KeyTypeUnsupported, KeyWeak
from .identifiers import printable

ED25519 = "ssh-ed25519"
RSA = "ssh-rsa"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
TYPES = (ED25519, "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", RSA, SK_ED25519, SK_ECDSA)

MAX_LINE = 8192
"""characters of one line: sshd(8) allows 8 kilobytes, "permits RSA keys up to 16 kilobits" """
MAX_TEXT = 65536
"""characters of one text offered with :func:`parse_lines`"""
MAX_COMMENT = 200
MIN_RSA_BITS = 2048
"""NIST SP 800-131A revision 2, section 3; OpenSSH itself still takes 1024"""
MAX_RSA_BITS = 16384
"""OpenSSH's SSHBUF_MAX_BIGNUM"""
MAX_RSA_EXPONENT_BITS = 64
"""OpenSSL's OPENSSL_RSA_MAX_PUBEXP_BITS"""
MAX_READ_KEYS = 500
MAX_READ_IGNORED = 100

# NIST SP 800-186, section 3.2.1: field prime and b of y² = x³ - 3x + b
_CURVES = {
    "nistp256": (2**256 - 2**224 + 2**192 + 2**96 - 1, 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B),
    "nistp384": (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
    "nistp521": (
        2**521 - 1,
        0x51953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E1 << 256
        | 0x56193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
    ),
}
_P25519 = 2**255 - 19
_D25519 = -121665 * pow(121666, -1, _P25519) % _P25519

# PEM and ssh.com headers or footers, PuTTY's first line or private part, the magic "openssh-key-v1\0" in base64
# (PROTOCOL.key) and a bare PKCS#8 Ed25519 key (RFC 8410): whatever part of the file was pasted.
_PRIVATE = re.compile(
    r"(?:BEGIN|END)\s{1,3}(?:[A-Z0-9]{1,20}\s{1,3}){0,3}PRIVATE\s{1,3}KEY|PuTTY-User-Key-File|Private-(?:Lines|MAC):"
    r"|SSH PRIVATE KEY FILE FORMAT"
    r"|b3BlbnNzaC1rZXktdjEA|MC4CAQAwBQYDK2VwBCIEI",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(r"-cert-v\d\d@openssh\.com$")
_KEY_TYPE = re.compile(r"^[a-z][a-z0-9@.-]*$")


@dataclass(frozen=True)
class PublicKey:
    """One public key; two are equal whatever their comments say."""

    type: str
    blob: bytes
    comment: str = field(default="", compare=False)

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest())
        return "SHA256:" + digest.rstrip(b"=").decode("ascii")

    @property
    def line(self) -> str:
        """The line of an authorized_keys file, with no newline."""
        return f"{self.bare_line} {self.comment}".rstrip(" ")

    @property
    def bare_line(self) -> str:
        """The line without its comment: the same for keys that are equal."""
        return f"{self.type} {base64.b64encode(self.blob).decode('ascii')}"


class Ignored(NamedTuple):
    """A line of an authorized_keys file that gives no key here."""

    line: int
    reason: str
    fingerprint: str | None


def parse_line(text: str, line: int = 1) -> PublicKey:
    """The key of one authorized_keys line without options. Raises a KeyRefused that names ``line``."""
    if _PRIVATE.search(text):
        raise KeyPrivate(line=line)
    if len(text) > MAX_LINE:
        raise KeyMalformed(f"This line is longer than {MAX_LINE} characters.", line=line)
    type_, blob, comment = _fields(text.strip(" \t\r\n"), line)
    try:
        return PublicKey(type_, _checked(type_, blob, line), " ".join(printable(comment, MAX_COMMENT).split()))
    except _Truncated:
        raise KeyMalformed("The key is cut short or has something after its end. Copy the whole line.", line=line) from None


def listed_key(text: str) -> PublicKey:
    """A key for comparing alone: its line's form is checked, not the key. Raises KeyRefused.

    What a user server lists is compared with a key that :func:`parse_line` took, so that points on no curve open nothing;
    checking them all would take a second of processor time for each answer.
    """
    if len(text) > MAX_LINE:
        raise KeyMalformed
    type_, blob, comment = _fields(text.strip(" \t\r\n"), 1)
    return PublicKey(type_, blob, printable(comment, MAX_COMMENT))


def parse_lines(text: str) -> list[PublicKey]:
    """All keys of a text that a user offers, each once; empty lines and # comments are skipped. All or nothing.

    Raises KeyRefused.
    """
    if _PRIVATE.search(text):
        raise KeyPrivate(line=0)
    if len(text) > MAX_TEXT:
        raise KeyMalformed(f"This text is longer than {MAX_TEXT} characters.")
    if "BEGIN SSH2 PUBLIC KEY" in text or "BEGIN PUBLIC KEY" in text or "BEGIN RSA PUBLIC KEY" in text:
        raise KeyMalformed("This public key is in another format. Convert it with: ssh-keygen -i -f FILE  (-m PKCS8 or PEM)")
    keys: dict[PublicKey, None] = {}
    for number, found in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if found.strip() and not found.lstrip(" \t").startswith("#"):
            keys.setdefault(parse_line(found, number))
    if not keys:
        raise KeyMalformed("There is no key in this text. Paste the one line of a file that ends in .pub.")
    return list(keys)


def read_authorized_keys(text: str) -> tuple[list[PublicKey], list[Ignored]]:
    """The keys of an authorized_keys file that others may have written, and which lines are ignored and why; never raises.

    A line with options is ignored: to take its key without them would open more than its writer meant.
    """
    keys: dict[PublicKey, None] = {}
    ignored: list[Ignored] = []
    for number, found in enumerate(text.split("\n"), start=1):
        stripped = found.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        if len(keys) >= MAX_READ_KEYS or len(ignored) >= MAX_READ_IGNORED:
            ignored.append(Ignored(number, "Too many lines: the rest of this file is not read.", None))
            break
        try:
            keys.setdefault(parse_line(stripped, number))
        except KeyRefused as refused:
            ignored.append(Ignored(number, refused.sentence, _fingerprint_behind_options(stripped)))
    return list(keys), ignored


class _Truncated(Exception):
    """The blob ends too early or too late."""


def _fields(text: str, line: int) -> tuple[str, bytes, str]:
    parts = re.split(r"[ \t]+", text, maxsplit=2)
    type_ = parts[0]
    if _CERTIFICATE.search(type_):
        raise KeyTypeUnsupported("This is a certificate, not a key. Paste the line of the .pub file it was made from.", line=line)
    if type_ == "ssh-dss":
        raise KeyTypeUnsupported("DSA keys (ssh-dss) are no longer safe. Make a new one with: ssh-keygen -t ed25519", line=line)
    if type_ not in TYPES:
        if _fingerprint_behind_options(text):
            raise KeyMalformed("The line has options before its key, which do not count here. Leave them out.", line=line)
        if len(parts) > 1 and _KEY_TYPE.match(type_) and parts[1].startswith("AAAA"):
            raise KeyTypeUnsupported(line=line)
        raise KeyMalformed(line=line)
    if len(parts) < 2:
        raise KeyMalformed("The key itself is missing after its type. Copy the whole line.", line=line)
    try:
        blob = base64.b64decode(parts[1].encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise KeyMalformed("The key is damaged (not base64). Copy the whole line, unbroken.", line=line) from None
    if base64.b64encode(blob).decode("ascii") != parts[1]:
        raise KeyMalformed("The key is damaged (not base64). Copy the whole line, unbroken.", line=line)
    return type_, blob, parts[2] if len(parts) > 2 else ""


def _checked(type_: str, blob: bytes, line: int) -> bytes:
    """``blob`` itself, after every field of it was looked at."""
    inner, rest = _string(blob)
    if inner != type_.encode("ascii"):
        raise KeyMalformed("The type before the key and the type within it differ.", line=line)
    if type_ == RSA:
        rest = _check_rsa(rest, line)
    elif type_ in (ED25519, SK_ED25519):
        point, rest = _string(rest)
        _check_ed25519(point, line)
    else:
        curve, rest = _string(rest)
        wanted = "nistp256" if type_ == SK_ECDSA else type_.removeprefix("ecdsa-sha2-")
        if curve != wanted.encode("ascii"):
            raise KeyMalformed("The curve within the key is not that of its type.", line=line)
        point, rest = _string(rest)
        _check_ecdsa(wanted, point, line)
    if type_ in (SK_ED25519, SK_ECDSA):  # PROTOCOL.u2f: "string application (user-specified, but typically "ssh:")"
        application, rest = _string(rest)
        if not re.fullmatch(rb"[\x20-\x7e]{1,255}", application):
            raise KeyMalformed("The application within the security key is not plain text.", line=line)
    if rest:
        raise _Truncated
    return blob


def _string(data: bytes) -> tuple[bytes, bytes]:
    """RFC 4251, section 5: string."""
    if len(data) < 4:
        raise _Truncated
    (length,) = struct.unpack(">I", data[:4])
    if length > len(data) - 4:
        raise _Truncated
    return data[4 : 4 + length], data[4 + length :]


def _positive(data: bytes, line: int) -> tuple[int, bytes]:
    """RFC 4251, section 5: mpint, here positive; "Unnecessary leading bytes … MUST NOT be included"."""
    raw, rest = _string(data)
    if not raw or raw[0] & 0x80 or (raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80)):
        raise KeyMalformed("A number within the key is not written as SSH writes it.", line=line)
    return int.from_bytes(raw, "big"), rest


def _check_rsa(data: bytes, line: int) -> bytes:
    exponent, data = _positive(data, line)
    modulus, data = _positive(data, line)
    bits = modulus.bit_length()
    if bits < MIN_RSA_BITS:
        raise KeyWeak(f"An RSA key of {bits} bits is too weak. Make a new one with: ssh-keygen -t ed25519", line=line)
    if bits > MAX_RSA_BITS:
        raise KeyMalformed(f"An RSA key of {bits} bits is too long: at most {MAX_RSA_BITS} are taken.", line=line)
    if exponent < 3 or not exponent & 1 or exponent.bit_length() > MAX_RSA_EXPONENT_BITS or not modulus & 1:
        raise KeyMalformed("The numbers within this RSA key are no RSA key.", line=line)
    return data


def _check_ed25519(encoded: bytes, line: int) -> None:
    """RFC 8032, section 5.1.3: decoding; RFC 7748, section 6.1: points of small order are no keys."""
    if len(encoded) != 32:
        raise _Truncated
    number = int.from_bytes(encoded, "little")
    y, sign, p = number & (2**255 - 1), number >> 255, _P25519
    u, v = (y * y - 1) % p, (_D25519 * y * y + 1) % p
    if y >= p or (u == 0 and sign) or (u and pow(u * v, (p - 1) // 2, p) != 1):
        raise KeyMalformed("The point within the key is not on its curve.", line=line)
    y_of_multiple = y
    for _ in range(3):  # after three doublings a point of order 1, 2, 4 or 8 is the neutral one, whose y is 1
        square = y_of_multiple * y_of_multiple % p
        x_square = (square - 1) * pow(_D25519 * square + 1, -1, p) % p
        y_of_multiple = (square + x_square) * pow(1 - _D25519 * x_square * square, -1, p) % p
    if y_of_multiple == 1:
        raise KeyWeak(line=line)


def _check_ecdsa(curve: str, encoded: bytes, line: int) -> None:
    """SEC 1, section 2.3.4, uncompressed points only, as OpenSSH (``sshbuf_get_ec``)."""
    p, b = _CURVES[curve]
    size = (p.bit_length() + 7) // 8
    if len(encoded) != 1 + 2 * size or encoded[0] != 4:
        raise KeyMalformed("The point within the key has the wrong length or form.", line=line)
    x, y = int.from_bytes(encoded[1 : 1 + size], "big"), int.from_bytes(encoded[1 + size :], "big")
    if x >= p or y >= p or (y * y - (x * x * x - 3 * x + b)) % p:
        raise KeyMalformed("The point within the key is not on its curve.", line=line)


def _fingerprint_behind_options(text: str) -> str | None:
    """The fingerprint of the key that follows options; None if there is none, or the line has no options."""
    quoted = escaped = False
    for position, character in enumerate(text[:MAX_LINE]):
        if character in " \t" and not quoted:
            try:
                return parse_line(text[position:].strip(" \t")).fingerprint if _starts_with_type(text[position:]) else None
            except KeyRefused:
                return None
        # auth-options.c, sshauthopt_parse: only \" is an escape
        quoted ^= character == '"' and not escaped
        escaped = character == "\\" and not escaped
    return None


def _starts_with_type(text: str) -> bool:
    parts = text.split(None, 1)
    return bool(parts) and parts[0] in TYPES
