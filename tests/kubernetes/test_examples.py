"""What examples/kubernetes says, said to an API server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ..test_kubernetes_examples import MANIFESTS, documents, name_of
from .cluster import kubectl, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_the_api_server_takes_it(path: Path) -> None:
    for manifest in documents(path):
        manifest["metadata"].pop("namespace", None)
        text = json.dumps(manifest).encode()
        said = kubectl("create", "--dry-run=server", "--validate=true", "--output", "yaml", "--filename", "-", input=text)
        assert yaml.safe_load(said)["kind"] == manifest["kind"]
