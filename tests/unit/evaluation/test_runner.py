"""An encode function is evaluated on tiny data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from harness import comm
from harness.evaluation.kinds import retrieval
from harness.evaluation.kinds.table import KINDS, MAIN_METRIC, EvaluationData, EvaluationKind
from harness.evaluation.runner import evaluate, load
from harness.types import EncodingRole
from tests.ranks import run_ranks

WIDTH = 8
SCORED: tuple[EvaluationKind, ...] = ("retrieval", "sts", "classification")  # the kinds in the fixture `paths`


class Encoder:
    """Embeds a text by the number at its end and records its calls."""

    def __init__(self, spoil: float | None = None) -> None:
        self.calls: list[tuple[list[str], EncodingRole]] = []
        self.spoil = spoil

    def __call__(self, texts: Sequence[str], role: EncodingRole) -> np.ndarray:
        self.calls.append((list(texts), role))
        rows = np.zeros((len(texts), WIDTH), dtype=np.float32)
        for i, text in enumerate(texts):
            generator = np.random.default_rng(int(text.split()[-1]))
            rows[i] = generator.standard_normal(WIDTH)
        if self.spoil is not None:
            rows[0, 0] = self.spoil
        return rows


def write(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Data sets in which a query's relevant document has the query's number; STS and classification repeat texts."""
    faq = tmp_path / "retrieval" / "faq"
    write(faq / "corpus.jsonl", [{"_id": f"d{i}", "title": "", "text": f"answer {i}"} for i in range(12)])
    write(faq / "queries.jsonl", [{"_id": f"q{i}", "text": f"question {i}"} for i in range(12)])
    (faq / "qrels").mkdir()
    (faq / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(5))
    )
    pairs = [{"text1": f"a {i % 4}", "text2": f"b {i}", "score": float(i % 4 == i) + i / 100} for i in range(20)]
    write(tmp_path / "sts" / "pairs" / "test.jsonl", pairs)
    labelled = [{"text": f"text {i % 30}", "label": "even" if i % 2 == 0 else "odd"} for i in range(40)]
    write(tmp_path / "classification" / "parity" / "train.jsonl", labelled)
    write(tmp_path / "classification" / "parity" / "test.jsonl", labelled[:10])
    return [str(faq), str(tmp_path / "sts" / "pairs" / "test.jsonl"), str(tmp_path / "classification" / "parity")]


def test_every_data_set_gets_the_metrics_of_its_kind(paths: list[str]) -> None:
    results = evaluate(Encoder(), paths)
    assert list(results) == ["faq", "pairs", "parity"]
    assert results["faq"]["ndcg_at_10"] == results["faq"]["mrr_at_10"] == 1.0
    assert results["pairs"]["spearman"] > 0.5
    for metrics, kind in zip(results.values(), SCORED, strict=True):
        assert sorted(metrics) == sorted(KINDS[kind].metrics)


@pytest.fixture
def file_paths(tmp_path: Path) -> list[str]:
    """Data sets that `Encoder` scores perfectly: texts with equal numbers have equal embeddings."""
    ranked = [
        {"query": f"question {i}", "positive": f"answer {i}", "negative": [f"answer {i + 1}", f"answer {i + 2}"]}
        for i in range(6)
    ]
    write(tmp_path / "ranked.jsonl", ranked)
    write(tmp_path / "groups.jsonl", [{"text": f"word{i} {i % 3}", "label": i % 3} for i in range(12)])
    same = [{"text1": f"a {i}", "text2": f"b {i + i % 2}", "label": 1 - i % 2} for i in range(8)]
    write(tmp_path / "same.jsonl", same)
    return [str(tmp_path / f"{name}.jsonl") for name in ("ranked", "groups", "same")]


def test_reranking_clustering_and_pair_classification_are_scored_from_single_files(file_paths: list[str]) -> None:
    encoder = Encoder()
    assert evaluate(encoder, file_paths) == {
        "ranked": dict.fromkeys(("map", "mrr", "map_at_1000", "mrr_at_10"), 1.0),
        "groups": {"v_measure": pytest.approx(1.0)},
        "same": {"cosine_ap": 1.0, "max_ap": 1.0},
    }
    questions, answers, *others = encoder.calls
    assert questions == ([f"question {i}" for i in range(6)], "query")
    assert answers == ([f"answer {i}" for i in range(8)], "document")  # every text once
    assert [role for _, role in others] == ["sentence", "sentence"]
    assert [fact["rows"] for fact in load(file_paths).facts] == [6, 12, 8]
    assert evaluate(Encoder(), file_paths, [WIDTH])["groups"][f"v_measure@{WIDTH}"] == pytest.approx(1.0)


def test_a_query_that_is_a_document_ranks_as_many_others_as_any_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own document is left out, so it needs one more: else the last of the ranked ones would be missing."""
    monkeypatch.setattr(retrieval, "TOP_K", 3)
    write(tmp_path / "corpus.jsonl", [{"_id": str(i), "text": f"text {i}"} for i in range(6)])
    write(tmp_path / "queries.jsonl", [{"_id": "0", "text": "text 0"}])
    (tmp_path / "qrels").mkdir()
    cosine = Encoder()([f"text {i}" for i in range(6)], "document") @ Encoder()(["text 0"], "query")[0]
    cosine /= np.linalg.norm(Encoder()([f"text {i}" for i in range(6)], "document"), axis=1)
    third = [i for i in np.argsort(-cosine) if i][2]
    (tmp_path / "qrels" / "test.tsv").write_text(f"0\t{third}\t1\n")
    assert evaluate(Encoder(), [str(tmp_path)])[tmp_path.name]["recall_at_10"] == 1.0


def test_no_two_kinds_have_the_same_main_metric() -> None:
    """The main metric of stored results is found by its name."""
    everywhere = [metric for one in KINDS.values() for metric in one.metrics]
    assert [everywhere.count(main) for main in MAIN_METRIC.values()] == [1] * len(KINDS)


def test_each_text_is_encoded_once_and_only_if_a_metric_needs_it(paths: list[str]) -> None:
    encoder = Encoder()
    evaluate(encoder, paths)
    for texts, _ in encoder.calls:
        assert len(set(texts)) == len(texts)
    questions, answers, pairs, labelled = encoder.calls
    assert questions == ([f"question {i}" for i in range(5)], "query")  # queries without judgements are left out
    assert sorted(answers[0]) == sorted(f"answer {i}" for i in range(12))
    assert answers[1] == "document"
    assert pairs[1] == labelled[1] == "sentence"  # these texts do not get a retrieval prompt
    assert len(labelled[0]) <= 30


def test_matryoshka_dims_give_the_main_metric_of_each_prefix(paths: list[str]) -> None:
    results = evaluate(Encoder(), paths, matryoshka_dims=[2, 4, WIDTH])

    def prefix(texts: Sequence[str], role: EncodingRole) -> np.ndarray:
        rows = Encoder()(texts, role)[:, :4]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    shorter = evaluate(prefix, paths)
    for name, main in zip(results, (MAIN_METRIC[kind] for kind in SCORED), strict=True):
        assert results[name][f"{main}@4"] == pytest.approx(shorter[name][main], abs=1e-6)
        assert results[name][f"{main}@{WIDTH}"] == results[name][main]
        assert f"{main}@2" in results[name]
    assert results["pairs"]["spearman@2"] != results["pairs"]["spearman"]
    with pytest.raises(ValueError, match=r"got Matryoshka dim 9, expected 1 to 8; set model\.matryoshka_dims"):
        evaluate(Encoder(), paths, matryoshka_dims=[9])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_an_error(paths: list[str], value: float) -> None:
    with pytest.raises(ValueError, match="faq: got embeddings with inf or nan"):
        evaluate(Encoder(spoil=value), paths)


def test_bad_data_are_found_before_anything_is_encoded(paths: list[str], tmp_path: Path) -> None:
    encoder = Encoder()
    with pytest.raises(ValueError, match="no such file"):
        evaluate(encoder, [*paths, str(tmp_path / "absent")])
    assert encoder.calls == []


def test_loaded_data_are_not_read_again_and_say_where_they_came_from(paths: list[str]) -> None:
    expected = evaluate(Encoder(), paths)
    loaded = load(paths)
    assert [(fact["name"], fact["path"], fact["kind"], fact["rows"]) for fact in loaded.facts] == [
        ("faq", paths[0], "retrieval", 5),
        ("pairs", paths[1], "sts", 20),
        ("parity", paths[2], "classification", 10),
    ]
    assert loaded.facts[1]["hash"] == hashlib.sha256(Path(paths[1]).read_bytes()).hexdigest()
    for file in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        with (Path(paths[0]) / file).open("a") as stream:
            stream.write("\n")
        changed = load(paths).facts
        assert changed[0]["hash"] != loaded.facts[0]["hash"]
        assert changed[1:] == loaded.facts[1:]
    for path in paths:
        Path(path).rename(path + ".gone")
    assert evaluate(Encoder(), loaded) == expected


def score_on_a_rank(paths: list[str], spoil: float | None) -> tuple[int, object]:
    """Runs on a rank: return the number of data sets that this rank scored, and the results or the error."""
    scored: list[EvaluationData] = []

    def count(original: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
        def score(data: EvaluationData, *arguments: np.ndarray) -> dict[str, float]:
            scored.append(data)
            return original(data, *arguments)

        return score

    for kind in KINDS.values():
        kind.score = count(kind.score)  # type: ignore[method-assign]
    outcome: object
    try:
        outcome = evaluate(Encoder(spoil if comm.is_main() else None), paths, [4])
    except ValueError as error:
        outcome = str(error)
    return len(scored), outcome


@pytest.mark.distributed
def test_rank_0_alone_scores_and_all_ranks_have_its_results_or_its_error(
    paths: list[str], file_paths: list[str]
) -> None:
    """With an error, the other ranks would wait for the failed rank in the next collective."""
    paths = [*paths, file_paths[0]]  # to rerank: each rank has a share of the documents
    expected = evaluate(Encoder(), paths, [4])
    assert run_ranks(2, score_on_a_rank, paths, None) == [(8, expected), (0, expected)]
    first, second = run_ranks(2, score_on_a_rank, paths, float("nan"))
    assert first == second
    assert "faq: got embeddings with inf or nan" in str(first[1])
