"""Encoders of a run's weights: a continued run encodes with the micro-batches that its checkpoint was trained with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.run import encoders
from harness.run.build import Run
from harness.run.encoders import TextEncoders

UNUSED: Any = None


def run_with(setting: int | str) -> Run:
    config: Any = SimpleNamespace(training=SimpleNamespace(micro_batch_tokens=setting))
    engine: Any = SimpleNamespace(train_mode=lambda train: None, forward=None)
    text_encoders = TextEncoders(config, engine, UNUSED, micro_batch_tokens=512)
    others = {name: UNUSED for name in Run.__dataclass_fields__ if name not in ("config", "encoders")}
    return Run(config=config, encoders=text_encoders, **others)


@pytest.mark.parametrize(("setting", "expected"), [("auto", 256), (512, 512)])
def test_a_continued_run_cuts_all_its_micro_batches_as_before(
    setting: int | str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a look ahead and of a re-ranking, which hold the encoders since the run was built."""
    monkeypatch.setattr(encoders, "TextEncoder", lambda *_, micro_batch_tokens, **__: micro_batch_tokens)
    run = run_with(setting)
    encoder_of = run.encoders.for_task
    continued = run.continued({"micro_batch_tokens": 256})
    task: Any = SimpleNamespace(query_max_length=8, document_max_length=8)
    assert continued.micro_batch_tokens == expected
    assert encoder_of(task) == expected
