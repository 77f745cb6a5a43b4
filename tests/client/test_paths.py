"""Paths that somebody typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jhssh_ext.client import paths
from jhssh_ext.client.failures import Failure, WrongUsage

from ..fakes.gateway_api import FakeGateway
from .conftest import Laptop


def test_home_and_here(laptop: Laptop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.expanded("~/x") == laptop.home / "x"
    assert paths.expanded("x/y") == tmp_path / "x/y"
    assert paths.expanded("/x") == Path("/x")
    assert paths.home() == laptop.home


def test_nobodys_home(logged_in: Laptop, fake: FakeGateway) -> None:
    with pytest.raises(WrongUsage, match="no such user"):
        paths.expanded("~nobody-of-that-name/x")
    for command in ("keys add", "config --file", "keys remove", f"login {fake.url} --ca-file"):
        done = logged_in.run(*command.split(), "~nobody-of-that-name/x.pub")
        assert (done.status, "no such user" in done.err) == (2, True), command


def test_a_folder_that_is_gone(logged_in: Laptop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = logged_in.run("config", "--file", "x")
    assert (done.status, "relative to a folder that is gone" in done.err) == (1, True)
    assert logged_in.run("servers", "list").status == 0


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(Failure, match="Set HOME"):
        paths.home()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="folders are read otherwise there")
def test_folders_are_no_keys(logged_in: Laptop) -> None:
    for folder in (".", "/", "~"):
        done = logged_in.run("keys", "add", folder)
        assert (done.status, "Is a directory" in done.err) == (1, True)
