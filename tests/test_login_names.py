"""Login names: what they may mean."""

from __future__ import annotations

import pytest

from jhssh_ext.login_names import UserServer, candidates, login_name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("alice", [("alice", "")]),
        ("alice+gpu", [("alice+gpu", ""), ("alice", "gpu")]),
        ("a+b+gpu", [("a+b+gpu", ""), ("a+b", "gpu")]),
        ("alice+", [("alice+", "")]),
        ("+gpu", [("+gpu", "")]),
        ("a b", [("a b", "")]),
        ("*", [("*", "")]),
        ("50%", [("50%", "")]),
        ("jürgen@example.org", [("jürgen@example.org", "")]),
        ("", []),
        (".", []),
        ("..", []),
        ("..+gpu", [("..+gpu", "")]),
        ("../bob", []),
        ("a/b", []),
        ("x\ny", []),
        ("x\x1b[2J", []),
        ("x\u202ey", []),
        ("x" * 255, [("x" * 255, "")]),
        ("x" * 256, []),
    ],
)
def test_candidates(name: str, found: list[tuple[str, str]]) -> None:
    assert candidates(name) == tuple(UserServer(*each) for each in found)


def test_the_separator_can_be_another_or_none() -> None:
    assert candidates("alice--gpu", "--")[1] == UserServer("alice", "gpu")
    assert candidates("alice+gpu", "") == (UserServer("alice+gpu"),)


@pytest.mark.parametrize("target", [UserServer("alice"), UserServer("alice", "gpu")])
def test_a_login_name_leads_back_to_its_server(target: UserServer) -> None:
    assert target in candidates(login_name(target))


def test_a_shown_name_holds_no_control_characters() -> None:
    assert str(UserServer("x\ny", "a\x1bb")) == "x y/a b"
