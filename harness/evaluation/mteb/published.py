"""Scores beside those that Conan-embedding-v1's authors published for C-MTEB: only what is the same is compared.

Published: arXiv 2408.15710, table of results on the 35 data sets of C-MTEB, averages by category in percent. The
`MTEB(cmn, v1)` of mteb 2.26 has 31 of them. The other four are single subsets of multilingual tasks, and are counted
when they are scored, too. mteb 2.26 reports the best accuracy of Ocnli and Cmnli where C-MTEB reports the average
precision of the cosine (FlagEmbedding, C_MTEB/summarize_results.py), which is taken from mteb's results here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.evaluation.mteb.outcome import Average, Outcome, TaskScores, average

SOURCE = "arXiv 2408.15710"
BENCHMARK = "MTEB(cmn, v1)"
ALL = "all tasks"
CONAN_V1: Mapping[str, float] = {
    "Classification": 75.03,
    "Clustering": 66.33,
    "Reranking": 72.76,
    "Retrieval": 76.67,
    "STS": 64.18,
    "PairClassification": 91.66,
    ALL: 72.62,
}
_SPLITS = ("dev", "test", "validation")  # the first that there is, as C-MTEB's own summary takes it
_METRIC = {
    "Classification": "accuracy", "Clustering": "v_measure", "Reranking": "map_at_1000", "Retrieval": "ndcg_at_10",
    "STS": "cosine_spearman", "PairClassification": "cosine_ap",
}  # fmt: skip
# The data sets of each category, by mteb's name; with the subset where a task has several.
_DATA_SETS: Mapping[str, Sequence[tuple[str, str | None]]] = {
    "Classification": (
        ("TNews", None), ("IFlyTek", None), ("MultilingualSentiment", None), ("JDReview", None),
        ("OnlineShopping", None), ("Waimai", None), ("AmazonReviewsClassification", "zh"),
        ("MassiveIntentClassification", "zh-CN"), ("MassiveScenarioClassification", "zh-CN"),
    ),
    "Clustering": (
        ("CLSClusteringS2S", None), ("CLSClusteringP2P", None), ("ThuNewsClusteringS2S", None),
        ("ThuNewsClusteringP2P", None),
    ),
    "Reranking": (
        ("T2Reranking", None), ("MMarcoReranking", None), ("CMedQAv1-reranking", None), ("CMedQAv2-reranking", None),
    ),
    "Retrieval": (
        ("T2Retrieval", None), ("MMarcoRetrieval", None), ("DuRetrieval", None), ("CovidRetrieval", None),
        ("CmedqaRetrieval", None), ("EcomRetrieval", None), ("MedicalRetrieval", None), ("VideoRetrieval", None),
    ),
    "STS": (
        ("ATEC", None), ("BQ", None), ("LCQMC", None), ("PAWSX", None), ("STSB", None), ("AFQMC", None),
        ("QBQTC", None), ("STS22", "zh"),
    ),
    "PairClassification": (("Ocnli", None), ("Cmnli", None)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """A category: our average in percent, null unless every data set of it has a score, and the published one."""

    ours: Average
    published: float

    @property
    def difference(self) -> float | None:
        return None if self.ours.score is None else self.ours.score - self.published


def compared_with_conan(outcome: Outcome) -> list[Compared]:
    """Each category of C-MTEB, and the average over all 35 data sets, beside the published numbers."""
    scored = {task.name: task for task in outcome.tasks}
    scores = {kind: [_percent(scored, kind, name, subset) for name, subset in _DATA_SETS[kind]] for kind in _DATA_SETS}
    rows = [average(kind, values) for kind, values in scores.items()]
    rows.append(average(ALL, [score for values in scores.values() for score in values]))
    return [Compared(row, CONAN_V1[row.name]) for row in rows]


def missing_data_sets(outcome: Outcome) -> list[str]:
    """Those of the 35 without a score, by mteb's names."""
    scored = {task.name: task for task in outcome.tasks}
    return [
        name for kind, sets in _DATA_SETS.items() for name, sub in sets if _percent(scored, kind, name, sub) is None
    ]


def _percent(scored: Mapping[str, TaskScores], kind: str, name: str, subset: str | None) -> float | None:
    value = scored[name].value(_METRIC[kind], _SPLITS, subset) if name in scored else None
    return None if value is None else 100 * value
