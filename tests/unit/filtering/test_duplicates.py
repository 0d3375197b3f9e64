"""Exact and near duplicates are found among pairs."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from harness.filtering import duplicates
from harness.filtering.config import FilterConfig
from harness.filtering.duplicates import (
    is_near_duplicate,
    is_repeated,
    pair_hash,
    pair_signature,
    pair_text,
    similarity,
    write_signatures,
)


def jaccard(left: str, right: str, width: int = 5) -> float:
    sets = [{text[i : i + width] for i in range(max(1, len(text) - width + 1))} for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def some_text(seed: int, length: int = 200) -> str:
    return "".join(random.Random(seed).choices("abcdefghij", k=length))


def find_repeats(folder: Path, pairs: list[tuple[str, str]], config: FilterConfig) -> list[bool]:
    texts = [pair_text(query, positive) for query, positive in pairs]
    paths = write_signatures(folder / "s", lambda e: [texts[i] for i in e], len(texts), config, lambda done: None)
    return is_near_duplicate(paths, config, folder / "arrays").tolist()


def test_a_signature_estimates_the_similarity_of_the_less_similar_side() -> None:
    """The estimate is within four standard errors of the mean of 128 independent trials."""
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
    """Pairs with the same answer and different questions are no duplicates, nor are those with the same question and
    different answers.
    """
    monkeypatch.setattr(duplicates, "BLOCK_PAIRS", 2)
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
    """Pairs of similarity s share at least one of b bands of r hashes with probability 1 - (1 - s^r)^b."""
    bands, width = duplicates._bands(FilterConfig(near_threshold=threshold, num_hashes=num_hashes))
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
    """The last pair of a chain is kept: it is near the dropped second pair, but not near the kept first pair.

    With 1024 hashes the standard error of a similarity s is sqrt(s (1 - s) / 1024). Here the similarities are about
    three standard errors or more away from the threshold.
    """
    query, base, other = some_text(0), some_text(1), some_text(2)
    links = [other[:n] + base[n:] for n in (0, 15, 32)]
    assert min(jaccard(links[0], links[1]), jaccard(links[1], links[2])) > 0.8
    assert jaccard(links[0], links[2]) < 0.72
    config = FilterConfig(near_threshold=0.76, num_hashes=1024)
    assert find_repeats(tmp_path, [(query, link) for link in links], config) == [False, True, False]


def test_finished_blocks_of_signatures_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK_PAIRS", 2)
    read: list[list[int]] = []

    def texts(place_E: np.ndarray) -> list[str]:
        read.append(place_E.tolist())
        return [pair_text(some_text(i), some_text(9 + i)) for i in place_E.tolist()]

    config, paths = FilterConfig(), []
    for _ in range(2):
        paths = write_signatures(tmp_path, texts, 5, config, lambda done: None)
        paths[1].unlink()
    assert read == [[0, 1], [2, 3], [4], [2, 3]]


def test_the_first_of_pairs_that_read_alike_or_encode_alike_stays() -> None:
    """Pair 3 encodes like pair 1 (both sides), pair 5 like pair 4 on one side only; pair 6 is joined by pair 3."""
    hashes = np.array([7, 5, 7, 8, 9, 4, 8], dtype=np.uint64)
    query_token, positive_token = np.array([[1, 2, 1, 2, 3, 3, 6], [1, 3, 1, 3, 4, 5, 6]], dtype=np.uint64)
    repeated = is_repeated(hashes, query_token, positive_token)
    assert np.flatnonzero(repeated).tolist() == [2, 3, 6]
    # Query and positive exchanged are another pair.
    assert not is_repeated(hashes[:2], np.array([1, 2], np.uint64), np.array([2, 1], np.uint64)).any()


def test_query_and_positive_are_not_one_string() -> None:
    assert pair_hash("ab", "c") != pair_hash("a", "bc")
