"""The table of losses: every entry names a function, and the golden equalities contain every loss."""

from __future__ import annotations

import inspect
from typing import get_args

import numpy as np
import pytest

from harness.loss_table import DISTILLATION_LOSSES, LOSSES, default_loss, losses_of_kind
from harness.losses.interface import LossTerm
from harness.losses.objective import loss_function
from harness.types import PairPart, QueryPart, StepTexts, TaskKind
from tests.golden_mixtures import mixed_loss_settings, mixed_plan


@pytest.mark.parametrize("name", LOSSES)
def test_an_entry_leads_to_a_function_of_the_parts_of_its_kinds(name: str) -> None:
    """`sts` tasks have pairs, the other kinds have queries; a loss function takes either pairs or queries."""
    signature = inspect.signature(loss_function(name), eval_str=True)
    part_types = {PairPart if kind == "sts" else QueryPart for kind in LOSSES[name].kinds}
    assert [list(signature.parameters.values())[1].annotation] == list(part_types), (
        f"loss {name}: annotate the second parameter of {LOSSES[name].function} with QueryPart, or with PairPart if "
        "its kind in LOSSES is sts"
    )
    assert signature.return_annotation is LossTerm, f"loss {name}: annotate {LOSSES[name].function} with -> LossTerm"


@pytest.mark.parametrize("kind", get_args(TaskKind))
def test_every_kind_of_task_has_a_default_loss_that_needs_nothing_but_its_data(kind: TaskKind) -> None:
    assert default_loss(kind) == losses_of_kind(kind)[0]
    assert default_loss(kind) not in DISTILLATION_LOSSES


@pytest.mark.parametrize("name", LOSSES)
def test_only_losses_of_queries_may_need_a_rankers_scores_or_negatives_or_use_their_options(name: str) -> None:
    entry = LOSSES[name]
    about_queries = entry.needs_ranker_scores or entry.needs_own_negatives or entry.uses_negatives_options
    assert "sts" not in entry.kinds or not about_queries, (
        f"loss {name}: an sts task has neither negatives nor a ranker's scores; leave these fields of its entry False"
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_stands_in_the_golden_equalities(name: str) -> None:
    """A task of the mixture `uneven` has the loss."""
    texts = StepTexts(np.zeros(31, np.int32), np.arange(31), np.ones(31, np.int64))
    losses = {task.name: task.losses for task in mixed_loss_settings()}
    assert any(name in losses[part.task] for part in mixed_plan("uneven", texts).parts), (
        f"loss {name}: add a part to mixed_plan('uneven') and a task of its name with losses=('{name}',) to "
        "mixed_loss_settings, or add it to the losses of a task that is there, in tests/golden_mixtures.py"
    )
