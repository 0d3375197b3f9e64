"""Run a command in this process, with its work replaced by a stub."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import harness
from harness.__main__ import app


def stub_trainer(monkeypatch: pytest.MonkeyPatch, train: Any) -> None:
    """Make `harness train` call `train` instead of the trainer."""
    monkeypatch.setitem(sys.modules, "harness.trainer", SimpleNamespace(train=train))
    monkeypatch.setattr(harness, "trainer", sys.modules["harness.trainer"], raising=False)


def invoke(*arguments: str) -> Any:
    """Run the command line with these arguments and return its result."""
    return CliRunner().invoke(app, list(arguments))
