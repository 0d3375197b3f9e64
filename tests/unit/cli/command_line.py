"""Running a command of the command line in this process, with its work stubbed."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import harness
from harness.__main__ import app


def stub_trainer(monkeypatch: pytest.MonkeyPatch, train: Any) -> None:
    """`harness train` calls this instead of the trainer."""
    monkeypatch.setitem(sys.modules, "harness.trainer", SimpleNamespace(train=train))
    monkeypatch.setattr(harness, "trainer", sys.modules["harness.trainer"], raising=False)


def invoke(*arguments: str) -> Any:
    """The result of a command line."""
    return CliRunner().invoke(app, list(arguments))
