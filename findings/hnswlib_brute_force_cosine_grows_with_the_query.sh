#!/usr/bin/env bash
# hnswlib 0.8.0: BFIndex(space="cosine"), the exact search beside which the recall of the approximate one is measured.
#
# Expected: the distance that its table of spaces gives for "cosine", 1 - the cosine, as hnswlib.Index gives it for the same vectors.
# Seen: BFIndex normalises the vectors that are added and not the query, so that its distance is 1 - the query's length times the
# cosine, from below -1 to above 3. No message. The order of one query's documents is right, so nobody notices; a threshold
# (duplicates nearer than 0.1), or a comparison between queries, is wrong: a query as short as 0.1 has every document at about 1, and one
# of length 4 has documents below 0. Index normalises both. What helps: normalise the queries; l2 and ip are right.
#
# Versions seen: hnswlib 0.8.0, numpy 2.4.6, Python 3.11. Needs a C++ compiler. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q hnswlib==0.8.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

import hnswlib
import numpy as np

print("versions:", *(f"{name} {version(name)}" for name in ("hnswlib", "numpy")))
random = np.random.RandomState(0)
documents = random.standard_normal((100, 16)) * np.linspace(0.3, 3, 100)[:, None]
queries = random.standard_normal((20, 16))
lengths = np.linalg.norm(documents, axis=1)
products = queries @ documents.T / np.linalg.norm(queries, axis=1, keepdims=True)
squares = ((queries[:, None] - documents) ** 2).sum(axis=2)


def found(kind, space: str, vectors) -> tuple[np.ndarray, np.ndarray]:
    index = kind(space=space, dim=16)
    index.init_index(max_elements=len(vectors))
    index.add_items(vectors.astype(np.float32))
    if kind is hnswlib.Index:
        index.set_ef(len(vectors))
    return index.knn_query(queries.astype(np.float32), k=5)


def compare(name: str, answer, truth) -> None:
    places, distances = answer
    right = np.mean([len({*row} & {*best}) for row, best in zip(places, np.argsort(truth, axis=1)[:, :5])]) / 5
    equal = np.allclose(distances, np.take_along_axis(truth, places.astype(int), axis=1), atol=1e-4)
    print(f"result: {name}: {right:.0%} of the nearest five are found, distances right: {equal}")


compare("Index, cosine", found(hnswlib.Index, "cosine", documents), 1 - products / lengths)
compare("BFIndex, l2", found(hnswlib.BFIndex, "l2", documents), squares)
brute = found(hnswlib.BFIndex, "cosine", documents)
compare("BFIndex, cosine", brute, 1 - products / lengths)
query_lengths = np.linalg.norm(queries, axis=1, keepdims=True)
compare("BFIndex, cosine, as 1 - the query's length times the cosine", brute, 1 - query_lengths * products / lengths)
print("result: BFIndex, cosine: least distance below 0:", bool(brute[1].min() < -0.5))
queries /= query_lengths
compare("BFIndex, cosine, of queries of length 1", found(hnswlib.BFIndex, "cosine", documents), 1 - products / lengths)
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: Index, cosine: 100% of the nearest five are found, distances right: True
result: BFIndex, l2: 100% of the nearest five are found, distances right: True
result: BFIndex, cosine: 100% of the nearest five are found, distances right: False
result: BFIndex, cosine, as 1 - the query's length times the cosine: 100% of the nearest five are found, distances right: True
result: BFIndex, cosine: least distance below 0: True
result: BFIndex, cosine, of queries of length 1: 100% of the nearest five are found, distances right: True
SEEN
