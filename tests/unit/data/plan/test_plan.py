"""The plan of a step is pure, complete, and the same on every rank."""

import json

import numpy as np
import pytest

from harness.data.config import NegativesConfig, PromptsConfig
from harness.data.plan.plan import plan
from harness.data.table.tokenisation import Tokeniser
from harness.types import QueryPart, RaggedLists
from tests.ranks import run_ranks
from tests.tiny import make_data, make_model, make_recipe, text
from tests.unit.data.plan.texts import raw_texts, source_rows


def as_json(step_plan):
    def plain(value):
        return (
            [array.tolist() for array in value.pairs()]
            if isinstance(value, RaggedLists)
            else np.asarray(value).tolist()
        )

    parts = [{f: plain(getattr(p, f)) for f in p.__dataclass_fields__} for p in step_plan.parts]
    return json.dumps(
        [step_plan.texts.source_T.tolist(), step_plan.texts.text_T.tolist(), step_plan.texts.length_T.tolist(), parts]
    )


def test_the_plan_of_a_step_does_not_depend_on_what_was_planned_before(three_tasks):
    """So resume needs only the step number, and ranks need no communication to agree on the plan."""
    alone = as_json(plan(three_tasks, seed=1, step=17))
    for step in range(1, 17):
        plan(three_tasks, seed=1, step=step)
    assert as_json(plan(three_tasks, seed=1, step=17)) == alone


def test_another_seed_or_step_gives_another_plan(three_tasks):
    assert len({as_json(plan(three_tasks, seed=s, step=t)) for s, t in [(0, 1), (1, 1), (0, 2)]}) == 3


def test_queries_positives_and_negatives_are_those_of_the_row(three_tasks):
    step_plan = plan(three_tasks, seed=3, step=2)
    part = step_plan.parts[0]
    source = source_rows(three_tasks[0].data.path)
    for i, row in enumerate(part.row_B):
        assert raw_texts(three_tasks, step_plan, [part.query_B[i]]) == [source[row]["query"]]
        assert (
            raw_texts(three_tasks, step_plan, [part.document_N[part.positive_BP[i, 0]]])[0] in source[row]["positive"]
        )
        negatives = part.negative_BM[i][part.negative_BM[i] >= 0]
        assert raw_texts(three_tasks, step_plan, part.document_N[negatives]) == source[row]["negative"][:2]


def test_pairs_and_scores_are_those_of_the_row(three_tasks):
    step_plan = plan(three_tasks, seed=3, step=2)
    part = step_plan.parts[1]
    source = source_rows(three_tasks[1].data.path)
    for i, row in enumerate(part.row_S):
        assert raw_texts(three_tasks, step_plan, [part.text1_S[i], part.text2_S[i]]) == [
            source[row]["text1"],
            source[row]["text2"],
        ]
        assert part.score_S[i] == source[row]["score"]


def test_texts_with_equal_tokens_are_encoded_once(open_):
    """Texts are compared after prompt, tokenizing and truncation. This tokenizer ignores upper case."""
    long = text(50, 10)
    rows = [
        {"query": text(1), "positive": long + " aral"},
        {"query": text(1).upper(), "positive": long + " btin"},
        {"query": text(2), "positive": text(51)},
    ]
    task = open_("retrieval", rows, quota=3, max_length=8)
    step_plan = plan([task], seed=0, step=1)
    assert len(step_plan.texts) == 4
    assert len(step_plan.parts[0].document_N) == 2


def test_a_prompt_makes_query_and_document_different_texts(open_):
    rows = [{"query": text(i), "positive": text(i)} for i in range(3)]
    assert len(plan([open_("retrieval", rows, "plain", quota=3)], seed=0, step=1).texts) == 3
    prompted = open_("retrieval", rows, "prompted", quota=3, prompts=PromptsConfig(query="aral "))
    assert len(plan([prompted], seed=0, step=1).texts) == 6


@pytest.mark.parametrize(("scope", "expected"), [("task", {"faq"}), ("step", {"faq", "intents"}), ("own", {"faq"})])
def test_the_scope_decides_whose_documents_stand_in_the_table(open_, three_tasks, tmp_path, scope, expected):
    path = tmp_path / "data" / "retrieval.jsonl"
    faq = open_("retrieval", path, "faq", quota=8, negatives=NegativesConfig(scope=scope, per_query=2))
    tasks = [faq, *three_tasks[1:]]
    step_plan = plan(tasks, seed=0, step=1)
    part = step_plan.parts[0]
    assert isinstance(part, QueryPart)
    assert {tasks[t].config.name for t in step_plan.texts.source_T[part.document_N]} == expected
    assert len(np.unique(part.document_N)) == len(part.document_N)


def plan_on_a_rank(folder: str) -> list[str]:
    """Runs on a rank: open the data and return the plans of a few steps."""
    from harness.config import load_recipe
    from harness.run.tasks import open_tasks

    loaded = load_recipe(f"{folder}/tiny.yaml")
    tasks = open_tasks(loaded, Tokeniser(loaded.config.model.name_or_path))
    return [as_json(plan(tasks, seed=0, step=step)) for step in (1, 2, 50)]


@pytest.mark.distributed
def test_all_ranks_compute_the_same_plan(tmp_path):
    """All ranks open the data at the same time: one builds the index, the others wait for it."""
    make_model(tmp_path / "model")
    make_data(tmp_path)
    make_recipe(tmp_path)
    first, second = run_ranks(2, plan_on_a_rank, str(tmp_path))
    assert first == second
    assert len(set(first)) == 3


def test_texts_saved_are_those_that_separate_columns_would_encode_again(open_):
    """Two queries share a positive and a negative; a pair consists of the first query twice: 9 texts, 5 unique ones."""
    rows = [{"query": text(i), "positive": text(10), "negative": [text(20), text(21)][: 1 + i]} for i in range(2)]
    searched = open_("retrieval", rows, quota=2, negatives={"per_query": 2})
    alike = open_("sts", [{"text1": text(0), "text2": text(0), "score": 1.0}], name="sts", quota=1)
    step_plan = plan([searched, alike], seed=0, step=1)
    assert len(step_plan.texts) == 5
    assert step_plan.texts_saved == 2 + 2 + 3 + 2 - 5
