"""The filter's stages on arrays: near duplicates, cosines, consistency, counts; each against a plain loop."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.filtering import near_duplicates
from harness.filtering.config import FilterConfig
from harness.filtering.consistency import is_consistent, kth_scores, no_rivals, sample
from harness.filtering.duplicates import pair_text
from harness.filtering.near_duplicates import near_repeats, pair_signature, similarity, write_signatures
from harness.filtering.reasons import Reason
from harness.filtering.report import counts, score_summary
from harness.filtering.scoring import Sides, cosines
from harness.search.block_store import BlockStore


def jaccard(left: str, right: str, width: int = 5) -> float:
    sets = [{text[i : i + width] for i in range(max(1, len(text) - width + 1))} for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def some_text(seed: int, length: int = 200) -> str:
    return "".join(random.Random(seed).choices("abcdefghij", k=length))


def find_repeats(folder: Path, pairs: list[tuple[str, str]], config: FilterConfig) -> list[bool]:
    texts = [pair_text(query, positive) for query, positive in pairs]
    paths = write_signatures(folder / "s", lambda e: [texts[i] for i in e], len(texts), config, lambda done: None)
    return near_repeats(paths, config, folder / "arrays").tolist()


def test_a_signature_estimates_the_similarity_of_the_less_similar_side() -> None:
    """Within four standard errors of a share of 128 independent places."""
    query, positive = some_text(0), some_text(1)
    changed = positive[:100] + some_text(2, 20) + positive[120:]
    config = FilterConfig()
    one, other = (pair_signature(pair_text(query, text), config) for text in (positive, changed))
    truth = jaccard(positive, changed)
    assert 0.5 < truth < 0.9
    error = 4 * np.sqrt(truth * (1 - truth) / config.num_hashes)
    assert similarity(one[None], other)[0] == pytest.approx(truth, abs=error)


def test_near_duplicates_are_near_on_both_sides_and_the_first_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer to two questions, or two answers to one, is no duplicate."""
    monkeypatch.setattr(near_duplicates, "BLOCK_PAIRS", 2)
    query, positive = some_text(0), some_text(1)
    pairs = [
        (query, positive),
        (query + "!", positive + "."),
        (some_text(2), positive),
        (query, some_text(3)),
        (query, positive[:-1]),
        (some_text(4), some_text(5)),
    ]
    expected = [False, True, False, False, True, False]
    assert find_repeats(tmp_path / "a", pairs, FilterConfig()) == expected


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("num_hashes", [16, 128, 256])
def test_pairs_at_the_threshold_rarely_miss_each_other(threshold: float, num_hashes: int) -> None:
    """Of similarity s, pairs share one of b bands of r hashes with probability 1 - (1 - s^r)^b."""
    bands, width = near_duplicates._bands(FilterConfig(near_threshold=threshold, num_hashes=num_hashes))
    assert bands * width <= 2 * num_hashes
    assert 1 - (1 - threshold**width) ** bands > 0.8


def test_near_duplicates_are_found_without_spaces_between_words(tmp_path: Path) -> None:
    query, positive = (
        "机器学习和深度学习之间有什么区别和联系呢",
        "深度学习是机器学习的一个分支,它使用多层神经网络来学习数据的表示",
    )
    pairs = [(query, positive), (f"{query}?", f"{positive}。"), (positive, query)]
    assert find_repeats(tmp_path, pairs, FilterConfig(near_threshold=0.7)) == [False, True, False]


def test_a_chain_of_small_changes_is_judged_against_what_was_kept(tmp_path: Path) -> None:
    """The end of the chain stays: it is near a dropped link, but not near the kept beginning. With 1024 hashes a
    similarity s has a standard error of sqrt(s (1 - s) / 1024), a third of what it is away from the threshold here."""
    query, base, other = some_text(0), some_text(1), some_text(2)
    links = [other[:n] + base[n:] for n in (0, 15, 32)]
    assert min(jaccard(links[0], links[1]), jaccard(links[1], links[2])) > 0.8
    assert jaccard(links[0], links[2]) < 0.72
    config = FilterConfig(near_threshold=0.76, num_hashes=1024)
    assert find_repeats(tmp_path, [(query, link) for link in links], config) == [False, True, False]


def test_finished_blocks_of_signatures_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "BLOCK_PAIRS", 2)
    read: list[list[int]] = []

    def texts(place_E: np.ndarray) -> list[str]:
        read.append(place_E.tolist())
        return [pair_text(some_text(i), some_text(9 + i)) for i in place_E.tolist()]

    config, paths = FilterConfig(), []
    for _ in range(2):
        paths = write_signatures(tmp_path, texts, 5, config, lambda done: None)
        paths[1].unlink()
    assert read == [[0, 1], [2, 3], [4], [2, 3]]


def table(query_hash: list[int], positive_hash: list[int]) -> SimpleNamespace:
    """Pairs whose texts are numbers: text 2i is the query, 2i + 1 the positive of pair i."""
    text_hash_G = np.array([h for pair in zip(query_hash, positive_hash, strict=True) for h in pair], dtype=np.uint64)
    number = np.arange(len(query_hash))
    return SimpleNamespace(text_hash_G=text_hash_G, query_P=2 * number, positive_P=2 * number + 1)


def test_each_unique_text_is_encoded_once_and_pairs_refer_to_it() -> None:
    pairs = table([5, 3, 5, 4], [9, 9, 8, 7])
    sides = Sides.of(pairs, np.array([0, 1, 2]))  # type: ignore[arg-type]
    assert pairs.text_hash_G[sides.query_id_Q].tolist() == sides.query_hash_Q.tolist() == [5, 3]
    assert pairs.text_hash_G[sides.document_id_C].tolist() == sides.document_hash_C.tolist() == [9, 8]
    assert (sides.query_E.tolist(), sides.document_E.tolist()) == ([0, 1, 0], [0, 0, 1])


def unit(seed: int, count: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_consistency_counts_the_sampled_documents_above_the_positive(tmp_path: Path, k: int) -> None:
    """Against a loop over all documents: known positives, equal texts and equal scores are no rivals."""
    rng = np.random.default_rng(0)
    query_hash, positive_hash = rng.integers(0, 20, 150).tolist(), rng.integers(12, 60, 150).tolist()
    pairs = table(query_hash, positive_hash)
    sides = Sides.of(pairs, np.arange(150))  # type: ignore[arg-type]
    query_QD, document_CD = unit(1, len(sides.query_id_Q)), unit(2, len(sides.document_id_C))
    document_CD[1::2] = document_CD[: len(document_CD) // 2 * 2 : 2]
    _, own_Q, own_C = np.intersect1d(sides.query_hash_Q, sides.document_hash_C, return_indices=True)
    document_CD[own_C] = query_QD[own_Q]
    score_E = cosines(query_QD, document_CD, sides)
    chosen = sample(sides.document_hash_C, 40)
    excluded = no_rivals(pairs, sides.query_hash_Q, sides.document_hash_C[chosen])  # type: ignore[arg-type]
    store = BlockStore(tmp_path, {})
    kth_Q = kth_scores(query_QD, document_CD[chosen], excluded, k, store, lambda done: None)
    expected = []
    for query, positive in zip(query_hash, positive_hash, strict=True):
        own = query_QD[sides.query_hash_Q.tolist().index(query)].astype(np.float64)
        known = {p for q, p in zip(query_hash, positive_hash, strict=True) if q == query} | {query}
        rivals = [c for c in chosen if int(sides.document_hash_C[c]) not in known]
        target = document_CD[sides.document_hash_C.tolist().index(positive)] @ own
        expected.append(sum(document_CD[c] @ own > target for c in rivals) < k)
    assert is_consistent(score_E, kth_Q, sides.query_E).tolist() == expected
    assert all(expected) == (k == 40)


def test_a_sample_depends_on_the_texts_only() -> None:
    hash_C = np.random.default_rng(0).integers(0, 2**63, 500).astype(np.uint64)
    chosen = set(hash_C[sample(hash_C, 50)].tolist())
    assert len(chosen) == 50
    assert set(hash_C[::-1][sample(hash_C[::-1], 50)].tolist()) == chosen
    assert sample(hash_C, 500).tolist() == sample(hash_C, 900).tolist() == list(range(500))


def test_a_row_goes_when_its_last_pair_goes_and_for_that_reason() -> None:
    row_P = np.array([0, 0, 1, 1, 2])
    reason_P = np.array([Reason.TOO_SHORT, Reason.KEPT, Reason.TOO_SHORT, Reason.LOW_SCORE, Reason.EMPTY], np.uint8)
    found = counts(row_P, reason_P)
    assert found["rows"] == {"in": 3, "kept": 1, "dropped": {"empty": 1, "low_score": 1}}
    assert found["pairs"] == {"in": 5, "kept": 1, "dropped": {"empty": 1, "too_short": 2, "low_score": 1}}


def test_every_scored_pair_stands_in_the_histogram() -> None:
    found = score_summary(np.array([np.nan, 0.4, 0.42, 1.0000001, -0.01], np.float32))
    assert found["scored"] == 4
    assert found["histogram"] == [[-0.05, 1], [0.4, 2], [0.95, 1]]
    assert found["quantiles"]["0.5"] == 0.41
