"""The sdist and wheel, and environments into which the wheel is installed as users do it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .hub import ROOT

NOT_SOURCE = (".venv*", ".demo*", ".git", "*.egg-info", "*_cache", "__pycache__", "node_modules", "lib", ".yarn", "screenshots")


def build(folder: Path) -> Path:
    """``folder/dist`` with the sdist, and the wheel that was built from it; the source is ``folder/source``."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)],
        check=True,
        capture_output=True,
        timeout=240,
    )
    return folder / "dist"


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin/python")

    @classmethod
    def make(cls, folder: Path) -> Environment:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
        return cls(folder)

    def install(self, *requirements: str | Path) -> None:
        """Our pip does it, which spares the environment one. Nothing is compiled that is not used."""
        options = ["-q", "--disable-pip-version-check", "--no-compile"]
        self._run(sys.executable, "-m", "pip", "--python", self.python, "install", *options, *map(str, requirements))

    def run(self, *arguments: str) -> str:
        """``python -m …``; what it printed."""
        return self._run(self.python, "-m", *arguments)

    def _run(self, *command: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "JUPYTER"))}
        environment |= {"HOME": str(self.folder), "JUPYTER_PREFER_ENV_PATH": "1"}
        done = subprocess.run(command, check=False, capture_output=True, env=environment, timeout=500, cwd=self.folder)
        output = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, output
        return output
