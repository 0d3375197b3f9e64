#!/usr/bin/env bash
# torchmetrics 1.9.0: RetrievalMAP(top_k=3), mean average precision of the first three documents.
#
# Expected: trec_eval's map_cut_3: the precisions at the relevant documents among the first three, divided by the number of all
# relevant documents. Whatever the divisor, a ranking with one more relevant document among the first three is not worse.
# Seen: the sum is divided by the number of relevant documents that were found among the first three. A query with three relevant
# documents of which the first three places hold one (at place 1) has 1.0; one that holds two (places 1 and 3) has 0.83. Over
# queries with many relevant documents the value is a multiple of the one in published tables. Without top_k both agree.
# What helps: trec_eval's map_cut through pytrec_eval, or RetrievalNormalizedDCG.
#
# Versions seen: torchmetrics 1.9.0, torch 2.13.0 (CPU), pytrec_eval-terrier 0.5.11, Python 3.11. Exit status 1: the behaviour has
# changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchmetrics==1.9.0 pytrec_eval-terrier==0.5.11 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

import pytrec_eval
import torch
from torchmetrics.retrieval import RetrievalMAP

print("versions:", *(f"{name} {version(name)}" for name in ("torchmetrics", "torch", "pytrec_eval-terrier")))
# Which of the first five places hold one of the three relevant documents.
rankings = {"places 1 4 5": [1, 0, 0, 1, 1], "places 1 3 5": [1, 0, 1, 0, 1], "places 1 3 4": [1, 0, 1, 1, 0], "places 1 2 3": [1, 1, 1, 0, 0]}
scores = [0.9, 0.8, 0.7, 0.6, 0.5]
for name, relevant in rankings.items():
    judged = {"query": {f"document{i}": grade for i, grade in enumerate(relevant)}}
    run = {"query": {f"document{i}": score for i, score in enumerate(scores)}}
    trec = pytrec_eval.RelevanceEvaluator(judged, {"map_cut.3", "map"}).evaluate(run)["query"]
    given = (torch.tensor(scores), torch.tensor(relevant))
    query = torch.zeros(5, dtype=torch.long)
    at_3, whole = (RetrievalMAP(**options)(*given, indexes=query).item() for options in ({"top_k": 3}, {}))
    print(f"result: {name}: at 3: trec_eval {trec['map_cut_3']:.3f}, torchmetrics {at_3:.3f}; whole: {trec['map']:.3f}, {whole:.3f}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: places 1 4 5: at 3: trec_eval 0.333, torchmetrics 1.000; whole: 0.700, 0.700
result: places 1 3 5: at 3: trec_eval 0.556, torchmetrics 0.833; whole: 0.756, 0.756
result: places 1 3 4: at 3: trec_eval 0.556, torchmetrics 0.833; whole: 0.806, 0.806
result: places 1 2 3: at 3: trec_eval 1.000, torchmetrics 1.000; whole: 1.000, 1.000
SEEN
