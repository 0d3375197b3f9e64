"""The recipe's settings of a task's losses reach the objective."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from harness import comm
from harness.config import RunConfig
from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.run.objective import build_objective, choose_implementation
from harness.settings.recipe_file import build
from harness.settings.yaml_text import parse_yaml

RECIPE = """
name: x
model: {name_or_path: demo-minilm, matryoshka_dims: [2, 4], matryoshka_weights: [0.5, 1]}
training: {steps: 2}
loss: {temperature: 0.3}
tasks:
  - name: a
    kind: retrieval
    path: a.jsonl
    quota: 2
    temperature: 0.2
    weight: 3
    loss: [kl, info_nce]
    teacher_temperature: 4
    negatives: {per_query: 1, margin: 0.1, symmetric: true, same_tower: both, hardness: 5}
  - {name: b, kind: retrieval, path: b.jsonl, quota: 2}
  - {name: c, kind: sts, path: c.jsonl, quota: 2}
"""


def test_every_setting_of_a_task_that_its_losses_read_reaches_them() -> None:
    config = build(RunConfig, parse_yaml(RECIPE, "r.yaml"), "r.yaml")
    objective = build_objective(config, num_ranks=1)
    assert objective.tasks["a"] == TaskLossSettings(
        name="a",
        temperature=0.2,
        weight=3.0,
        margin=0.1,
        symmetric=True,
        document_tower=True,
        hardness=5.0,
        losses=("kl", "info_nce"),
        teacher_temperature=4.0,
    )
    defaults = TaskLossSettings("b")
    assert objective.tasks["b"] == defaults
    unset = [f.name for f in fields(defaults) if getattr(defaults, f.name) == getattr(objective.tasks["a"], f.name)]
    assert unset == []  # a new setting must be set above, too
    assert objective.tasks["c"].losses == ("cosent",)
    assert (objective.loss, objective.matryoshka_dims, objective.matryoshka_weights) == (
        config.loss.model_copy(update={"implementation": "chunked"}),  # what auto takes on a CPU
        (2, 4),
        (0.5, 1.0),
    )


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "device", lambda: torch.device("cuda"))


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize(
    ("of_ranks", "chosen"), [([None, None], "triton"), ([None, "it differs", "it fails"], "chunked")]
)
def test_all_ranks_take_the_kernels_or_none_does_and_one_line_says_why(
    of_ranks: list[str | None], chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comm, "gather_objects", lambda value: of_ranks)
    assert choose_implementation(LossConfig(), lambda: of_ranks[0]).implementation == chosen
    said = capsys.readouterr().err
    assert said.count("\n") == (chosen == "chunked")
    assert ("rank 1 (it differs)" in said) == (chosen == "chunked")


def test_without_a_gpu_nothing_is_checked() -> None:
    def fail() -> str:
        raise AssertionError

    assert choose_implementation(LossConfig(), fail).implementation == "chunked"
