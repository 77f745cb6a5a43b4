"""The documentation is true where a machine can tell: files, links, settings and commands that it names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from traitlets.config import Configurable

from jhssh_ext.errors import JHSSHError
from jhssh_ext.gateway.app import Gateway
from jhssh_ext.hub.kubespawner import SSHKubeSpawner
from jhssh_ext.hub.spawner_mixin import SSHSpawnerMixin
from jhssh_ext.singleuser.app import JHSSHExtension

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
EXAMPLES = [ROOT / "examples/local/jupyterhub_config.py", ROOT / "demo/jupyterhub_config.py", *PAGES]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def own_traits(cls: type[Configurable]) -> dict[str, str]:
    """Settings that we define, with their help."""
    traits = cls.class_traits(config=True)
    return {name: trait.help for name, trait in traits.items() if trait.this_class.__module__.startswith("jhssh_ext.")}


def tree() -> set[str]:
    """The files of the tree in docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text()
    block = text.split("```\njhssh_ext/\n", 1)[1].split("```", 1)[0]
    found, folders = set(), ["jhssh_ext"]
    for line in filter(None, block.splitlines()):
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name.rstrip("/")]
        if name.endswith(".py"):
            assert len(line.split()) > 1, f"{name} is not described"
            found.add("/".join(folders))
    return found


def test_tree_of_the_architecture_page_is_complete_and_true() -> None:
    there = {name_of(path) for path in (ROOT / "jhssh_ext").rglob("*.py") if not path.name.startswith("__")}
    there = {name for name in there if "/migrations/versions/" not in name}  # one for each change of the tables
    assert tree() == there


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("cls", [Gateway, SSHSpawnerMixin, SSHKubeSpawner, JHSSHExtension])
def test_every_setting_has_help(cls: type[Configurable]) -> None:
    traits = own_traits(cls)
    assert traits
    assert not [name for name, text in traits.items() if len(text) < 10]


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = {cls.__name__: set(own_traits(cls)) for cls in (Gateway, SSHSpawnerMixin, SSHKubeSpawner)}
    named = re.findall(r"\b(Gateway|SSHSpawnerMixin|SSHKubeSpawner)\.(\w+) ?=", page.read_text())
    assert not [(cls, trait) for cls, trait in named if trait not in known[cls]]


def test_example_of_the_readme_is_python_and_has_the_roles_of_the_complete_one() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    ast.parse(block)
    scopes = re.compile(r'"scopes": (\[.*?\])')
    complete = (ROOT / "examples/local/jupyterhub_config.py").read_text()
    assert scopes.findall(block) == scopes.findall(complete) != []


def test_scopes_in_the_help_of_the_token_are_those_of_the_example() -> None:
    example, _of_users = re.findall(r'"scopes": (\[.*?\])', (ROOT / "examples/local/jupyterhub_config.py").read_text())
    help_ = own_traits(Gateway)["hub_api_token"]
    assert set(ast.literal_eval(example)) == set(re.findall(r"[a-z_:]+", help_.partition("Scopes: ")[2]))


def test_codes_in_the_documentation_are_codes_of_errors() -> None:
    def all_of(cls: type[JHSSHError]) -> set[str]:
        return {cls.code}.union(*(all_of(sub) for sub in cls.__subclasses__()))

    named = {code for page in PAGES for code in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", page.read_text())}
    assert named
    assert named <= all_of(JHSSHError) | {
        *("BASE_IMAGE", "JUPYTERHUB_API_TOKEN", "HUB_PORT", "SSH_PORT", "XDG_RUNTIME_DIR"),
        *("JHSSH_HUB", "HTTPS_PROXY", "NO_PROXY", "XDG_CONFIG_HOME"),
    }
