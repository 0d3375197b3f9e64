"""What `python -m tests.chaos` relies on: an armed rank dies in its phase and in no other; a difference is seen."""

import json
import os
import signal
from types import SimpleNamespace

import pytest

from tests.chaos.__main__ import _differences, outcome
from tests.chaos.armed import _after, _Now
from tests.chaos.launched import last_step


def write_run(folder, loss=0.5, weights=b"w"):
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(weights)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": loss, "seconds": id(folder)}) + "\n")
    (folder / "evaluation.json").write_text("[]")
    return folder


def test_only_what_the_machine_decides_may_differ(tmp_path):
    whole = outcome(write_run(tmp_path / "whole"))
    assert _differences("x", write_run(tmp_path / "same"), whole) == []
    assert _differences("x", write_run(tmp_path / "loss", loss=0.6), whole) == [
        "x: metrics differ from the undisturbed run"
    ]
    assert _differences("x", write_run(tmp_path / "weights", weights=b"v"), whole) == [
        "x: weights differ from the undisturbed run"
    ]
    assert _differences("x", tmp_path / "nothing", whole) == ["x: there is no model at the end"]


def test_the_last_step_is_that_of_the_last_whole_line(tmp_path):
    assert last_step(tmp_path) == 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert last_step(tmp_path) == 2


@pytest.mark.parametrize(("step", "killed"), [(4, False), (5, True), (6, False)])
def test_an_armed_method_kills_its_process_in_its_step_and_phase_only(monkeypatch, step, killed):
    class Engine:
        def forward(self):
            return "forward"

    seen = []
    monkeypatch.setattr(os, "kill", lambda pid, number: seen.append((pid, number)))
    now, engine = _Now(), Engine()
    _after(Engine, "forward", lambda: now.phase == "embed" and now.step == 5)
    embed, replay = now.during("embed", engine.forward), now.during("replay", engine.forward)
    now.counting(lambda run, step: (replay(), embed()))(None, SimpleNamespace(number=step))
    assert seen == ([(os.getpid(), signal.SIGKILL)] if killed else [])
