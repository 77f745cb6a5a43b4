"""What is written to terminals, and to what is none."""

from __future__ import annotations

import io

import pytest

from jhssh_ext.client.output import Progress, colored, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress()
    progress.clear()
    assert terminal.getvalue() == ""
    progress.show("pulling\x1b[2J the image")
    progress.show("starting")
    progress.clear()
    assert terminal.getvalue() == "\r\x1b[Kpulling [2J the image (0 s)\r\x1b[Kstarting (0 s)\r\x1b[K"


def test_progress_fits_into_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    Progress().show("x" * 100)
    assert terminal.getvalue() == f"\r\x1b[K{'x' * 27}… (0 s)"


def test_progress_is_a_line_for_each_change_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    progress = Progress()
    for text in ("one", "one", "two"):
        progress.show(text)
    progress.clear()
    assert log.getvalue() == "one\ntwo\n"


def test_colors_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert colored("ok", "green") == "ok"
    monkeypatch.setattr("sys.stdout", Terminal())
    assert colored("ok", "green") == "\x1b[32mok\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert colored("ok", "green") == "ok"


def test_a_table_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    table(["A", "LONG NAME"], [["x\x1b[1m\ny", ""], ["long one", "z"]])
    assert capsys.readouterr().out == "A         LONG NAME\nx [1m y\nlong one  z\n"
