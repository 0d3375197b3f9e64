"""Near duplicates among pairs: those that a comparison of all pairs finds, at a cost that is linear in the pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.filtering.config import FilterConfig
from harness.filtering.near import candidates, compare, signatures
from harness.filtering.near.find import NearDuplicates
from harness.filtering.near.signatures import Bands
from tests.peak_memory import traced_peak
from tests.unit.filtering.near.texts import Pair, changed, find, jaccard, repeats_by_all_pairs, similarity, some_text


def some_pairs(count: int) -> list[Pair]:
    """Every second pair is a changed copy of the pair before it, by 0 to 12 % of each side."""
    pairs = []
    for i in range(count // 2):
        pair = some_text(2 * i), some_text(2 * i + 1)
        share = 0.12 * i / (count // 2)
        pairs += [pair, (changed(pair[0], share, 5000 + i), changed(pair[1], share / 2, 6000 + i))]
    return pairs


def test_what_a_comparison_of_all_pairs_finds_is_found_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is dropped by an estimate; at most the stated share of the near duplicates is missed.

    Tiny blocks, so that texts, signatures and comparisons come in many parts.
    """
    monkeypatch.setattr(signatures, "BLOCK_PAIRS", 50)
    monkeypatch.setattr(compare, "_PAIRS", 7)
    monkeypatch.setattr(compare, "_SCREENED", 11)
    monkeypatch.setattr(compare, "_CHARACTERS", 3000)
    pairs = some_pairs(300)
    truth = repeats_by_all_pairs(pairs, 0.8)
    assert 60 < sum(truth) < 140  # the changes lie on both sides of the threshold
    found, compared = find(tmp_path, pairs, FilterConfig())
    assert not [i for i, repeated in enumerate(found) if repeated and not truth[i]]
    assert sum(truth) - sum(found) <= 1
    assert compared.missed_at_threshold < 0.01
    assert (compared.large_buckets, compared.in_large_buckets, compared.warning()) == (0, 0, None)


def test_near_duplicates_are_near_on_both_sides_and_the_first_stays(tmp_path: Path) -> None:
    """Pairs with the same answer and different questions are no duplicates, nor are those with the same question and
    different answers.
    """
    query, positive = some_text(0), some_text(1)
    pairs = [
        (query, positive),
        (query + "!", positive + "."),
        (some_text(2), positive),
        (query, some_text(3)),
        (query, positive[:-1]),
        (some_text(4), some_text(5)),
    ]
    assert find(tmp_path, pairs, FilterConfig())[0] == [False, True, False, False, True, False]


def test_near_duplicates_are_found_without_spaces_between_words(tmp_path: Path) -> None:
    query, positive = (
        "机器学习和深度学习之间有什么区别和联系呢",
        "深度学习是机器学习的一个分支,它使用多层神经网络来学习数据的表示",
    )
    pairs = [(query, positive), (f"{query}?", f"{positive}。"), (positive, query)]
    assert find(tmp_path, pairs, FilterConfig(near_threshold=0.7))[0] == [False, True, False]


def test_a_chain_of_small_changes_is_judged_against_what_was_kept(tmp_path: Path) -> None:
    """The last pair of a chain is kept: it is near the dropped second pair, but not near the kept first pair."""
    query, base, other = some_text(0), some_text(1), some_text(2)
    links = [other[:n] + base[n:] for n in (0, 15, 32)]
    assert min(jaccard(links[0], links[1]), jaccard(links[1], links[2])) > 0.8
    assert jaccard(links[0], links[2]) < 0.72
    assert find(tmp_path, [(query, link) for link in links], FilterConfig(near_threshold=0.76))[0] == [
        False,
        True,
        False,
    ]


def from_a_template(count: int) -> list[Pair]:
    return [
        (f"order number {i} has shipped", f"your order number {i} has shipped and will arrive in a few days")
        for i in range(10_000, 10_000 + count)
    ]


def test_comparisons_of_templated_texts_grow_linearly_and_the_report_says_so(tmp_path: Path) -> None:
    """All pairs of the template share buckets: without bounded buckets, comparisons grow by 16 from 600 to 2400."""
    compared = {count: find(tmp_path / str(count), from_a_template(count), FilterConfig())[1] for count in (600, 2400)}
    assert compared[2400].comparisons < 5 * compared[600].comparisons
    bands = Bands.of(FilterConfig()).count
    for count, one in compared.items():
        assert count < one.comparisons <= candidates.MOST_COMPARISONS * bands * count
        assert one.in_large_buckets > count / 2
        assert f"{one.in_large_buckets:,} pairs share most of their text" in str(one.warning())


def test_copies_are_found_in_a_bucket_that_is_too_large_to_compare_all(tmp_path: Path) -> None:
    """Of a template's pairs, those with a copy have it found; a large group of copies leaves one."""
    template = from_a_template(600)
    copies = [(f"{query}!", f"{positive}!") for query, positive in template[:100]]
    group = [(some_text(0), changed(some_text(1), 0.01, i)) for i in range(100, 200)]
    assert min(similarity(group[0], pair) for pair in group[1:]) > 0.8
    repeated, compared = find(tmp_path, [*template, *copies, *group], FilterConfig())
    assert compared.large_buckets > 0
    found = [i - 600 for i, one in enumerate(repeated) if one and 600 <= i < 700]
    near = [i for i in range(100) if similarity(template[i], copies[i]) >= 0.8]
    assert len(near) > 50
    assert len(set(near) & set(found)) >= 0.9 * len(near)
    assert sum(repeated[700:]) == 99


def test_comparisons_that_many_bands_find_are_in_memory_a_few_times_only(tmp_path: Path) -> None:
    """Copies agree in all 32 bands, whose comparisons take 13 MB together, and twice that while they are sorted."""
    count = 50_000
    stage = NearDuplicates(tmp_path, count, FilterConfig(), lambda _: [], lambda *_: None)
    edge_N = np.arange(count, dtype=np.int64) * count
    bands = stage._bands()
    for band, place in bands:
        found = edge_N + band % 2  # two sets of comparisons
        np.savez(place, edge_N=found, large_buckets=band, in_large_E=np.zeros(count, dtype=bool))
    candidates, peak = traced_peak(stage._candidates)
    assert np.array_equal(candidates.edge_N, np.sort(np.concatenate([edge_N, edge_N + 1])))
    assert candidates.large_buckets == sum(range(len(bands)))
    assert peak < 12 * candidates.edge_N.nbytes < len(bands) * edge_N.nbytes, peak


def test_finished_blocks_of_signatures_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "BLOCK_PAIRS", 2)
    read: list[list[int]] = []

    def texts(pair_E: np.ndarray) -> list[str]:
        read.append(pair_E.tolist())
        return [f"{some_text(i)}\n{some_text(9 + i)}" for i in pair_E.tolist()]

    stage = NearDuplicates(tmp_path, 5, FilterConfig(), texts, lambda *_: None)
    for _ in range(2):
        stage.find()
        stage._decided().unlink()
        (tmp_path / "bands-000000000002.npy").unlink()
    stage.find()
    assert read == [[0, 1], [2, 3], [4], [2, 3], [2, 3]]
    assert stage.find()[0].tolist() == [False] * 5  # decided: nothing is read
    assert len(read) == 5
