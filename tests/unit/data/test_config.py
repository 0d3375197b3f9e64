"""A task's setting in the recipe changes what it should and nothing else; a wrong setting gives a clear message."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config import RunConfig, dump, load_recipe
from harness.data.config import TaskConfig
from harness.data.plan.plan import plan
from harness.data.table.tokenisation import Tokeniser
from harness.loss_table import LOSSES, LossEntry
from harness.run.tasks import open_tasks
from harness.settings.recipe_file import build
from harness.settings.yaml_text import parse_yaml
from harness.types import PairPart, StepPlan
from tests.tiny import make_data, make_model, make_recipe

Lengths = dict[tuple[str, str], list[int]]


@pytest.fixture
def planned(tmp_path) -> Callable[..., StepPlan]:
    """A function that plans step 3 of the tiny recipe with some keys changed."""
    make_model(tmp_path / "model")
    make_data(tmp_path)
    recipe = str(make_recipe(tmp_path))

    def planned(*overrides: str) -> StepPlan:
        loaded = load_recipe(recipe, overrides)
        tasks = open_tasks(loaded, Tokeniser(loaded.config.model.name_or_path))
        return plan(tasks, seed=0, step=3)

    return planned


def lengths(step_plan: StepPlan) -> Lengths:
    """(task, role) → token lengths of the texts of this role, in the order of the plan."""
    found: Lengths = {}
    for part in step_plan.parts:
        if isinstance(part, PairPart):
            roles = {"text1": part.text1_S, "text2": part.text2_S}
        else:
            roles = {"query": part.query_B, "positive": part.document_N[part.positive_BP[:, 0]]}
        found |= {(part.task, role): step_plan.texts.length_T[rows].tolist() for role, rows in roles.items()}
    return found


CHANGES = [
    ("tasks.faq.prompts.query=ral tin ", {("faq", "query")}),
    ("tasks.faq.prompts.document=ral tin ", {("faq", "positive")}),
    ("tasks.faq.query_max_length=4", {("faq", "query")}),
    ("tasks.faq.document_max_length=4", {("faq", "positive")}),
    ("tasks.similar.prompts.query=ral tin ", {("similar", "text1"), ("similar", "text2")}),
    ("tasks.intents.query_max_length=4", {("intents", "query"), ("intents", "positive")}),
]


@pytest.mark.parametrize(("override", "expected"), CHANGES)
def test_prompts_and_lengths_of_a_task_change_its_texts_of_that_role_and_no_others(planned, override, expected):
    before, step_plan = planned(), planned(override)
    assert {key for key, values in lengths(step_plan).items() if values != lengths(before)[key]} == expected
    for part, other in zip(step_plan.parts, before.parts, strict=True):
        rows = "row_S" if isinstance(part, PairPart) else "row_B"
        assert getattr(part, rows).tolist() == getattr(other, rows).tolist()


def test_the_scope_of_a_task_changes_what_stands_in_its_denominators_and_no_other_part(planned):
    before, step_plan = planned(), planned("tasks.faq.negatives.scope=step")
    faq, *others = zip(before.parts, step_plan.parts, strict=True)
    assert set(faq[1].document_N) > set(faq[0].document_N)
    assert faq[1].query_B.tolist() == faq[0].query_B.tolist()
    for one, other in others:
        for name in one.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_share_in_the_recipe_becomes_the_examples_of_a_step(planned):
    """Of 18 examples `intents` takes 4; tasks of 40 and 30 rows share the other 14: 8 and 6."""
    overrides = ["data.batch=18"]
    for name in ("faq", "similar"):
        overrides += [f"tasks.{name}.quota=null", f"tasks.{name}.share=auto"]
    step_plan = planned(*overrides)
    assert [len(part.row_S if isinstance(part, PairPart) else part.row_B) for part in step_plan.parts] == [8, 6, 4]


RECIPE = """
name: x
model: {{name_or_path: demo-minilm}}
training: {{steps: 2}}
mining: {{exhausted: {exhausted}}}
tasks:
  - {{name: a, kind: {kind}, path: a.jsonl, {settings}}}
  - {{name: b, kind: sts, path: b.jsonl, quota: 2}}
"""


def recipe(kind: str, settings: str, exhausted: str = "keep") -> RunConfig:
    tree = parse_yaml(RECIPE.format(kind=kind, settings=settings, exhausted=exhausted), "r.yaml")
    return build(RunConfig, tree, "r.yaml")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("quota: 2", ("info_nce",)),
        ("quota: 2, loss: kl, negatives: {per_query: 1}", ("kl",)),
        ("quota: 2, loss: [info_nce, margin_mse], negatives: {per_query: 1}", ("info_nce", "margin_mse")),
    ],
)
def test_a_task_has_the_losses_that_it_names_or_that_of_its_kind(settings, expected):
    config = recipe("retrieval", settings)
    assert config.tasks[0].losses == expected
    assert config.tasks[1].losses == ("cosent",)
    assert build(RunConfig, parse_yaml(dump(config), "r.yaml"), "r.yaml") == config


MISTAKES = [
    ("retrieval", "quota: 2, loss: kll", "tasks.a.loss: got kll with kind retrieval, expected info_nce or"),
    ("retrieval", "quota: 2, loss: [info_nce, cosent]", "tasks.a.loss: got info_nce, cosent with kind retrieval"),
    ("sts", "quota: 2, loss: info_nce", "tasks.a.loss: got info_nce with kind sts, expected cosent or angle"),
    ("classification", "quota: 2, loss: kl", "tasks.a.loss: got kl with kind classification, expected info_nce"),
    ("retrieval", "quota: 2, loss: [info_nce, info_nce]", "a list of different ones"),
    ("retrieval", "quota: 2, loss: []", "tasks.a.loss: got [], expected a list of at least 1"),
    ("retrieval", "quota: 2, loss: kl", "tasks.a.negatives.per_query: got 0, expected at least 1 with loss kl"),
    ("retrieval", "quota: 2, loss: kl, negatives: {per_query: 1, bank: b}", "tasks.a.negatives.bank: got b with loss"),
    ("retrieval", "quota: 2, loss: kl, negatives: {per_query: 1, corpus: c}", "tasks.a.negatives.corpus: got c with"),
    ("retrieval", "quota: 2, loss: kl, negatives: {per_query: 1, margin: 0.1}", "tasks.a.negatives: got margin with"),
    ("retrieval", "quota: 2, teacher_temperature: 2", "tasks.a.teacher_temperature: got 2.0 with loss info_nce"),
    ("sts", "quota: 2, positives: all", "tasks.a.positives: got all with kind sts"),
    ("retrieval", "weight: 2", "tasks.a: got neither quota nor share"),
    ("retrieval", "quota: 2, share: auto", "tasks.a: got both quota and share"),
    ("retrieval", "share: 2.0", "tasks.a.share: got 2.0, expected 'auto' or a number of at most 1"),
    ("retrieval", "share: auto", "data.batch: got none, expected the examples of a step"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), MISTAKES)
def test_a_setting_that_does_not_fit_is_an_error_that_names_the_knob(kind, settings, message):
    with pytest.raises(ValueError, match=r"^r\.yaml: ") as caught:
        recipe(kind, settings)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_loss_on_own_negatives_that_reads_no_rankers_scores_may_have_a_bank(monkeypatch):
    """It asks for negatives of its own, and obeys no option that leaves some out."""
    monkeypatch.setitem(LOSSES, "triplet", LossEntry(("retrieval",), "triplet:term", needs_own_negatives=True))
    settings = "quota: 2, loss: triplet, negatives: {per_query: 1, bank: b, corpus: c, offset: 3}"
    assert recipe("retrieval", settings).tasks[0].losses == ("triplet",)
    with pytest.raises(ValueError, match=r"negatives\.per_query: got 0, expected at least 1 with loss triplet"):
        recipe("retrieval", "quota: 2, loss: triplet, negatives: {bank: b}")
    with pytest.raises(ValueError, match=r"negatives: got margin with loss triplet, which masks nothing"):
        recipe("retrieval", "quota: 2, loss: triplet, negatives: {per_query: 1, bank: b, margin: 0.1}")


@pytest.mark.parametrize(
    "option", ["margin: 0.1", "hardness: 5.0", "symmetric: true", "same_tower: queries", "guide: true"]
)
def test_every_option_of_negatives_that_only_some_losses_obey_is_refused_with_the_others(option):
    with pytest.raises(ValueError, match=f"negatives: got {option.partition(':')[0]} with loss kl, which masks"):
        recipe("retrieval", f"quota: 2, loss: kl, negatives: {{per_query: 1, {option}}}")


def test_a_task_that_distils_cannot_have_its_negatives_ranked_anew():
    """The ranker's scores exist for the listed negatives only."""
    distilled = "quota: 2, loss: kl, negatives: {per_query: 1}"
    with pytest.raises(ValueError, match=r"mining: got re-ranking with tasks\.a\.loss kl"):
        recipe("retrieval", distilled, "remine")
    recipe("retrieval", distilled, "wrap")


def test_the_data_of_a_task_that_distils_must_be_scored_before_training_starts(tmp_path: Path):
    make_model(tmp_path / "model")
    make_data(tmp_path)
    loaded = load_recipe(str(make_recipe(tmp_path)), ["tasks.faq.loss=kl"])
    with pytest.raises(ValueError, match=r"retrieval\.jsonl:1: pos_scores: got no score"):
        open_tasks(loaded, Tokeniser(loaded.config.model.name_or_path))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": {"query": ["a", "b"]}}, r"tasks\.t\.columns\.query: got 2 names, expected one"),
        ({"columns": {"qurey": "a"}}, r"tasks\.t\.columns: got 'qurey' with kind retrieval, expected our names"),
        ({"kind": "sts", "corpus": "c.jsonl"}, r"tasks\.t\.corpus: got one with kind sts"),
        ({"path": "data/class_no_in_batch_neg.jsonl"}, r"tasks\.t\.negatives\.scope: got none for .* scope: own"),
    ],
)
def test_where_rows_lie_and_how_they_are_read_is_checked(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TaskConfig.model_validate({"name": "t", "kind": "retrieval", "path": "a.jsonl", "quota": 1} | keys)
    assert str(caught.value).count("expected") == 1


def test_a_task_may_have_several_paths_and_map_its_columns() -> None:
    columns = {"query": "question", "negative": ["a", "b"], "ignore": "label"}
    keys = {"name": "t", "kind": "retrieval", "path": ["a.jsonl", "b.csv"], "quota": 1, "columns": columns}
    task = build(TaskConfig, keys, "a.yaml")
    assert task.path == ("a.jsonl", "b.csv")
    assert task.columns == {"query": "question", "negative": ("a", "b"), "ignore": "label"}
    assert build(TaskConfig, task.model_dump(mode="json"), "a.yaml") == task
    with pytest.raises(ValueError, match=r"^a\.yaml: path: got 5, expected .* or .*$"):
        build(TaskConfig, keys | {"path": 5}, "a.yaml")
