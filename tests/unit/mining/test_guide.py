"""The guide masks exactly the documents of its definition and keeps earlier exclusions; what it refuses, and why."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch

from harness import comm
from harness.config import load_recipe
from harness.data.config import NegativesConfig
from harness.data.plan.plan import plan
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import config_of_folder, load_encoder
from harness.mining import guide as guide_module
from harness.mining.config import GuideConfig
from harness.mining.guide import Guide, load_guide
from harness.run.tasks import open_tasks
from harness.types import EncodingRole, QueryPart, RaggedLists, StepPlan
from tests import golden
from tests.golden_negatives import masked_by_loops, tiny_guide
from tests.ranks import run_ranks
from tests.tiny import make_model, text

TEXTS = golden.tiny_texts()
PLAN = golden.tiny_plan([len(text) for text in TEXTS])


def excluded(part: QueryPart) -> list[set[int]]:
    return [set(part.excluded_BX[i].tolist()) for i in range(len(part.excluded_BX))]


@pytest.mark.parametrize("block_cells", [1 << 24, 1])
@pytest.mark.parametrize("margin", [-0.02, 0.0, 0.02])
def test_the_guide_masks_what_loops_over_the_definition_mask(margin, block_cells, monkeypatch):
    """Compares all documents with scope `task`, only own negatives with scope `own`; in one block or query by query."""
    monkeypatch.setattr(guide_module, "_BLOCK_CELLS", block_cells)
    encoder = golden.tiny_encoder(seed=8)
    masked = tiny_guide(encoder, TEXTS, margin=margin).mask(PLAN)
    expected = masked_by_loops(PLAN, encoder, TEXTS, margin=margin)
    for one, other, before in zip(masked.parts[:2], expected.parts[:2], PLAN.parts[:2], strict=True):
        assert excluded(one) == excluded(other)
        assert excluded(one) != excluded(before)
        assert all(
            excluded_before <= found for excluded_before, found in zip(excluded(before), excluded(one), strict=True)
        )
    assert masked.parts[2:] == PLAN.parts[2:]


def test_several_positives_are_judged_by_the_lowest_and_never_masked():
    part = replace(PLAN.parts[0], positive_BP=np.array([[0, 7], [1, -1], [2, 0], [3, 9], [4, -1]]))
    step_plan, encoder = replace(PLAN, parts=(part,)), golden.tiny_encoder(seed=8)
    masked = tiny_guide(encoder, TEXTS).mask(step_plan).parts[0]
    assert excluded(masked) == excluded(masked_by_loops(step_plan, encoder, TEXTS).parts[0])


def test_a_task_without_a_guide_keeps_its_plan():
    masked = tiny_guide(golden.tiny_encoder(seed=8), TEXTS, {"intents"}).mask(PLAN)
    assert masked.parts[0] is PLAN.parts[0]
    assert masked.parts[1] is not PLAN.parts[1]


def test_a_copy_of_the_positive_is_not_above_it(monkeypatch):
    """Two micro-batches can round the same text differently; this must not change whether it is masked."""
    texts = [list(text) for text in TEXTS]
    texts[10] = texts[5]  # documents 5 and 0 of faq
    part = replace(
        PLAN.parts[0], positive_BP=np.zeros((5, 1), np.int64), excluded_BX=RaggedLists.of_padded(np.full((5, 0), -1))
    )
    guide = tiny_guide(golden.tiny_encoder(seed=8), texts, margin=0.0)
    exact, random = guide._encode.read_and_encode, np.random.default_rng(0)

    def rounded(*arguments):
        embedding = exact(*arguments)
        return embedding * (1 + 2e-7 * random.standard_normal(embedding.shape)).astype(np.float32)

    monkeypatch.setattr(guide._encode, "read_and_encode", rounded)
    masked = guide.mask(replace(PLAN, parts=(part,)))
    assert all(5 not in found for found in excluded(masked.parts[0]))


def test_the_guide_reads_raw_texts_with_its_own_prompts(folder):
    """Compared with the encoder run on one text at a time. The task's prompt must not be used by the guide."""
    overrides = [
        "tasks.faq.negatives.guide=true",
        f"guide.name_or_path={folder / 'model'}",
        "tasks.faq.prompts.query=dip ",
    ]
    loaded = load_recipe(str(folder / "tiny.yaml"), overrides)
    tasks = open_tasks(loaded, Tokeniser(loaded.config.model.name_or_path))
    settings = GuideConfig(
        name_or_path=str(folder / "model"), margin=-0.05, max_length=16, prompts={"query": "ral tin "}
    )
    step_plan = plan(tasks, seed=0, step=1)
    found = load_guide(settings, tasks).mask(step_plan).parts[0]
    encoder, tokeniser = load_encoder(config_of_folder(settings.name_or_path)).eval(), Tokeniser(settings.name_or_path)

    def embed(row: int, prompt: str) -> torch.Tensor:
        text = tasks[step_plan.texts.source_T[row]].data.read_texts(step_plan.texts.text_T[[row]])[0][0]
        batch = tokeniser.pad(tokeniser.encode([prompt + text], 16))
        with torch.no_grad():
            return torch.nn.functional.normalize(encoder(batch.input_ids_BL, batch.attention_mask_BL), dim=1)[0]

    document_ND = torch.stack([embed(row, "") for row in found.document_N])
    num_masked = 0
    for i, row in enumerate(found.query_B):
        similarity_N = document_ND @ embed(row, "ral tin ")
        near = (similarity_N > similarity_N[found.positive_BP[i, 0]] - 0.05 + 1e-5).nonzero()[:, 0].tolist()
        excluded_before = excluded(step_plan.parts[0])[i]
        assert excluded(found)[i] == (set(near) | excluded_before) - {int(found.positive_BP[i, 0])}
        num_masked += len(excluded(found)[i] - excluded_before)
    assert num_masked > 0


def masked_on_this_rank(margin: float) -> StepPlan:
    return tiny_guide(golden.tiny_encoder(seed=8), TEXTS, margin=margin).mask(PLAN)


@pytest.mark.distributed
def test_every_rank_masks_what_all_ranks_have_found():
    """With `loss.gather: ring` a rank scores the queries it has encoded, which are others than those it has judged."""
    of_one_rank = masked_on_this_rank(-0.02)
    for masked in run_ranks(2, masked_on_this_rank, -0.02):
        for number, before in enumerate(PLAN.parts[:2]):
            assert excluded(masked.parts[number]) == excluded(of_one_rank.parts[number]) != excluded(before)


def metrics_on_this_rank() -> dict[str, float]:
    """Runs on a rank: metrics of this rank's share, with the objective of the golden equalities."""
    step_plan = tiny_guide(golden.tiny_encoder(seed=8), TEXTS).mask(PLAN)
    table_TD = torch.randn(len(TEXTS), 24, generator=torch.Generator().manual_seed(0))
    output = golden.tiny_objective("chunked")(step_plan, table_TD, share=(comm.rank(), comm.world_size()))
    return {name: float(value) for name, value in output.metrics.items()}


@pytest.mark.distributed
def test_the_loss_and_the_count_of_masked_documents_do_not_depend_on_the_number_of_ranks():
    of_one_rank, shares = metrics_on_this_rank(), run_ranks(2, metrics_on_this_rank)
    summed = {name: sum(share[name] for share in shares) for name in of_one_rank}
    assert summed == pytest.approx(of_one_rank, rel=1e-5)
    assert summed["false_negatives_masked"] == of_one_rank["false_negatives_masked"]
    assert all(share["false_negatives_masked"] for share in shares)


def texts_read_on_this_rank() -> list[str]:
    guide, read = tiny_guide(golden.tiny_encoder(seed=8), TEXTS), []
    table = guide._tables[0]
    read_texts = table.read_texts
    table.read_texts = lambda ids: [read.append(text) or (text, prompt) for text, prompt in read_texts(ids)]
    guide.mask(PLAN)
    return read


@pytest.mark.distributed
def test_a_rank_reads_the_texts_that_it_encodes_and_no_others():
    one, other = run_ranks(2, texts_read_on_this_rank)
    assert sorted(one + other) == sorted(texts_read_on_this_rank())
    assert abs(len(one) - len(other)) <= 2  # they differ by at most one query and one document


def test_a_text_that_is_query_and_document_is_read_in_either_role(open_, tmp_path):
    """Compared with the guide's encoder run on one text at a time, with a prompt for each role."""
    both = text(1)
    rows = [{"query": both, "positive": text(100)}, {"query": text(2), "positive": both}]
    rows += [{"query": text(i), "positive": text(100 + i), "negative": both} for i in range(3, 6)]
    tasks = [open_("retrieval", rows, "faq", quota=5, negatives=NegativesConfig(per_query=1, guide=True))]
    step_plan = plan(tasks, seed=0, step=1)
    model = make_model(tmp_path / "model")
    prompts = {"query": "ral tin ", "document": "bdip "}
    settings = GuideConfig(name_or_path=str(model), margin=-0.01, max_length=16, prompts=prompts)
    found = excluded(load_guide(settings, tasks).mask(step_plan).parts[0])
    encoder, tokeniser = load_encoder(config_of_folder(str(model))).eval(), Tokeniser(str(model))

    def embed(row: int, role: str) -> torch.Tensor:
        raw = tasks[0].data.read_texts(step_plan.texts.text_T[[row]])[0][0]
        batch = tokeniser.pad(tokeniser.encode([prompts[role] + raw], 16))
        with torch.no_grad():
            return torch.nn.functional.normalize(encoder(batch.input_ids_BL, batch.attention_mask_BL), dim=1)[0]

    part = step_plan.parts[0]
    assert set(part.query_B) & set(part.document_N)
    document_ND, excluded_before = torch.stack([embed(row, "document") for row in part.document_N]), excluded(part)
    as_query_ND = torch.stack([embed(row, "query") for row in part.document_N])
    depends = 0
    for i, row in enumerate(part.query_B):
        positive = int(part.positive_BP[i, 0])
        near, wrong = (
            {
                n
                for n, s in enumerate(unit_ND @ embed(row, "query"))
                if s > document_ND[positive] @ embed(row, "query") - 0.01 + 1e-5
            }
            for unit_ND in (document_ND, as_query_ND)
        )
        assert found[i] == (near | excluded_before[i]) - {positive}
        depends += near != wrong
    assert depends


def test_texts_of_a_classification_task_are_compared_as_what_they_are_trained_as():
    """Texts of classification are sentences, so the guide puts its prompt of sentences before all of them."""
    guide = tiny_guide(golden.tiny_encoder(seed=8), TEXTS)
    table = guide._tables[0]
    intents = SimpleNamespace(name="intents", kind="classification", read_texts=table.read_texts)
    roles = Guide(guide._encode, [table, intents], {"intents"}, 0.0, identity="")._document_roles(PLAN)
    assert [get_args(EncodingRole)[code] for code in roles[5:25]] == ["document"] * 12 + ["sentence"] * 8


def test_similarities_are_full_float32_whatever_the_process_has_asked_for(monkeypatch):
    guide, seen = tiny_guide(golden.tiny_encoder(seed=8), TEXTS), []
    exact = guide._encode.read_and_encode

    def watched(*arguments):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return exact(*arguments)

    monkeypatch.setattr(guide._encode, "read_and_encode", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        guide.mask(PLAN)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {"ieee"}


def test_a_guide_that_cannot_be_loaded_is_said_in_one_line_that_names_it(tmp_path):
    with pytest.raises(
        ValueError, match=r"^guide: got .*nowhere, which cannot be loaded \(model\.name_or_path"
    ) as error:
        load_guide(GuideConfig(name_or_path=str(tmp_path / "nowhere")), [])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["tasks.faq.negatives.guide=true"], "tasks.faq.negatives.guide: got true without a guide"),
        (["guide.name_or_path=some/model"], 'guide: got the text "some/model", but no task asks for it'),
        (["tasks.intents.negatives.same_tower=queries"], "same_tower: got queries with scope own"),
        (
            ["tasks.faq.negatives={guide: true, same_tower: both}"],
            "tasks.faq.negatives.same_tower: got both with guide true",
        ),
        (["tasks.faq.negatives={hardness: 5.0}"], "hardness: got 5.0 with per_query 0"),
        (["tasks.faq.negatives.hardness=0"], "greater than 0"),
        (
            ["tasks.faq.negatives.symmetric=true", "tasks.faq.loss=kl"],
            "tasks.faq.negatives: got symmetric with loss kl",
        ),
    ],
)
def test_options_of_negatives_that_cannot_work_are_refused(folder, overrides, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        load_recipe(str(folder / "tiny.yaml"), overrides)
