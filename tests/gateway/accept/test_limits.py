"""Bounds on those who have not proved anything."""

from __future__ import annotations

import pytest

from jhssh_ext.gateway.accept.limits import MAX_ADDRESSES, ConnectionLimits, FailureBudget
from jhssh_ext.gateway.addresses import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_one_address_cannot_take_all_places() -> None:
    limits = ConnectionLimits(unauthenticated=3, unauthenticated_per_address=2, per_user=1)
    assert [limits.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert [limits.enter("192.0.2.2") for _ in range(2)] == [True, False]
    limits.leave("192.0.2.1")
    assert limits.unauthenticated == 2
    assert limits.enter("192.0.2.2")


def test_connections_of_a_user_are_counted_until_they_end() -> None:
    limits = ConnectionLimits(unauthenticated=1, unauthenticated_per_address=1, per_user=2)
    assert [limits.enter_user("alice") for _ in range(3)] == [True, True, False]
    assert limits.enter_user("bob")
    limits.leave_user("alice")
    assert limits.enter_user("alice")


def test_failures_run_out_and_come_back_with_time() -> None:
    now = 0.0
    budget = FailureBudget(burst=2, per_minute=60, clock=lambda: now)
    assert [budget.spend("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert budget.spend("192.0.2.2")
    now = 1.0
    assert [budget.spend("192.0.2.1") for _ in range(2)] == [True, False]


def test_what_was_no_failure_is_given_back() -> None:
    budget = FailureBudget(burst=1, per_minute=0, clock=lambda: 0.0)
    for _ in range(5):
        assert budget.spend("192.0.2.1")
        budget.give_back("192.0.2.1")
    budget.give_back("192.0.2.9")
    assert budget.spend("192.0.2.1")
    assert not budget.spend("192.0.2.1")


def test_remembered_addresses_are_bounded() -> None:
    budget = FailureBudget(burst=1, per_minute=0, clock=lambda: 0.0)
    for number in range(MAX_ADDRESSES + 10):
        budget.spend(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(budget._left) == MAX_ADDRESSES
