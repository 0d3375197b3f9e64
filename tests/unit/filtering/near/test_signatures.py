"""Signatures estimate similarities, and bands of them find the pairs to compare."""

from __future__ import annotations

import numpy as np
import pytest

from harness.filtering.config import FilterConfig
from harness.filtering.duplicates import pair_text
from harness.filtering.near.shingles import jaccard, shingle_hashes, shingle_sets
from harness.filtering.near.signatures import LARGEST_MISS, Bands, pair_signatures, similarities
from tests.unit.filtering.near import texts as reference
from tests.unit.filtering.near.texts import changed, some_text


def test_a_signature_estimates_the_similarity_of_the_less_similar_side() -> None:
    """The estimate is within four standard errors of the mean of 128 independent trials."""
    query, positive = some_text(0), some_text(1)
    other_positive = changed(positive, 0.1, 2)
    config = FilterConfig()
    texts = [pair_text(query, text) for text in (positive, other_positive)]
    signature_EH = pair_signatures(texts, config)
    truth = reference.jaccard(positive, other_positive)
    assert 0.5 < truth < 0.9
    error = 4 * np.sqrt(truth * (1 - truth) / config.num_hashes)
    assert similarities(signature_EH[:1], signature_EH[1:])[0] == pytest.approx(truth, abs=error)


def test_an_estimate_is_the_share_of_equal_hashes_whatever_their_number() -> None:
    left_EH = np.arange(2 * 18, dtype=np.uint32).reshape(2, 18)
    right_EH = left_EH.copy()
    right_EH[0, [0, 2, 16]] = 99  # three of the nine hashes of the query
    right_EH[1, [1, 17]] = 99
    assert similarities(left_EH, right_EH) == pytest.approx([6 / 9, 7 / 9])


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("num_hashes", [16, 128, 256])
def test_pairs_at_the_threshold_rarely_miss_each_other(threshold: float, num_hashes: int) -> None:
    """Pairs of similarity s share at least one of b bands of r hashes with probability 1 - (1 - s^r)^b."""
    bands = Bands.of(FilterConfig(near_threshold=threshold, num_hashes=num_hashes))
    assert bands.count * bands.width <= 2 * num_hashes
    missed = (1 - threshold**bands.width) ** bands.count
    assert missed == pytest.approx(bands.missed(threshold))
    assert missed <= LARGEST_MISS or bands.width == 1


def test_similarities_are_those_of_sets_of_shingles() -> None:
    """Among them texts that are empty, shorter than a shingle, of one shingle, and with a lone surrogate."""
    texts = [some_text(i, 5 + 7 * i) for i in range(12)]
    texts += ["", "abc", "abcde", "abcd", "😀" * 9, "x\ud800y", "abcde" * 5, some_text(3, 40)[:30]]
    sets = shingle_sets(texts, 5)
    left, right = (places.ravel() for places in np.indices((len(texts), len(texts))))
    expected = [reference.jaccard(texts[i], texts[j]) for i, j in zip(left, right, strict=True)]
    assert jaccard(sets, left, right).tolist() == expected
    assert (len(set(expected)) > 5, min(expected), max(expected)) == (True, 0.0, 1.0)


def test_shingles_do_not_cross_from_text_to_text() -> None:
    alone = [shingle_hashes([text], 3)[0].tolist() for text in ("abcdef", "ab", "xyz")]
    hash_S, start_T1 = shingle_hashes(["abcdef", "ab", "xyz"], 3)
    assert hash_S.tolist() == [value for values in alone for value in values]
    assert start_T1.tolist() == [0, 4, 5, 6]
