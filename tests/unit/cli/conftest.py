"""For tests that run commands in this process, with their work replaced by stubs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from harness.cli import mistakes


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the environment of this process, because commands change it."""
    monkeypatch.setattr(mistakes, "prepare_environment", lambda verbose: None)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "HARNESS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
