"""Scores a model on data sets, of retrieval each query by itself, so that a bootstrap can draw queries.

    python -m benchmarks.evidence.score MODEL OUT MAX_LENGTH DATA…

writes OUT: `{"datasets": {NAME: {"metric", "score", "values": [a score per query] or null}}}`. A process of its own,
because a benchmark of many runs must not keep a model in memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.settings.environment import prepare_environment

if TYPE_CHECKING:
    from harness.evaluation.runner import LoadedData
    from harness.search.encode import TextEncoder

QUERY_METRIC = "ndcg_at_10"


def main(model: str, out: str, max_length: str, *data: str) -> None:
    from harness.cli.parts.opened_model import open_model
    from harness.evaluation.runner import load
    from harness.files import replace_file

    encode = open_model(model, int(max_length), None, "fp32").encode
    scores = {name: scores_of(encode, part) for name, part in load(data).one_by_one()}
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    replace_file(Path(out), json.dumps({"datasets": scores}) + "\n")
    print(", ".join(f"{name} {score['score']:.4f}" for name, score in scores.items()), flush=True)


def scores_of(encode: TextEncoder, loaded: LoadedData) -> dict[str, Any]:
    """The main metric of one data set, and of retrieval its value for each query."""
    from harness.evaluation.kinds.retrieval import TOP_K, Retrieval, RetrievalData
    from harness.evaluation.kinds.table import main_metric_of
    from harness.evaluation.runner import evaluate
    from harness.search.cosine import Share, nearest_by_cosine

    (data,) = loaded.data.values()
    if not isinstance(data, RetrievalData):
        (metrics,) = evaluate(encode, loaded).values()
        metric = main_metric_of(metrics)
        return {"metric": metric, "score": metrics[metric], "values": None}
    query_QD, document_ND = Retrieval().encode(encode, data)
    share = Share(document_ND, 0, len(document_ND))
    nearest = nearest_by_cosine(query_QD, share, TOP_K + bool(data.not_ranked))
    value_Q = Retrieval().query_scores(data, nearest)[QUERY_METRIC]
    return {"metric": QUERY_METRIC, "score": float(value_Q.mean()), "values": value_Q.tolist()}


if __name__ == "__main__":
    prepare_environment()
    main(*sys.argv[1:])
