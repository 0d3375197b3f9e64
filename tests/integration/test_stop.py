"""A run that a signal stops loses no step: all ranks stop after the same one, and the next start goes on from there."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from harness.process.stop_request import STOP_FILE
from tests.integration.test_resume import outcome, train
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed


def train_and_be_asked(folder: str, output: str, step: int, by_file: bool) -> None:
    """Runs on a rank: train; after this step rank 1 alone gets SIGTERM, or the file is there that asks for a stop."""
    from harness import comm
    from harness.process import stop_request
    from harness.report.report import Report

    stop_request.listen()

    def record(self, metrics, original=Report.step):
        if metrics["step"] == step and by_file and comm.is_main():
            Path(folder, output, STOP_FILE).touch()
        if metrics["step"] == step and not by_file and comm.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, metrics)

    Report.step = record
    train(folder, output)


def test_a_run_that_is_stopped_twice_equals_the_uninterrupted_one_bit_for_bit(folder):
    """Step 3 is scored and not saved by the recipe, step 6 is both and the last. The best one is found later, too."""
    run_ranks(2, train, str(folder), "unstopped")
    for step, name in ((3, "SIGTERM"), (6, "the file .stop")):
        with pytest.raises(AssertionError, match=f"StopAskedError: {name}"):
            run_ranks(2, train_and_be_asked, str(folder), "stopped", step, name != "SIGTERM")
        checkpoints = folder / "stopped" / "checkpoints"
        assert (checkpoints / "latest").read_text() == f"step-{step:08d}\n"
        assert len((folder / "stopped" / "metrics.jsonl").read_text().splitlines()) == step
        assert not [path for path in (folder / "stopped").iterdir() if path.name.startswith(".")]
    run_ranks(2, train, str(folder), "stopped")
    assert json.loads((folder / "stopped" / "run.json").read_text())["resumed_from"] == 6
    assert outcome(folder / "stopped") == outcome(folder / "unstopped")
    best = [(folder / name / "checkpoints" / "best").read_text() for name in ("stopped", "unstopped")]
    assert best[0] == best[1]
