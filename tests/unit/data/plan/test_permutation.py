"""The order of an epoch: a permutation of any size, computed per index."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from harness.data.plan.permutation import derive_key, permute

DERIVED_KEY, ORDER_OF_EIGHT = 16618021543790681330, [5, 2, 7, 6, 0, 1, 4, 3]
KEYS = st.integers(0, 2**64 - 1)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), KEYS)
@example(1, 0)
@example(2, 2**64 - 1)
@example(3, 1)
@example(1023, 5)
@example(1024, 5)
@example(1025, 5)
def test_every_index_is_hit_exactly_once(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@pytest.mark.parametrize("size", [1 << 14, (1 << 14) - 1, (1 << 14) + 1])
def test_sizes_around_a_power_of_two_are_permuted(size: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, 7)), np.arange(size))


def test_different_keys_give_different_orders() -> None:
    orders = {tuple(permute(np.arange(50), 50, derive_key("order", key))) for key in range(200)}
    assert len(orders) == 200


def test_every_order_of_four_elements_is_equally_likely() -> None:
    orders = Counter(tuple(permute(np.arange(4), 4, derive_key(key))) for key in range(4800))
    assert len(orders) == 24
    assert chisquare(list(orders.values())).pvalue > 1e-3


@pytest.mark.parametrize("size", [5, 37, 64])
def test_an_index_lands_everywhere_equally_often(size: int) -> None:
    places = np.stack([permute(np.arange(size), size, derive_key("uniform", key)) for key in range(2000)])
    for index in (0, size // 2, size - 1):
        assert chisquare(np.bincount(places[:, index], minlength=size)).pvalue > 1e-3


def test_neighbours_are_torn_apart() -> None:
    """A shift or a reversal is a permutation, too. Unlike in a shuffle, neighbours stay close in it."""
    order = permute(np.arange(10_000), 10_000, 3)
    distance = np.abs(np.diff(order))
    assert abs(distance.mean() - 10_000 / 3) < 200
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


def test_a_large_set_needs_no_array_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 million rows: an array of them would be 3.2 GB."""
    size = 400_000_000
    monkeypatch.setattr(np, "arange", _refuse_large(np.arange))
    places = permute(np.array([0, 1, size - 1]), size, 11)
    assert len(set(places.tolist())) == 3
    assert places.min() >= 0
    assert places.max() < size


def _refuse_large(arange: object) -> object:
    def small(stop: int) -> np.ndarray:
        assert stop < 1000
        return arange(stop)  # type: ignore[operator]

    return small


def test_one_index_and_an_array_of_it_agree_in_any_shape() -> None:
    many = permute(np.arange(12).reshape(3, 4), 12, 5)
    assert many.shape == (3, 4)
    assert [permute(index, 12, 5) for index in range(12)] == many.reshape(-1).tolist()
    assert type(permute(3, 12, 5)) is int
    assert permute(np.empty(0, dtype=np.int64), 12, 5).shape == (0,)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_indices_outside_the_range_are_refused(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="permute: got"):
        permute(index, size, 0)


def test_keys_tell_parts_apart() -> None:
    keys = [derive_key(1), derive_key("1"), derive_key(1, 2), derive_key(12), derive_key("1", "2"), derive_key("12")]
    assert len(set(keys)) == 6
    assert all(0 <= key < 2**64 for key in keys)


def test_the_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    """A resumed run must continue with the order of the interrupted run."""
    assert derive_key(0, "faq", "order", 3) == DERIVED_KEY
    assert permute(np.arange(8), 8, DERIVED_KEY).tolist() == ORDER_OF_EIGHT
