"""Validation of the main metric, choice of the best checkpoint, and the table of scores."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table

from harness.evaluation.results import check_main_metric, json_values, results_table, selection_score
from harness.evaluation.runner import LoadedData

KIND_OF = {"faq": "retrieval", "pairs": "sts", "parity": "classification"}
LOADED = LoadedData({}, [{"name": name, "kind": kind} for name, kind in KIND_OF.items()])
MATRYOSHKA_METRICS = ["faq/ndcg_at_10@64", "pairs/spearman@8"]


@pytest.mark.parametrize("name", [None, "faq/ndcg_at_10", "faq/recall_at_100", "parity/f1", *MATRYOSHKA_METRICS])
def test_a_main_metric_that_will_exist_passes(name: str | None) -> None:
    check_main_metric(LOADED, name)
    check_main_metric(LOADED, name, [8, 64])
    if name in MATRYOSHKA_METRICS:
        with pytest.raises(ValueError, match=f"got {name}, expected one of .*faq/ndcg_at_10@128"):
            check_main_metric(LOADED, name, [128])


@pytest.mark.parametrize(
    "name",
    [
        "other/ndcg_at_10",
        "faq/spearman",
        "parity/ndcg_at_10",
        "faq/map_at_10@64",
        "faq/ndcg_at_10@",
        "pairs/spearman@x",
        "pairs/spearman@0",
        "spearman",
        "faq/",
    ],
)
def test_a_main_metric_that_cannot_exist_is_an_error_before_training(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^evaluation\.main_metric: got {name}, expected one of faq/ndcg_at_10, "):
        check_main_metric(LOADED, name)


RESULTS = {
    "faq": {"ndcg_at_10": 0.5, "map_at_10": 0.4, "ndcg_at_10@128": 0.45},
    "pairs": {"spearman": 0.7, "pearson": 0.6},
}


def test_the_best_checkpoint_is_picked_by_the_mean_of_the_main_metrics_or_by_the_named_one() -> None:
    assert selection_score(RESULTS) == pytest.approx((0.5 + 0.7) / 2)
    assert selection_score(RESULTS, "faq/map_at_10") == 0.4
    assert selection_score({"a/faq": {"accuracy": 0.1}}, "a/faq/accuracy") == 0.1
    with pytest.raises(ValueError, match=r"evaluation\.main_metric: got faq/ndcg, expected one of faq/ndcg_at_10"):
        selection_score(RESULTS, "faq/ndcg")
    with pytest.raises(ValueError, match=r"evaluation\.data: got no data sets"):
        selection_score({})


def printed(table: Table) -> list[list[str]]:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(table)
    lines = [line.replace("┃", "│") for line in capture.get().splitlines() if "│" in line or "┃" in line]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_table_shows_before_after_and_change() -> None:
    after = {name: {key: value + 0.0123 for key, value in metrics.items()} for name, metrics in RESULTS.items()}
    assert printed(results_table(RESULTS, after)) == [
        ["data set", "metric", "before", "after", "change"],
        ["faq", "ndcg_at_10", "0.5000", "0.5123", "+0.0123"],
        ["", "ndcg_at_10@128", "0.4500", "0.4623", "+0.0123"],
        ["pairs", "spearman", "0.7000", "0.7123", "+0.0123"],
    ]


def test_the_table_shows_what_only_one_side_has_with_empty_cells() -> None:
    """A resumed run may evaluate other data sets, or other Matryoshka prefixes, than its first start."""
    after = {"new": {"accuracy": 0.9}, "faq": {"ndcg_at_10": 0.6, "ndcg_at_10@64": 0.4}}
    assert printed(results_table(RESULTS, after))[1:] == [
        ["new", "accuracy", "", "0.9000", ""],
        ["faq", "ndcg_at_10", "0.5000", "0.6000", "+0.1000"],
        ["", "ndcg_at_10@64", "", "0.4000", ""],
        ["", "ndcg_at_10@128", "0.4500", "", ""],
        ["pairs", "spearman", "0.7000", "", ""],
    ]


def test_the_table_of_one_model_has_one_column_of_scores_and_all_metrics_on_request() -> None:
    assert printed(results_table(RESULTS))[1] == ["faq", "ndcg_at_10", "0.5000"]
    assert [row[1] for row in printed(results_table(RESULTS, all_metrics=True))] == [
        "metric", "ndcg_at_10", "map_at_10", "ndcg_at_10@128", "spearman", "pearson",
    ]  # fmt: skip


def test_a_score_that_is_not_defined_is_a_dash_a_null_and_never_the_best() -> None:
    """NaN as computed, None as read from evaluation.json."""
    unknown, good = {"pairs": {"spearman": float("nan"), "pearson": 0.1}}, {"pairs": {"spearman": 0.5, "pearson": None}}
    assert printed(results_table(unknown, good, all_metrics=True))[1:] == [
        ["pairs", "spearman", "—", "0.5000", ""],
        ["", "pearson", "0.1000", "—", ""],
    ]
    assert json_values(unknown) == {"pairs": {"spearman": None, "pearson": 0.1}}
    assert selection_score({**unknown, "faq": {"ndcg_at_10": 1.0}}) < selection_score(good)
    assert selection_score({"pairs": {"spearman": None}}, "pairs/spearman") < -1
