#!/usr/bin/env bash
# beir 2.2.0: EvaluateRetrieval.evaluate (NDCG, MAP, recall, precision) and evaluate_custom (MRR and others) of results in which one
# judged query has no document, as a sparse or lexical search, or one with a threshold, gives for a query without a match.
#
# Expected: such a query counts as 0, as in the tables that are published with it, in trec_eval -c and in ir_measures; at least one
# call and the other mean the same queries.
# Seen: evaluate() takes the mean over the queries that have results, so that a search which answers only the queries it is sure of
# rises: here from 0.5 to 1.0. evaluate_custom() takes it over all judged queries. evaluate() also removes documents whose id is the
# query's from the results that it is given (it says so), in place: MRR of the same results differs before and after it.
# What helps: give every query without results an empty dictionary, and call evaluate() on a copy.
#
# Versions seen: beir 2.2.0, pytrec_eval-terrier 0.5.11, ir_measures 0.4.3, numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has
# changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pytrec_eval-terrier==0.5.11 ir_measures==0.4.3 numpy==2.4.6 tqdm==4.70.1
"$folder/venv/bin/pip" install -q --no-deps beir==2.2.0 # without the models that its evaluation does not use
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

import ir_measures
from beir.retrieval.evaluation import EvaluateRetrieval

print("versions:", *(f"{name} {version(name)}" for name in ("beir", "pytrec_eval-terrier", "ir_measures")))
judged = {"first": {"a": 1}, "second": {"b": 1}}
answered = {"first": {"a": 0.9, "x": 0.1}}
runs = {
    "no key": answered,
    "an empty answer": answered | {"second": {}},
    "a document that is not judged": answered | {"second": {"x": 0.1}},
}
for name, run in runs.items():
    ndcg, _, recall, _ = EvaluateRetrieval.evaluate(judged, run, [10])
    mrr = EvaluateRetrieval.evaluate_custom(judged, run, [10], "mrr")
    other = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, run)[ir_measures.nDCG @ 10]
    print(f"result: {name}: NDCG {ndcg['NDCG@10']}, recall {recall['Recall@10']}, MRR {mrr['MRR@10']}, ir_measures' nDCG {other}")
own = {"first": {"first": 0.9, "a": 0.8}, "second": {"b": 0.9}}  # the first query is a document as well
before = EvaluateRetrieval.evaluate_custom(judged, own, [10], "mrr")["MRR@10"]
EvaluateRetrieval.evaluate(judged, own, [10])
print("result: MRR before and after evaluate():", before, EvaluateRetrieval.evaluate_custom(judged, own, [10], "mrr")["MRR@10"])
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: no key: NDCG 1.0, recall 1.0, MRR 0.5, ir_measures' nDCG 0.5
result: an empty answer: NDCG 0.5, recall 0.5, MRR 0.5, ir_measures' nDCG 0.5
result: a document that is not judged: NDCG 0.5, recall 0.5, MRR 0.5, ir_measures' nDCG 0.5
result: MRR before and after evaluate(): 0.75 1.0
SEEN
