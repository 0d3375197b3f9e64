"""Commands run in this process, their work replaced by stubs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from harness.cli import mistakes


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands prepare the environment of their process; the tests' own must stay as it is."""
    monkeypatch.setattr(mistakes, "prepare_environment", lambda verbose: None)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "HARNESS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
