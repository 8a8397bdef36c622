"""Two homes on one machine never meet."""

from __future__ import annotations

import pytest

from pixeldetective.operations.search import search
from pixeldetective.stack.addresses import endpoints
from tests.pipeline.installation import Installation


def test_another_homes_api_is_not_asked(running: Installation, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Installation(tmp_path_factory.mktemp("other"), running.folder)
    (other.home / "stack.json").write_bytes((running.home / "stack.json").read_bytes())
    assert endpoints(other.settings).api_url == endpoints(running.settings).api_url
    said: list[str] = []
    search(other.settings, text="a cat", say=said.append)
    assert any("No API process answers" in line for line in said)
