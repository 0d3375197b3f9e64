#!/usr/bin/env bash
# torchmetrics 1.9.0: RetrievalMAP, RetrievalMRR, RetrievalPrecision and RetrievalRecall of scores that are negative, such as cosines
# below 0 or a re-ranker's logits.
#
# Expected: only the order of the scores counts, as in trec_eval and in torchmetrics' own RetrievalNormalizedDCG, RetrievalHitRate and
# RetrievalRPrecision: adding one number to all scores changes nothing.
# Seen: these four take a document whose score is 0 or less for one that is not relevant, so that a perfect ranking by negative scores
# has the value 0. The documentation calls the scores "estimated probabilities", checks no range, and there is no message.
# What helps: add a constant to all scores, or give the sigmoid of the scores.
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
import torchmetrics.retrieval as retrieval

print("versions:", *(f"{name} {version(name)}" for name in ("torchmetrics", "torch", "pytrec_eval-terrier")))
relevant = [1, 1, 0, 0]
scores = {"probabilities": [0.9, 0.8, 0.3, 0.1], "one less": [-0.1, -0.2, -0.7, -0.9], "half less": [0.4, 0.3, -0.2, -0.4]}
# The name in torchmetrics, and trec_eval's.
measures = {
    "RetrievalMAP": ({}, "map"),
    "RetrievalMRR": ({}, "recip_rank"),
    "RetrievalPrecision": ({"top_k": 2}, "P_2"),
    "RetrievalRecall": ({"top_k": 2}, "recall_2"),
    "RetrievalHitRate": ({"top_k": 2}, "success_2"),
    "RetrievalRPrecision": ({}, "Rprec"),
    "RetrievalNormalizedDCG": ({"top_k": 2}, "ndcg_cut_2"),
}
judged = {"query": {f"document{i}": grade for i, grade in enumerate(relevant)}}
trec = pytrec_eval.RelevanceEvaluator(judged, {"map", "recip_rank", "P.2", "recall.2", "success.2", "Rprec", "ndcg_cut.2"})
for name, (options, trec_name) in measures.items():
    seen = []
    for row in scores.values():
        run = {"query": {f"document{i}": score for i, score in enumerate(row)}}
        there = trec.evaluate(run)["query"][trec_name]
        here = getattr(retrieval, name)(**options)(torch.tensor(row), torch.tensor(relevant), indexes=torch.zeros(4, dtype=torch.long))
        seen.append(f"{there:.1f} -> {here.item():.1f}")
    print(f"result: {name}, trec_eval -> torchmetrics, {', '.join(scores)}:", ", ".join(seen))
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: RetrievalMAP, trec_eval -> torchmetrics, probabilities, one less, half less: 1.0 -> 1.0, 1.0 -> 0.0, 1.0 -> 1.0
result: RetrievalMRR, trec_eval -> torchmetrics, probabilities, one less, half less: 1.0 -> 1.0, 1.0 -> 0.0, 1.0 -> 1.0
result: RetrievalPrecision, trec_eval -> torchmetrics, probabilities, one less, half less: 1.0 -> 1.0, 1.0 -> 0.0, 1.0 -> 1.0
result: RetrievalRecall, trec_eval -> torchmetrics, probabilities, one less, half less: 1.0 -> 1.0, 1.0 -> 0.0, 1.0 -> 1.0
result: RetrievalHitRate, trec_eval -> torchmetrics, probabilities, one less, half less: 1.0 -> 1.0, 1.0 -> 1.0, 1.0 -> 1.0
result: RetrievalRPrecision, trec_eval -> torchmetrics, probabilities, one less, half less: 1.0 -> 1.0, 1.0 -> 1.0, 1.0 -> 1.0
result: RetrievalNormalizedDCG, trec_eval -> torchmetrics, probabilities, one less, half less: 1.0 -> 1.0, 1.0 -> 1.0, 1.0 -> 1.0
SEEN
