from __future__ import annotations

import base64
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from jhssh_ext import errors
from jhssh_ext.public_keys import TYPES, PublicKey, listed_key, parse_line, parse_lines, read_authorized_keys

P25519 = 2**255 - 19
KINDS = {
    "ssh-ed25519": ["-t", "ed25519"],
    "ecdsa-sha2-nistp256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-sha2-nistp384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-sha2-nistp521": ["-t", "ecdsa", "-b", "521"],
    "ssh-rsa": ["-t", "rsa", "-b", "2048"],
}


def packed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def line_of(type_: str, blob: bytes, comment: str = "") -> str:
    return f"{type_} {base64.b64encode(blob).decode()} {comment}".rstrip()


def mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (openssh-client)")
    folder = tmp_path_factory.mktemp("keys")
    for name, arguments in KINDS.items():
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "me@laptop", *arguments, "-f", folder / name], check=True)
    return {name: folder / name for name in KINDS}


ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFhmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm"
ED25519_POINT = base64.b64decode(ED25519.split()[1])[-32:]
P256_POINT = bytes.fromhex(  # the base point, NIST SP 800-186
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
SK_ED25519 = line_of("sk-ssh-ed25519@openssh.com", packed(b"sk-ssh-ed25519@openssh.com", ED25519_POINT, b"ssh:"), "yubikey")
SK_ECDSA = line_of(
    "sk-ecdsa-sha2-nistp256@openssh.com", packed(b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", P256_POINT, b"ssh:work")
)


@pytest.mark.parametrize("name", KINDS)
def test_takes_what_ssh_keygen_makes_and_shows_its_fingerprint(generated: dict[str, Path], name: str) -> None:
    public = generated[name].with_suffix(".pub")
    key = parse_line(public.read_text())
    shown = subprocess.run(["ssh-keygen", "-l", "-f", public], check=True, capture_output=True, text=True).stdout
    assert key.type == name
    assert key.fingerprint == shown.split()[1]
    assert key.line == public.read_text().strip()
    assert key.comment == "me@laptop"


@pytest.mark.parametrize("line", [SK_ED25519, SK_ECDSA])
def test_takes_security_keys(line: str) -> None:
    key = parse_line(line)
    assert key.type.startswith("sk-")
    assert key.line == line


def test_every_type_is_covered_here() -> None:
    assert {*KINDS, *(parse_line(line).type for line in (SK_ED25519, SK_ECDSA))} == set(TYPES)


def test_the_bare_line_is_the_same_whatever_the_comment() -> None:
    one = parse_line(ED25519 + " at home")
    assert one.bare_line == parse_line(ED25519).line
    assert one.line == one.bare_line + " at home"


def test_keys_are_equal_whatever_the_comment() -> None:
    one, other = parse_line(ED25519 + " at home"), parse_line(ED25519 + "\tat work  ")
    assert one == other
    assert len({one, other}) == 1
    assert (one.comment, other.comment) == ("at home", "at work")
    assert one != parse_line(SK_ED25519)


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        ("\x1b[31mred\x07\x00", "[31mred"),
        ("a\u202eb\u2028c", "a b c"),
        ("\ud800é日本", "é日本"),
        ("x" * 5000, "x" * 199 + "…"),
    ],
)
def test_comments_become_printable_and_short(comment: str, kept: str) -> None:
    assert parse_line(f"{ED25519} {comment}").comment == kept


def test_private_keys_are_known_wherever_they_stand(generated: dict[str, Path]) -> None:
    openssh = generated["ssh-ed25519"].read_text()
    body = openssh.splitlines()[1]
    texts = [
        openssh,
        ED25519 + "\n\n" + openssh,
        body,
        f"ssh-ed25519 {body}",
        openssh.replace("\n", " "),
        "-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/5",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none",
        "Private-Lines: 1\nAAAA",
        "MC4CAQAwBQYDK2VwBCIEIAAAAAAA",
        "x" * 100_000 + "-----BEGIN PRIVATE KEY-----",
    ]
    for text in texts:
        with pytest.raises(errors.KeyPrivate) as caught:
            parse_lines(text)
        assert body[40:] not in f"{caught.value!r} {caught.value} {caught.value.sentence} {caught.value.explanation}"


def test_search_for_private_keys_is_linear() -> None:
    with pytest.raises(errors.KeyMalformed):
        parse_lines("BEGIN " * 200_000)


def sk(application: bytes) -> bytes:
    return packed(b"sk-ssh-ed25519@openssh.com", ED25519_POINT, application)


def ed25519(point: bytes) -> str:
    return line_of("ssh-ed25519", packed(b"ssh-ed25519", point))


def rsa(exponent: bytes, modulus: bytes) -> str:
    return line_of("ssh-rsa", packed(b"ssh-rsa", exponent, modulus))


GOOD_MODULUS = mpint(2**2047 + 1)

REFUSED = {
    "empty": ("", errors.KeyMalformed),
    "type alone": ("ssh-ed25519", errors.KeyMalformed),
    "not base64": ("ssh-ed25519 AAAA!AAA", errors.KeyMalformed),
    "not ASCII": ("ssh-ed25519 ÀÀÀÀ", errors.KeyMalformed),
    "unpadded": (ed25519(ED25519_POINT[:-1]).rstrip("="), errors.KeyMalformed),
    "spare bits in base64": ("ssh-ed25519 " + base64.b64encode(b"\0").decode()[:1] + "B==", errors.KeyMalformed),
    "truncated": (line_of("ssh-ed25519", base64.b64decode(ED25519.split()[1])[:-1]), errors.KeyMalformed),
    "something after": (line_of("ssh-ed25519", base64.b64decode(ED25519.split()[1]) + b"\0"), errors.KeyMalformed),
    "length over the end": (line_of("ssh-ed25519", b"\xff\xff\xff\xffssh-ed25519"), errors.KeyMalformed),
    "no length": (line_of("ssh-ed25519", b"\0\0"), errors.KeyMalformed),
    "other type inside": (line_of("ssh-rsa", base64.b64decode(ED25519.split()[1])), errors.KeyMalformed),
    "short ed25519": (ed25519(ED25519_POINT[:-1]), errors.KeyMalformed),
    "ed25519 off the curve": (ed25519((2).to_bytes(32, "little")), errors.KeyMalformed),
    "ed25519 not reduced": (ed25519((P25519 + 3).to_bytes(32, "little")), errors.KeyMalformed),
    "ed25519 minus zero": (ed25519((1 | 1 << 255).to_bytes(32, "little")), errors.KeyMalformed),
    "ed25519 neutral": (ed25519((1).to_bytes(32, "little")), errors.KeyWeak),
    "ed25519 of order 2": (ed25519((P25519 - 1).to_bytes(32, "little")), errors.KeyWeak),
    "ed25519 of order 4": (ed25519(bytes(32)), errors.KeyWeak),
    "ed25519 of order 8": (
        ed25519(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        errors.KeyWeak,
    ),
    "rsa of 1024 bits": (rsa(b"\x01\x00\x01", mpint(2**1023 + 1)), errors.KeyWeak),
    "rsa of 2047 bits": (rsa(b"\x01\x00\x01", mpint(2**2046 + 1)), errors.KeyWeak),
    "rsa of 16385 bits": (rsa(b"\x01\x00\x01", mpint(2**16384 + 1)), errors.KeyMalformed),
    "rsa with e = 1": (rsa(b"\x01", GOOD_MODULUS), errors.KeyMalformed),
    "rsa with even e": (rsa(b"\x04", GOOD_MODULUS), errors.KeyMalformed),
    "rsa with huge e": (rsa(mpint(2**65 + 1), GOOD_MODULUS), errors.KeyMalformed),
    "rsa with even n": (rsa(b"\x03", mpint(2**2047)), errors.KeyMalformed),
    "rsa with negative n": (rsa(b"\x03", GOOD_MODULUS[1:]), errors.KeyMalformed),
    "rsa with spare zeroes": (rsa(b"\x03", b"\0" + GOOD_MODULUS), errors.KeyMalformed),
    "rsa with e = 0": (rsa(b"", GOOD_MODULUS), errors.KeyMalformed),
    "ecdsa of another curve": (
        line_of("ecdsa-sha2-nistp384", packed(b"ecdsa-sha2-nistp384", b"nistp256", P256_POINT)),
        errors.KeyMalformed,
    ),
    "ecdsa off the curve": (
        line_of("ecdsa-sha2-nistp256", packed(b"ecdsa-sha2-nistp256", b"nistp256", P256_POINT[:-1] + b"\0")),
        errors.KeyMalformed,
    ),
    "ecdsa compressed": (
        line_of("ecdsa-sha2-nistp256", packed(b"ecdsa-sha2-nistp256", b"nistp256", b"\x03" + P256_POINT[1:33])),
        errors.KeyMalformed,
    ),
    "sk with newline in application": (line_of("sk-ssh-ed25519@openssh.com", sk(b"ssh:\nx")), errors.KeyMalformed),
    "sk without application": (line_of("sk-ssh-ed25519@openssh.com", sk(b"")), errors.KeyMalformed),
    "certificate": ("ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5", errors.KeyTypeUnsupported),
    "dsa": ("ssh-dss AAAAB3NzaC1kc3M=", errors.KeyTypeUnsupported),
    "unknown type": ("ssh-ed448 AAAACXNzaC1lZDQ0OA==", errors.KeyTypeUnsupported),
    "options": ('from="10.0.0.1",command="echo \\"hi\\" there" ' + ED25519, errors.KeyMalformed),
    "too long": (ED25519 + " " + "x" * 9000, errors.KeyMalformed),
    "prose": ("hello there AAAA", errors.KeyMalformed),
    "binary": ("\x00\x01\x02\xff", errors.KeyMalformed),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    line, kind = REFUSED[name]
    with pytest.raises(kind) as caught:
        parse_line(line, 7)
    assert caught.value.line == 7
    assert caught.value.sentence


@pytest.mark.parametrize("name", ["certificate", "dsa", "options"])
def test_says_why_by_name(name: str) -> None:
    with pytest.raises(errors.KeyRefused) as caught:
        parse_line(REFUSED[name][0])
    assert {"certificate": "certificate", "dsa": "DSA", "options": "options"}[name] in caught.value.sentence


def test_a_real_certificate_is_refused(generated: dict[str, Path], tmp_path: Path) -> None:
    public = tmp_path / "user.pub"
    public.write_text(generated["ssh-rsa"].with_suffix(".pub").read_text())
    subprocess.run(["ssh-keygen", "-q", "-s", generated["ssh-ed25519"], "-I", "id", "-n", "me", public], check=True)
    with pytest.raises(errors.KeyTypeUnsupported):
        parse_line((tmp_path / "user-cert.pub").read_text())


def test_parse_lines_takes_several_once_each_and_skips_comments() -> None:
    keys = parse_lines(f"# mine\r\n{ED25519} one\r\n\r\n{SK_ED25519}\n  # more\n{ED25519} two\n")
    assert keys == [parse_line(ED25519), parse_line(SK_ED25519)]
    assert keys[0].comment == "one"


def test_parse_lines_is_all_or_nothing_and_names_the_line() -> None:
    with pytest.raises(errors.KeyWeak) as caught:
        parse_lines(f"{ED25519}\n\n{REFUSED['rsa of 1024 bits'][0]}\n")
    assert caught.value.line == 3


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment", "y" * 70_000, "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA"])
def test_parse_lines_refuses_texts_without_a_key(text: str) -> None:
    with pytest.raises(errors.KeyMalformed) as caught:
        parse_lines(text)
    assert caught.value.line in (0, 1)


def test_read_authorized_keys_keeps_what_is_good_and_says_what_is_not() -> None:
    key = parse_line(ED25519)
    keys, ignored = read_authorized_keys(
        f"# a comment\n{ED25519} me\r\n\nno-pty {SK_ED25519}\nrubbish\n{REFUSED['rsa of 1024 bits'][0]}\n{SK_ECDSA}\n"
    )
    assert keys == [key, parse_line(SK_ECDSA)]
    assert [(line, fingerprint) for line, _, fingerprint in ignored] == [
        (4, parse_line(SK_ED25519).fingerprint),
        (5, None),
        (6, None),
    ]
    assert "options" in ignored[0].reason


def test_read_authorized_keys_reads_no_key_out_of_an_option() -> None:
    keys, ignored = read_authorized_keys(f'environment="X={ED25519}" {SK_ED25519}\ncommand="{ED25519}\n')
    assert keys == []
    assert [line.fingerprint for line in ignored] == [parse_line(SK_ED25519).fingerprint, None]


def test_read_authorized_keys_is_bounded() -> None:
    _, ignored = read_authorized_keys("rubbish\n" * 50_000)
    assert len(ignored) == 101
    assert ignored[-1].reason.startswith("Too many lines")


def test_public_key_line_without_comment_has_no_trailing_space() -> None:
    assert PublicKey("ssh-ed25519", b"x").line == "ssh-ed25519 eA=="


def test_a_listed_key_is_equal_to_the_one_that_was_checked() -> None:
    for text in (ED25519, ED25519 + " me@laptop", SK_ED25519, SK_ECDSA):
        assert listed_key(text) == parse_line(text)


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 ???", "ssh-dss AAAA", "x" * 20000])
def test_a_listed_line_of_another_form_is_none(text: str) -> None:
    with pytest.raises(errors.KeyRefused):
        listed_key(text)
