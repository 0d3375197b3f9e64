"""A step that stops a run: what every rank does then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness import rank0
from harness.engine.guard import NonFiniteError
from harness.run import stop
from tests.unit.run.test_folder import run_folder, save


def stopped(folder: Any) -> str:
    """The message of a run that step 5 has stopped."""
    config = SimpleNamespace(training=SimpleNamespace(precision="fp32"))
    plan = SimpleNamespace(step=5, texts=SimpleNamespace(source_T=[], text_T=[]))
    run: Any = SimpleNamespace(config=config, tasks=())
    with (
        pytest.raises(ValueError, match="step 5: the loss is not finite") as error,
        stop.explain_non_finite(run, folder),
    ):
        raise NonFiniteError(plan, "the loss", ["faq"], [])  # type: ignore[arg-type]
    return str(error.value)


def test_whether_the_step_before_is_saved_already_is_rank_0s_answer(tmp_path, monkeypatch):
    """Saving is collective: a host that sees the folder of the last checkpoint late would save alone, and wait."""
    folder = run_folder(tmp_path)
    saves = []
    monkeypatch.setattr(stop, "save_checkpoint", lambda *_, **__: saves.append("aside") or "stopped-step-00000004")
    monkeypatch.setattr(rank0, "by_main", lambda work: True)  # rank 0 sees it, this rank does not yet
    assert "step-00000004" in stopped(folder)
    assert saves == []
    save(folder, 4)
    monkeypatch.setattr(rank0, "by_main", lambda work: False)
    assert "stopped-step-00000004" in stopped(folder)
    assert saves == ["aside"]
