"""Opaque ids and printable text."""

from __future__ import annotations

import itertools

from jhssh_ext.identifiers import AUDIENCE, HOST_KEY, PRINCIPAL, opaque_id, printable

NASTY = ["alice", "alice+gpu", "a b", "x\ny", "*", "alice\x00", "", '"]', "élise"]


def test_an_id_is_64_hexadecimal_digits_whatever_the_names() -> None:
    for user, server in itertools.product(NASTY, NASTY):
        assert set(opaque_id(PRINCIPAL, "hub", user, server)) <= set("0123456789abcdef")
        assert len(opaque_id(PRINCIPAL, "hub", user, server)) == 64


def test_no_two_inputs_share_an_id() -> None:
    inputs = list(itertools.product([PRINCIPAL, AUDIENCE, HOST_KEY], ["h1", "h2"], NASTY, NASTY))
    assert len({opaque_id(*each) for each in inputs}) == len(inputs)


def test_an_id_stays_what_it_is() -> None:
    assert opaque_id(PRINCIPAL, "hub", "alice", "") == "0e5fd8743e502e44f0c881fb73c8b55f26baa819fadbefb5c249cb328b2f9ef3"


def test_printable_drops_what_moves_a_cursor_and_bounds_the_rest() -> None:
    assert printable("a\x1b[31mb\u202ec\x9b\ud800d\n") == "a [31mb c  d "
    assert printable("ü" * 300, 10) == "ü" * 9 + "…"
