"""trec_eval's measures of rankings, under mteb's names. Retrieval and reranking are both scored by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytrec_eval

# mteb's name: (trec_eval's name in its results, trec_eval's name in a request)
MEASURES = {
    "ndcg_at_10": ("ndcg_cut_10", "ndcg_cut.10"),
    "map_at_10": ("map_cut_10", "map_cut.10"),
    "map_at_100": ("map_cut_100", "map_cut.100"),
    "map_at_1000": ("map_cut_1000", "map_cut.1000"),
    "mrr_at_10": ("recip_rank", "recip_rank"),
    "recall_at_10": ("recall_10", "recall.10"),
    "recall_at_100": ("recall_100", "recall.100"),
}


def trec_values(
    rankings: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The measures `names` of each query of `rankings`, float64 [Q] each.

    rankings: query id → document id → score. qrels: query id → document id → grade, with every query of `rankings`; a
    grade of 0 or below is not relevant, and a judged document that no ranking has counts as never found. nDCG's gain is
    the grade itself. trec_eval compares scores as 32-bit floats, and ranks equal scores by descending document id.
    """
    judged = {query: dict(qrels[query]) for query in rankings}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {MEASURES[name][1] for name in names})
    per_query = list(evaluator.evaluate({query: dict(ranking) for query, ranking in rankings.items()}).values())
    values = {name: np.array([row[MEASURES[name][0]] for row in per_query]) for name in names}
    if "mrr_at_10" in values:  # trec_eval counts the first relevant document at any rank, not up to 10
        values["mrr_at_10"] = np.where(values["mrr_at_10"] > 1 / 10.5, values["mrr_at_10"], 0.0)
    return values


def mean_scores(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The means over all queries, from the values of `trec_values` in parts."""
    return {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in parts[0]}
