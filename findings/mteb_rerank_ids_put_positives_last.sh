#!/usr/bin/env bash
# mteb 2.26.24: reranking data of rows (query, positive, negative), where a positive and a negative have equal scores.
#
# Expected: the positive stands first: the ids that mteb gives to such documents begin with `apositive_` and `negative_`, and a
# comment beside them says that this order is meant.
# Seen: trec_eval (pytrec_eval), which computes the scores, and mteb's own MRR rank equal scores by descending id: negatives stand
# first. A model whose cosines are all equal gets MAP = MRR = 1/5 with one positive of five documents, where a stable sort of the
# rows, positives first, gives 1.
# What helps: expect that ties count against the model, and give a reranking of your own the same rule.
#
# Versions seen: mteb 2.26.24, pytrec_eval-terrier 0.5.11, datasets 5.2.0, torch 2.13.0 (CPU), Python 3.11. Exit status 1: the
# behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 mteb==2.26.24 pytrec_eval-terrier==0.5.11 datasets==5.2.0
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
from mteb.abstasks.text.reranking import AbsTaskReranking

print("versions:", *(f"{name} {version(name)}" for name in ("mteb", "pytrec_eval-terrier", "datasets", "torch")))
row = {"query": "q", "positive": ["p"], "negative": ["n1", "n2", "n3", "n4"]}
made = AbsTaskReranking._process_example(None, row, "test", 0)
print("result: ids", made["doc_ids"][0], "<", made["doc_ids"][1])
scores = {made["query_id"]: dict.fromkeys(made["doc_ids"], 0.5)}
grades = {made["query_id"]: dict(zip(made["doc_ids"], made["relevance_scores"]))}
found = calculate_retrieval_scores(scores, grades, [10])
print(f"result: all five scores equal: MAP@10 {found.map['MAP@10']:.1f}, MRR@10 {found.mrr['MRR@10']:.1f}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: ids apositive_test_query0_00000 < negative_test_query0_00000
result: all five scores equal: MAP@10 0.2, MRR@10 0.2
SEEN
