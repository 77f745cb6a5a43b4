"""The option "Enable SSH access": its checkbox, what a browser sent of it, and what it means when a server starts.

Pure: knows neither spawners nor the Hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..errors import SSHNotEnabled

OPTION = "enable_ssh"
"""name of the form's field and of the key in ``user_options``"""
LABEL = "Enable SSH access"

OPTIONAL = "optional"
ALWAYS = "always"
NEVER = "never"

NEVER_SENTENCE = "SSH access is switched off on this hub."

_ON = ("on", "1", "true", "yes")
_OFF = ("off", "0", "false", "no", "")

_CHECKBOX = """\
<div class="form-check mb-3">
  <input class="form-check-input" type="checkbox" name="{name}" id="{name}" value="on"{checked}>
  <label class="form-check-label" for="{name}">{label}</label>
</div>
"""


def checkbox(checked: bool) -> str:
    """The checkbox, in the classes of Bootstrap 5 that JupyterHub's pages use."""
    return _CHECKBOX.format(name=escape(OPTION), label=escape(LABEL), checked=" checked" if checked else "")


def compose_form(base_form: str, checked: bool) -> str:
    """The checkbox before the admin's own form, which stays as it is: the Hub inserts it as HTML, so it is the admin's to escape.

    Before it, not after it: some forms end with a Start button of their own.
    """
    return checkbox(checked) + base_form


def take_option(data: Mapping[str, Sequence[Any]]) -> tuple[bool | None, dict[str, Any]]:
    """What was sent for our field, None if nothing, and all other fields, ours taken out.

    ``data`` is as the Hub gives form and query data: lists of strings. Raises ValueError on a value that is neither on nor off.
    """
    others = dict(data)
    sent = others.pop(OPTION, None)
    if not sent:
        return None, others
    value = str(sent[-1]).strip().lower()
    if value in _ON:
        return True, others
    if value in _OFF:
        return False, others
    raise ValueError(f"{OPTION} is neither on nor off")


def saved_option(user_options: Any) -> bool | None:
    """The saved choice. ``user_options`` is JSON that a user sent: only a real boolean counts, all else is as if absent."""
    value = user_options.get(OPTION) if isinstance(user_options, Mapping) else None
    return value if isinstance(value, bool) else None


def why_off(policy: str, option: bool | None, default: bool) -> str:
    """The sentence for the user that says why SSH is off for this server; empty where it is on."""
    if policy == ALWAYS:
        return ""
    if policy != OPTIONAL:
        return NEVER_SENTENCE
    wanted = default if option is None else option
    return "" if wanted else SSHNotEnabled.default_sentence
