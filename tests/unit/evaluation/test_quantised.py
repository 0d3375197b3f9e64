"""Scores of int8 and binary vectors are those of an index that stores them, found here by loops over integers."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.kinds import retrieval
from harness.evaluation.quantised import binary_codes, quantised_rows, signs
from harness.evaluation.results import results_table, sizes_table
from harness.evaluation.runner import evaluate
from harness.export.formats.sizes import bytes_per_vector, size_rows, sizes_section
from harness.search.request import SearchResult
from harness.search.unit_rows import unit_rows
from tests.ranks import run_ranks
from tests.tiny import make_data
from tests.unit.evaluation.test_runner import Encoder

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.standard_normal((200, 12)).astype(np.float32)
METRIC = {"retrieval": "ndcg_at_10", "sts": "spearman", "classification": "accuracy"}


def test_int8_numbers_are_off_by_at_most_half_a_step_and_take_256_values() -> None:
    (found,) = quantised_rows([ROWS], "int8")
    unit = unit_rows(ROWS)
    step = (unit.max(0) - unit.min(0)) / 255
    assert (np.abs(found - unit) <= step * 0.5001 + 1e-7).all()
    assert max(len(np.unique(column)) for column in found.T) <= 256
    assert np.abs(found - unit).max() > 1e-4  # they are rounded


def test_products_of_int8_rows_do_not_wrap_around() -> None:
    """sentence-transformers' own product of int8 arrays is one of 8 bits."""
    rows = np.tile(np.linspace(-1, 1, 12, dtype=np.float32), (3, 1)) * [[1.0], [1.0], [-1.0]]
    first, second, opposite = quantised_rows([np.concatenate([rows, ROWS])], "int8")[0][:3]
    assert first @ second > 0.9
    assert first @ opposite < -0.9


def test_the_product_of_signs_is_the_hamming_distance_whatever_the_number_of_dimensions() -> None:
    """12 dimensions take two bytes; the four bits that fill them up must not count."""
    codes = binary_codes(ROWS[:, :12])
    assert codes.shape == (200, bytes_per_vector(12, "binary"))
    product_NN = signs(codes, 12) @ signs(codes, 12).T
    other_NN = ((ROWS[:, None] > 0) != (ROWS[None] > 0)).sum(2)
    assert (product_NN == 12 - 2 * other_NN).all()


def test_binary_candidates_are_ranked_anew_by_the_numbers_of_the_query() -> None:
    query, codes = GENERATOR.standard_normal((1, 12)).astype(np.float32), binary_codes(ROWS)
    candidates = np.array([[5, 9, 40, 7, -1]])
    found = retrieval.rescored(SearchResult(candidates, np.zeros((1, 5), np.float32)), query, codes, 3)
    truth = sorted((5, 9, 40, 7), key=lambda row: -float(query[0] @ np.where(ROWS[row] > 0, 1.0, -1.0)))
    assert found.index_QK.tolist() == [truth[:3]]
    assert (np.diff(found.score_QK) <= 0).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[str]:
    folder = make_data(tmp_path_factory.mktemp("data"))
    return [str(folder / name) for name in ("faq", "sts/test.jsonl", "intents")]


class NumberedEncoder(Encoder):
    """Numbers texts by their letters: those of `make_data` end in no number."""

    def __call__(self, texts, role):
        return super().__call__([f"text {int.from_bytes(text.encode(), 'big') % 2**32}" for text in texts], role)


def scores(paths: list[str]) -> dict[str, dict[str, float]]:
    return evaluate(NumberedEncoder(), paths, [4], quantised=True)


def test_every_size_of_every_kind_is_scored_in_every_precision_and_alike_on_two_ranks(data) -> None:
    alone = scores(data)
    for (name, metrics), metric in zip(alone.items(), METRIC.values(), strict=True):
        names = [f"{metric}@{dim}_{precision}" for dim in (4, 8) for precision in ("int8", "binary")]
        assert [key for key in metrics if "_int8" in key or "_binary" in key] == names, name
        assert abs(metrics[metric] - metrics[f"{metric}@8_int8"]) < 0.1
    assert len({alone["faq"][f"ndcg_at_10@{dim}_binary"] for dim in (4, 8)}) == 2
    (together, _) = run_ranks(2, scores, data)
    for name, metrics in alone.items():
        assert together[name] == pytest.approx(metrics), name


def test_the_table_has_a_row_per_dimension_and_precision_with_bytes_and_loss() -> None:
    results = {"faq": {"ndcg_at_10": 0.5, "ndcg_at_10@4": 0.4}}
    results["faq"] |= {"ndcg_at_10@4_int8": 0.39, "ndcg_at_10@4_binary": None}
    results["faq"] |= {"ndcg_at_10@12_int8": 0.49, "ndcg_at_10@12_binary": 0.3}
    found = [(row.dim, row.precision, row.num_bytes, row.score, row.loss) for row in size_rows(results)]
    assert found == [
        (12, "fp32", 48, 0.5, 0.0),
        (12, "int8", 12, 0.49, pytest.approx(0.01)),
        (12, "binary", 2, 0.3, pytest.approx(0.2)),
        (4, "fp32", 16, 0.4, pytest.approx(0.1)),
        (4, "int8", 4, 0.39, pytest.approx(0.11)),
        (4, "binary", 1, None, None),
    ]
    assert sizes_section(results).splitlines()[-1] == "| faq | ndcg_at_10 | 4 | binary | 1 | — | — |"
    assert sizes_section({"faq": {"ndcg_at_10": 0.5}}) == ""
    assert sizes_table({"faq": {"ndcg_at_10": 0.5}}) is None
    assert results_table(results).row_count == 2  # the other table has the rest
