#!/usr/bin/env bash
# mteb 2.26.24: pairs of a text with itself, in semantic textual similarity (STS) and pair classification.
#
# Expected: both texts of such a pair have one vector, so its cosine is 1, and all such pairs are tied.
# Seen: mteb reports two Spearman correlations by cosine for a model whose similarity is the cosine. `cosine_spearman` has the
# ties: scikit-learn computes 1 - |x - y|^2 / 2. `spearman` has not: the model's similarity is a float32 sum of products, which gives
# 0.9999999, 1.0 or 1.0000001, and rounding orders the pairs. Correlations differ in the third decimal at 30 pairs, and with the
# order of the sum. Pair classification's `max_ap`, a main score, takes the highest of five such numbers, so noise can only raise it.
# What helps: compute the cosine in float64, round once, and compare `cosine_spearman`.
#
# Versions seen: mteb 2.26.24, torch 2.13.0 (CPU), scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6, Python 3.11. Exit status 1: the
# behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 mteb==2.26.24 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
from mteb.similarity_functions import pairwise_cos_sim
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import paired_cosine_distances

print("versions:", *(f"{name} {version(name)}" for name in ("mteb", "torch", "scikit-learn", "scipy", "numpy")))
random = np.random.RandomState(0)
first, second = random.standard_normal((2, 30, 24)).astype(np.float32)
second[:10] = first[:10]  # ten pairs of a text with itself
grade = random.randint(0, 6, 30)
by_distance = 1 - paired_cosine_distances(first, second)  # mteb's cosine_spearman
by_similarity = pairwise_cos_sim(first, second).numpy()  # mteb's spearman, of a model whose similarity is the cosine
print("result: cosines of the ten pairs, cosine_spearman:", len(set(by_distance[:10].tolist())), "value(s)")
print("result: cosines of the ten pairs, spearman: several values:", len(set(by_similarity[:10].tolist())) > 1)
difference = abs(spearmanr(by_distance, grade).statistic - spearmanr(by_similarity, grade).statistic)
print("result: the two correlations differ by more than 0.001:", bool(difference > 0.001))
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: cosines of the ten pairs, cosine_spearman: 1 value(s)
result: cosines of the ten pairs, spearman: several values: True
result: the two correlations differ by more than 0.001: True
SEEN
