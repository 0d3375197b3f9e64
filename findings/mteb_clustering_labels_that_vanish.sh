#!/usr/bin/env bash
# mteb 2.26.24: clustering with the label -1, and hierarchies of labels where some texts lack the deeper levels.
#
# Expected: a label -1 (noise, in the data sets that density clustering makes) is a label; a text without a level is left out of it.
# Seen: -1 is mteb's own mark of a missing level, compared before and after numpy has made one type of all labels. Whole numbers:
# texts of label -1 are left out, silently. Texts: the mark becomes the text '-1', which is no longer equal to the number, so all
# texts without a level are scored as one more cluster called '-1'.
# What helps: name labels by texts, give all texts the same number of levels, or score the levels apart.
#
# Versions seen: mteb 2.26.24, numpy 2.4.6, scikit-learn 1.9.1, torch 2.13.0 (CPU), Python 3.11. Exit status 1: the behaviour has
# changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 mteb==2.26.24 numpy==2.4.6 scikit-learn==1.9.1
cat >"$folder/run.py" <<'PYTHON'
import random
from importlib.metadata import version

import numpy as np
from mteb.abstasks.clustering import _evaluate_clustering_bootstrapped

print("versions:", *(f"{name} {version(name)}" for name in ("mteb", "numpy", "scikit-learn", "torch")))
vectors = np.eye(3)[np.arange(30) % 3] + np.arange(30)[:, None] / 1000  # three groups


def clusters(labels, level):
    """The number of clusters that k-means was asked for."""
    settings = dict(n_clusters=1, cluster_size=300, kmean_batch_size=512, max_depth=None, seed=42)
    found = _evaluate_clustering_bootstrapped(vectors, labels, rng_state=random.Random(42), **settings)[1]
    return len(set(found[f"Level {level}"][0]))


number, text = [-1, 1, 2], ["-1", "1", "2"]
print("result: labels -1, 1, 2 as numbers:", clusters([[number[i % 3]] for i in range(30)], 0), "clusters")
print("result: labels -1, 1, 2 as texts:", clusters([[text[i % 3]] for i in range(30)], 0), "clusters")
deep = [["a", "b"] if i % 3 == 0 else ["a", "c"] if i % 3 == 1 else ["a"] for i in range(30)]
print("result: second level of two names, a third of the texts without it:", clusters(deep, 1), "clusters")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: labels -1, 1, 2 as numbers: 2 clusters
result: labels -1, 1, 2 as texts: 3 clusters
result: second level of two names, a third of the texts without it: 3 clusters
SEEN
