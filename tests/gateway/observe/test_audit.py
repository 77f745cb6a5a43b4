from __future__ import annotations

import json
import logging

import pytest

from jhssh_ext.gateway.authenticate.login import Login
from jhssh_ext.gateway.observe.audit import Audit
from jhssh_ext.login_names import UserServer


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    found = []
    for record in caplog.records:
        event, _, values = record.getMessage().partition(" ")
        found.append((event, json.loads(values)))
    return found


def test_one_line_for_login_refusal_and_end(caplog: pytest.LogCaptureFixture) -> None:
    login = Login(UserServer("alice", "gpu"), "publickey", "SHA256:abc", "192.0.2.1", may_start=True)
    who = {"user": "alice", "server": "gpu", "method": "publickey", "fingerprint": "SHA256:abc", "address": "192.0.2.1"}
    audit = Audit()
    with caplog.at_level(logging.INFO, "jhssh.audit"):
        audit.opened(login)
        audit.closed(login, 10, 20)
        audit.refused("192.0.2.2", "bob", "KEY_UNKNOWN")
    assert lines(caplog) == [
        ("login", {"code": "OK", **who}),
        ("end", {**who, "bytes_from_client": 10, "bytes_from_server": 20}),
        ("refused", {"code": "KEY_UNKNOWN", "login_name": "bob", "address": "192.0.2.2"}),
    ]


def test_no_name_can_make_a_second_line_or_reach_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jhssh.audit"):
        Audit().refused("192.0.2.2", 'a\nlogin {"user": "root"}\x1b[2J\u202e\u2028ä' + "x" * 10000, "KEY_UNKNOWN")
    (record,) = caplog.records
    text = record.getMessage()
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 500
