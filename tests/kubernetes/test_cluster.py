"""What the tests find out of a cluster; needs none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .cluster import missing_images
from .conftest import once

RUNNING = {"image": "a", "state": {"running": {}}}
ENDED = {"image": "b", "state": {"terminated": {"exitCode": 0}}}


def waiting(reason: str) -> dict[str, Any]:
    return {"image": "c", "state": {"waiting": {"reason": reason} if reason else {}}}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (None, None),
        ([RUNNING, waiting("ContainerCreating")], None),
        ([RUNNING, waiting("")], None),
        ([RUNNING, ENDED], ""),
        ([RUNNING, waiting("ErrImageNeverPull")], "images are not there: c (ErrImageNeverPull)"),
        ([waiting("ImagePullBackOff"), ENDED], "images are not there: c (ImagePullBackOff)"),
        ([waiting("InvalidImageName")], "images are not there: c (InvalidImageName)"),
    ],
)
def test_images_that_a_pod_cannot_have_are_named(statuses: list[dict[str, Any]] | None, expected: str | None) -> None:
    assert missing_images({"phase": "Pending", "containerStatuses": statuses}) == expected


@pytest.mark.parametrize("answer", ["", "a reason: with a colon"])
def test_what_is_found_out_is_found_out_once(tmp_path_factory: pytest.TempPathFactory, answer: str) -> None:
    answers: Iterator[str] = iter([answer])
    name = f"test-{len(answer)}"
    assert [once(tmp_path_factory, name, lambda: next(answers)) for _ in range(2)] == [answer, answer]
