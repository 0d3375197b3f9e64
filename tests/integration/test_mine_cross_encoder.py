"""`harness mine --cross-encoder`: the bank, the audit file and the rows to distil are those of the cross-encoder."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.mine import mine_bank
from harness.data.bank.file import FACTS, BankFacts, open_bank
from harness.mining.cross_encoder import pairs as pairs_module
from harness.mining.mine import MineSettings
from harness.search.block_store import BlockStore
from tests.integration.test_mine import corpus as corpus  # the fixture
from tests.integration.test_mine import start_from_ranking, table
from tests.ranks import run_ranks
from tests.tiny import make_cross_encoder

pytestmark = pytest.mark.distributed
LIMITS = {"relative": 0.9, "relabel": 1.02}
FILES = ("candidate_RC.npy", "score_RC.npy", "count_R.npy", "audit.jsonl", "train.jsonl.gz", FACTS)


@pytest.fixture(scope="module")
def ranker(folder: Path) -> Path:
    return make_cross_encoder(folder / "ranker", folder / "model")


def mine(folder: str, out: str, corpus: str | None, **settings: Any) -> None:
    """Runs on a rank: mine into the folder `out`, or continue it."""
    relabel, ranker = settings.pop("relabel", None), settings.pop("ranker", "ranker")
    mine_bank(
        f"{folder}/model",
        f"{folder}/retrieval.jsonl",
        corpus=corpus,
        out=Path(folder, out),
        settings=MineSettings(num_candidates=8, **settings),
        max_length=24,
        pooling="mean",
        cross_encoder=f"{folder}/{ranker}",
        relabel=relabel,
    )


def run_mine(folder: Path, out: str, corpus: Path | None, **settings: Any) -> Path:
    shutil.rmtree(folder / out, ignore_errors=True)
    mine(str(folder), out, None if corpus is None else str(corpus), **settings)
    return folder / out


def rows_of(bank: Path) -> list[dict[str, Any]]:
    with gzip.open(bank / "train.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def changes_of(bank: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bank / "audit.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_score_order_and_change_is_that_of_the_cross_encoder_asked_pair_by_pair(folder, corpus, ranker) -> None:
    """The candidates are those of the search without limits; each is asked about alone."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(ranker), device="cpu")
    plain, bank = folder / "plain", run_mine(folder, "rescored", corpus, **LIMITS)
    shutil.rmtree(plain, ignore_errors=True)
    mine_bank(
        str(folder / "model"), str(folder / "retrieval.jsonl"), corpus=str(corpus), out=plain,
        settings=MineSettings(num_candidates=8), max_length=24, pooling="mean",
    )  # fmt: skip
    data, documents = table(folder, "retrieval", folder / "retrieval.jsonl"), table(folder, "corpus", corpus)
    source = [json.loads(line) for line in (folder / "retrieval.jsonl").read_text().splitlines()]
    searched = open_bank(plain, data, documents, offset=0)
    expected_changes, first = [], 0
    for row, (given, example) in enumerate(zip(rows_of(bank), source, strict=True)):
        count = int(searched.count(np.array([row]))[0])
        ids = searched.text_ids(np.array([row]), np.arange(count)[None])[0]
        candidates = [one for one, _ in documents.read_texts(ids)]
        positives = [float(model.predict([(example["query"], one)])[0]) for one in example["positive"]]
        drop, relabel = 0.9 * min(positives), 1.02 * max(positives)
        negatives, more, highest = [], [], -np.inf
        for rank, one in enumerate(candidates):
            score = float(model.predict([(example["query"], one)])[0])
            highest = max(highest, score)
            change = "relabelled" if score >= relabel else "dropped" if score >= drop else None
            expected_changes += [] if change is None else [(example["query"], one, rank, change)]
            negatives += [] if change else [(score, one)]
            more += [(score, one)] if change == "relabelled" else []
        first += max(positives) > highest
        negatives.sort(key=lambda entry: -entry[0])
        assert given["query"] == example["query"]
        assert given["pos"] == [*example["positive"], *(one for _, one in more)]
        assert given["neg"] == [one for _, one in negatives]
        np.testing.assert_allclose(given["pos_scores"], [*positives, *(score for score, _ in more)], atol=1e-5)
        np.testing.assert_allclose(given["neg_scores"], [score for score, _ in negatives], atol=1e-5)
    changes = changes_of(bank)
    assert [(line["query"], line["document"], line["rank"], line["change"]) for line in changes] == expected_changes
    kinds = [change for *_, change in expected_changes]
    assert min(kinds.count("dropped"), kinds.count("relabelled")) > 5
    facts = BankFacts.read(bank)
    counts = {"scored": int(searched.count_R.sum()), **{name: kinds.count(name) for name in ("dropped", "relabelled")}}
    assert 0 < first < 40
    assert facts.search["cross_encoder"] == {**counts, "queries": 40, "positive_first": first}
    assert facts.filters == {"relative": 0.9, "margin": None, "relabel": 1.02}


def test_the_bank_holds_the_negatives_of_the_rows_to_distil(folder, corpus, ranker) -> None:
    bank = run_mine(folder, "rescored", corpus, **LIMITS)
    data, documents = table(folder, "retrieval", folder / "retrieval.jsonl"), table(folder, "corpus", corpus)
    opened = open_bank(bank, data, documents, offset=0)
    for row, given in enumerate(rows_of(bank)):
        count = int(opened.count(np.array([row]))[0])
        ids = opened.text_ids(np.array([row]), np.arange(count)[None])[0]
        assert [one for one, _ in documents.read_texts(ids)] == given["neg"]
        assert opened.scores(np.array([row]), np.arange(count)[None])[0].tolist() == given["neg_scores"]


def test_a_killed_start_scores_only_what_is_left_and_two_ranks_find_the_same(
    folder, corpus, ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = run_mine(folder, "whole", corpus, **LIMITS)
    monkeypatch.setattr(pairs_module, "BLOCK_PAIRS", 64)  # 8 queries
    write, scored = BlockStore.write, []

    def write_two(store: BlockStore, first: int, found: Any) -> None:
        write(store, first, found)
        if store.folder.name == "scored_candidates" and first == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BlockStore, "write", write_two)
        with pytest.raises(KeyboardInterrupt):
            run_mine(folder, "killed", corpus, **LIMITS)

    def write_and_note(store: BlockStore, first: int, found: Any) -> None:
        scored.append((store.folder.name, first))
        write(store, first, found)

    monkeypatch.setattr(BlockStore, "write", write_and_note)
    mine(str(folder), "killed", str(corpus), **LIMITS)
    assert scored == [("scored_candidates", first) for first in (16, 24, 32)]
    shutil.rmtree(folder / "ranks", ignore_errors=True)
    run_ranks(2, mine_with_limits, str(folder), str(corpus))
    for other in ("killed", "ranks"):
        assert not (folder / other / "work").exists()
        assert sorted(path.name for path in (folder / other).iterdir()) == sorted(FILES)
        for found, expected in zip(rows_of(folder / other), rows_of(uninterrupted), strict=True):
            assert (found["query"], found["pos"], found["neg"]) == (expected["query"], expected["pos"], expected["neg"])
            np.testing.assert_allclose(found["neg_scores"], expected["neg_scores"], atol=1e-5)
        assert [line["change"] for line in changes_of(folder / other)] == [
            line["change"] for line in changes_of(uninterrupted)
        ]


def mine_with_limits(folder: str, corpus: str) -> None:
    mine(folder, "ranks", corpus, **LIMITS)


def distil(folder: str, bank: str) -> None:
    """Runs on a rank."""
    from harness.config import load_recipe
    from harness.trainer import train

    changes = [
        f"output={folder}/distilled",
        f"tasks.faq.path={bank}/train.jsonl.gz",
        "tasks.faq.loss=[info_nce, kl]",
        "training.steps=2",
        "evaluation={}",
        "checkpoint.every=0",
    ]
    train(load_recipe(f"{folder}/tiny.yaml", changes))


def test_a_run_distils_the_scores_and_takes_them_for_no_s0(folder, corpus, ranker) -> None:
    """The rows are read as they are written; the bank's scores are no similarities of the starting model."""
    bank = run_mine(folder, "to_distil", corpus, **LIMITS)
    run_ranks(1, distil, str(folder), str(bank))
    rows = [json.loads(line) for line in (folder / "distilled" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss/faq"]) for row in rows)
    message = run_ranks(1, start_from_ranking, str(folder), str(bank))[0]
    assert "ranked with other cross_encoder than the run starts with" in message


def test_a_ranker_that_scores_all_alike_puts_no_positive_first(folder, corpus, ranker) -> None:
    """A saturated sigmoid, or weights that learned nothing: the summary must not call it one that knows such texts."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(ranker, folder / "constant", dirs_exist_ok=True)
    weights = load_file(folder / "constant" / "model.safetensors")
    weights["classifier.weight"].zero_()
    save_file(weights, folder / "constant" / "model.safetensors", metadata={"format": "pt"})
    bank = run_mine(folder, "alike", corpus, ranker="constant")
    assert BankFacts.read(bank).search["cross_encoder"]["positive_first"] == 0


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda folder: make_cross_encoder(folder / "x", folder / "model", num_labels=3),
            "with 3 labels, expected a rank",
        ),
        (lambda folder: folder / "model", "whose model is BertModel, expected a ranker"),
        (lambda folder: folder / "absent", "absent"),
        (lambda folder: folder / "sts", "without config.json or modules.json"),
    ],
)
def test_what_is_no_ranker_costs_a_line_before_anything_is_encoded(folder, make, problem) -> None:
    from harness.mining.cross_encoder.scorer import CrossEncoderScorer

    with pytest.raises(ValueError, match=problem) as raised:
        CrossEncoderScorer.load(str(make(folder)))
    assert str(raised.value).startswith("--cross-encoder: ")
    assert "\n" not in str(raised.value)


def test_relabelling_needs_a_cross_encoder(folder) -> None:
    with pytest.raises(ValueError, match=r"--relabel: got 1 without --cross-encoder"):
        mine_bank(
            str(folder / "model"), str(folder / "retrieval.jsonl"), corpus=None, out=folder / "none",
            settings=MineSettings(), relabel=1.0,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [("margin", float("nan")), ("margin", float("inf")), ("relabel", float("inf"))]
)
def test_a_limit_that_is_no_number_is_refused(folder, name, value) -> None:
    """It would drop nothing, and stand in bank.json as a filter."""
    settings = MineSettings(margin=value) if name == "margin" else MineSettings()
    with pytest.raises(ValueError, match=rf"^--{name}: got (nan|inf), expected a finite number; leave it out"):
        mine_bank(
            str(folder / "model"), str(folder / "retrieval.jsonl"), corpus=None, out=folder / "none", settings=settings,
            cross_encoder=str(folder / "ranker"), relabel=value if name == "relabel" else None,
        )  # fmt: skip
