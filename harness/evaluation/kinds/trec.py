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


def trec_scores(
    rankings: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]], names: Sequence[str]
) -> dict[str, float]:
    """The measures `names`: means over the queries of `rankings`.

    rankings: query id → document id → score. qrels: query id → document id → grade, with every query of `rankings`; a
    grade of 0 or below is not relevant, and a judged document that no ranking has counts as never found. nDCG's gain is
    the grade itself. trec_eval compares scores as 32-bit floats, and ranks equal scores by descending document id.
    """
    judged = {query: dict(qrels[query]) for query in rankings}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {MEASURES[name][1] for name in names})
    per_query = list(evaluator.evaluate({query: dict(ranking) for query, ranking in rankings.items()}).values())
    scores = {}
    for name in names:
        value_Q = np.array([row[MEASURES[name][0]] for row in per_query])
        if name == "mrr_at_10":  # trec_eval counts the first relevant document at any rank, not up to 10
            value_Q = np.where(value_Q > 1 / 10.5, value_Q, 0.0)
        scores[name] = float(value_Q.mean())
    return scores
