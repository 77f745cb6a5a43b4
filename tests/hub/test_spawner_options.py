"""The mixin's option on real spawners: whatever form and options the admin has go on working and never see ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from jupyterhub.utils import maybe_future

from jhssh_ext.hub import SSHSpawnerMixin, options_form

from .conftest import PlainSpawner

MakeSpawner = Callable[..., Any]
FORM = '<input name="size" value="a &amp; b">'


async def async_form(spawner: Any) -> str:
    return f"{FORM}<!-- {spawner.user.name} -->"


def sync_form(spawner: Any) -> str:
    return f"{FORM}<!-- {spawner.user.name} -->"


@pytest.mark.parametrize("form", [FORM, async_form, sync_form])
@pytest.mark.parametrize(
    ("saved", "default"), [({}, True), ({}, False), ({"enable_ssh": True}, False), ({"enable_ssh": "1"}, False)]
)
@pytest.mark.asyncio
async def test_the_box_stands_before_the_admins_form(
    make_spawner: MakeSpawner, form: Any, saved: dict[str, Any], default: bool
) -> None:
    spawner = make_spawner(user_options=saved, config={"ssh_default": default})
    spawner.options_form = form
    expected = FORM if form is FORM else f"{FORM}<!-- alice -->"
    checked = saved.get("enable_ssh", default) is True
    assert await spawner.get_options_form() == options_form.checkbox(checked) + expected


class FancySpawner(PlainSpawner):
    """Overrides the method itself, as spawners with profiles of their own may."""

    async def get_options_form(self) -> str:
        return FORM


class SSHFancySpawner(SSHSpawnerMixin, FancySpawner):
    pass


@pytest.mark.asyncio
async def test_a_form_that_the_spawner_makes_is_kept(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner(spawner_class=SSHFancySpawner)
    assert await spawner.get_options_form() == options_form.checkbox(True) + FORM


@pytest.mark.parametrize("policy", ["always", "never"])
@pytest.mark.parametrize("form", [FORM, "", None])
@pytest.mark.asyncio
async def test_users_are_not_asked_what_the_admin_decided(make_spawner: MakeSpawner, policy: str, form: Any) -> None:
    spawner = make_spawner(config={"ssh_policy": policy, "ssh_ask_without_form": True})
    spawner.options_form = form or ""
    assert await spawner.get_options_form() == (form or "")
    assert await spawner.run_options_from_form({"size": ["1"], "enable_ssh": ["on"]}) == {"size": ["1"]}
    assert await spawner.options_from_query({"size": ["1"], "enable_ssh": ["on"]}) == {"size": ["1"]}


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.asyncio
async def test_a_hub_without_a_form_gets_a_page_only_if_asked(make_spawner: MakeSpawner, ask: bool) -> None:
    spawner = make_spawner(config={"ssh_ask_without_form": ask})
    assert await spawner.get_options_form() == (options_form.checkbox(True) if ask else "")
    assert await spawner.run_options_from_form({}) == ({"enable_ssh": False} if ask else {})


class Admin:
    """An admin's own options_from_form in all the shapes that JupyterHub takes; notes what it was given."""

    def __init__(self) -> None:
        self.saw: list[dict[str, Any]] = []

    def one(self, form_data: dict[str, Any]) -> dict[str, Any]:
        self.saw.append(form_data)
        return {"size": form_data["size"][0]}

    def two(self, form_data: dict[str, Any], spawner: Any) -> dict[str, Any]:
        return {**self.one(form_data), "for": spawner.user.name}

    async def async_one(self, form_data: dict[str, Any]) -> dict[str, Any]:
        return self.one(form_data)

    async def async_two(self, form_data: dict[str, Any], spawner: Any) -> dict[str, Any]:
        return self.two(form_data, spawner)


@pytest.mark.parametrize("shape", ["one", "two", "async_one", "async_two"])
@pytest.mark.parametrize("ticked", [True, False])
@pytest.mark.asyncio
async def test_the_admins_options_are_kept_and_do_not_see_ours(make_spawner: MakeSpawner, shape: str, ticked: bool) -> None:
    admin = Admin()
    spawner = make_spawner()
    spawner.options_form = FORM
    spawner.options_from_form = getattr(admin, shape)
    form = {"size": ["big"], **({"enable_ssh": ["on"]} if ticked else {})}
    options = await maybe_future(spawner.run_options_from_form(form))
    assert options == {"size": "big", "enable_ssh": ticked, **({"for": "alice"} if "two" in shape else {})}
    assert admin.saw == [{"size": ["big"]}]


@pytest.mark.parametrize(
    ("sent", "ours"), [({"enable_ssh": ["1"]}, {"enable_ssh": True}), ({"enable_ssh": ["0"]}, {"enable_ssh": False}), ({}, {})]
)
@pytest.mark.parametrize("shape", ["one", "async_one"])
@pytest.mark.asyncio
async def test_a_link_that_leaves_it_open_leaves_it_open(
    make_spawner: MakeSpawner, shape: str, sent: dict[str, Any], ours: dict[str, Any]
) -> None:
    admin = Admin()
    spawner = make_spawner()
    spawner.options_form = FORM
    spawner.options_from_form = getattr(admin, shape)
    options = await maybe_future(spawner.options_from_query({"size": ["big"], **sent}))
    assert options == {"size": "big", **ours}
    assert admin.saw == [{"size": ["big"]}]


@pytest.mark.asyncio
async def test_an_odd_value_is_an_error_on_the_page(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    spawner.options_form = FORM
    with pytest.raises(ValueError, match="neither on nor off"):
        await spawner.run_options_from_form({"enable_ssh": ["maybe"]})


@pytest.mark.asyncio
async def test_options_that_are_none_are_none(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    spawner.options_form = FORM
    spawner.options_from_form = lambda form_data: None
    assert await spawner.run_options_from_form({"enable_ssh": ["on"]}) == {"enable_ssh": True}


@pytest.mark.asyncio
async def test_apply_user_options_does_not_see_ours(make_spawner: MakeSpawner) -> None:
    spawner = make_spawner()
    saw: list[dict[str, Any]] = []
    spawner.apply_user_options = lambda spawner, user_options: saw.append(user_options)
    await spawner._run_apply_user_options({"size": 1, "enable_ssh": True})
    assert saw == [{"size": 1}]
