"""The page before the Hub that z2jh ships."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from ..harness.chromium import shoot
from ..harness.hub import Hub
from ..harness.ssh import KeyPair
from .conftest import ssh_page

pytestmark = pytest.mark.slow


def test_it_is_the_same(hub5: Hub, window: Callable[..., Page], keys: list[KeyPair]) -> None:
    page = window("page-hub5", hub5)
    page.goto(ssh_page(hub5))
    page.get_by_label("Add a public key").fill(keys[0].public)
    page.get_by_role("button", name="Add key").click()
    expect(page.get_by_role("status")).to_contain_text("The key was added")
    shoot(page, "ssh-page-hub5")
    page.get_by_role("button", name="Remove key").click()
    expect(page.get_by_role("status")).to_contain_text("The key was removed")
