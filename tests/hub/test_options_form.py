from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from jhssh_ext.errors import SSHNotEnabled
from jhssh_ext.hub import options_form


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def the_box(html: str) -> dict[str, str | None]:
    (box,) = [attrs for tag, attrs in Elements(html).found if tag == "input" and attrs.get("type") == "checkbox"]
    return box


@pytest.mark.parametrize("checked", [True, False])
def test_the_box_is_labelled_and_shows_the_choice(checked: bool) -> None:
    html = options_form.checkbox(checked)
    box = the_box(html)
    assert ("checked" in box) is checked
    assert box["name"] == "enable_ssh"
    assert box["class"] == "form-check-input"
    labels = [attrs for tag, attrs in Elements(html).found if tag == "label"]
    assert labels == [{"class": "form-check-label", "for": box["id"]}]
    assert "Enable SSH access" in html


def test_the_admins_form_follows_unchanged() -> None:
    base = '<select name="profile"><option>a &amp; b</option></select>'
    html = options_form.compose_form(base, True)
    assert html == options_form.checkbox(True) + base


@pytest.mark.parametrize(
    ("sent", "option"),
    [
        (["on"], True),
        (["1"], True),
        (["true"], True),
        (["True"], True),
        (["off"], False),
        (["0"], False),
        (["false"], False),
        ([""], False),
        (["off", "on"], True),
        ([], None),
        (None, None),
    ],
)
def test_what_was_sent_is_taken_out(sent: Any, option: bool | None) -> None:
    data = {"profile": ["gpu"]} if sent is None else {"profile": ["gpu"], "enable_ssh": sent}
    before = dict(data)
    assert options_form.take_option(data) == (option, {"profile": ["gpu"]})
    assert data == before


def test_a_value_that_is_neither_on_nor_off_is_refused() -> None:
    with pytest.raises(ValueError, match="neither on nor off"):
        options_form.take_option({"enable_ssh": ["<b>maybe</b>"]})


@pytest.mark.parametrize(
    ("user_options", "option"),
    [
        ({"enable_ssh": True}, True),
        ({"enable_ssh": False}, False),
        ({}, None),
        (None, None),
        ([], None),
        ("enable_ssh", None),
        ({"enable_ssh": 1}, None),
        ({"enable_ssh": 0}, None),
        ({"enable_ssh": "true"}, None),
        ({"enable_ssh": ["on"]}, None),
        ({"enable_ssh": {}}, None),
        ({"enable_ssh": None}, None),
    ],
)
def test_only_a_real_boolean_counts_as_a_saved_choice(user_options: Any, option: bool | None) -> None:
    assert options_form.saved_option(user_options) is option


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("option", [True, False, None])
def test_the_admins_policy_stands_above_any_choice(option: bool | None, default: bool) -> None:
    assert options_form.why_off("always", option, default) == ""
    assert options_form.why_off("never", option, default) == options_form.NEVER_SENTENCE


@pytest.mark.parametrize(
    ("option", "default", "on"),
    [
        (True, True, True),
        (True, False, True),
        (False, True, False),
        (False, False, False),
        (None, True, True),
        (None, False, False),
    ],
)
def test_where_it_is_optional_the_choice_counts_then_the_default(option: bool | None, default: bool, on: bool) -> None:
    assert options_form.why_off("optional", option, default) == ("" if on else SSHNotEnabled.default_sentence)
