"""What the built distribution holds, and that each extra brings what its part imports."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVER_CONFIG = "etc/jupyter/jupyter_server_config.d/jhssh_ext.json"
SOURCES = {str(path.relative_to(ROOT)) for path in (ROOT / "jhssh_ext").rglob("*.py")}
PAGES = {
    str(path.relative_to(ROOT))
    for folder in ("templates", "static")
    for path in (ROOT / "jhssh_ext/gateway/web" / folder).iterdir()
}

# Imports a module of the package as if only the named distributions' modules were installed.
IMPORT_WITHOUT = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"not in this extra: {{name}}", name=name)

sys.meta_path.insert(0, Missing())
for name in {modules!r}:
    importlib.import_module(name)
print("imported")
"""


@pytest.mark.slow
def test_wheel_holds_the_package_and_switches_the_extension_on(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    code = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert code == SOURCES | PAGES | {"jhssh_ext/py.typed"}
    assert [name for name in names if name.endswith(f".data/data/{SERVER_CONFIG}")]
    panel = ".data/data/share/jupyter/labextensions/@jhssh/labextension/"
    brought = {name.partition(panel)[2] for name in names if panel in name}
    assert {"package.json", "install.json", "schemas/@jhssh/labextension/launcher.json", "static/style.js"} <= brought
    assert [name for name in brought if name.startswith("static/remoteEntry.")]
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    for line in (
        "jhssh = jhssh_ext.client.cli:main",
        "jhssh-gateway = jhssh_ext.gateway.app:main",
        "jhssh-local = jhssh_ext.hub.local_spawners:SSHLocalProcessSpawner",
        "jhssh-simple = jhssh_ext.hub.local_spawners:SSHSimpleLocalProcessSpawner",
        "jhssh-kube = jhssh_ext.hub.kubespawner:SSHKubeSpawner",
    ):
        assert line in entry_points


@pytest.mark.slow
def test_sdist_holds_all_that_is_needed_to_build_and_test_it(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = SOURCES | PAGES | {f"jhssh_ext/{SERVER_CONFIG}", "jhssh_ext/py.typed"}
    wanted |= {str(p.relative_to(ROOT)) for top in ("tests", "demo", "examples") for p in (ROOT / top).rglob("*.py")}
    wanted |= {str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")}
    wanted |= {"Makefile", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", ".ci/run"}
    wanted |= {"command/pyproject.toml", "command/README.md"}
    assert wanted <= names, wanted - names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith((".venv", ".demo", ".git/"))]


def modules(folder: str) -> list[str]:
    """Every module of one folder, by name."""
    paths = sorted((ROOT / "jhssh_ext" / folder).rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        pytest.param(
            [name for name in modules("singleuser") if "embedded" not in name],
            {"jupyterhub", "asyncssh", "kubespawner"},
            id="base: the server extension",
        ),
        pytest.param(modules("singleuser"), {"jupyterhub", "kubespawner"}, id="embedded"),
        pytest.param(
            [name for name in modules("hub") if not name.endswith(".kubespawner")],
            {"asyncssh", "kubespawner", "kubernetes_asyncio"},
            id="hub",
        ),
        pytest.param(modules("hub"), {"asyncssh"}, id="kubernetes"),
        pytest.param(
            modules("client"),
            {"jupyterhub", "jupyter_server", "asyncssh", "cryptography", "jwt", "keyring"},
            id="client, no keyring",
        ),
        pytest.param(
            [name for name in modules("gateway") if ".migrations" not in name],  # these are run by alembic
            {"kubespawner", "jupyterlab", "psycopg"},
            id="gateway",
        ),
    ],
)
def test_each_part_imports_with_its_extra_only(wanted: list[str], missing: set[str]) -> None:
    code = IMPORT_WITHOUT.format(modules=wanted, missing=sorted(missing))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "imported\n", done.stderr


@pytest.mark.slow
def test_no_wheel_is_made_without_the_built_panel(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(built.parent / "source", source, ignore=shutil.ignore_patterns("labextension", "build", "*.egg-info"))
    made = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)],
        check=False,
        capture_output=True,
        timeout=240,
    )
    assert made.returncode != 0
    assert b"labextension/package.json" in made.stdout + made.stderr
    assert not list(tmp_path.glob("dist/*"))


def test_the_panel_is_small() -> None:
    """Under 60 kB in all, compressed: Lab loads no more than that when it starts."""
    static = ROOT / "jhssh_ext/labextension/static"
    scripts = list(static.glob("*.js"))
    assert scripts, "make panel"
    assert sum(len(gzip.compress(path.read_bytes())) for path in scripts) < 60_000
