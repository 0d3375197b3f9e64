#!/usr/bin/env bash
# vicinity 0.4.6, one interface over faiss, hnswlib, usearch, voyager and others: metric="dot".
#
# Expected: the dot product, as "dot" says in its own table of parameters beside "cosine", and as a model that is trained by dot products
# needs; or a refusal by backends that have none.
# Seen: "dot" is another name of the cosine, in every backend, so that lengths count nothing; no message. The dot product is called
# "inner_product" and only usearch's backend takes it. There the order is right, but query() raises every distance below 0 to 0,
# and 1 - a product is below 0 for all good matches of vectors that are not normalised: all have the distance 0.0.
# What helps: normalise, or use a library of indexes itself.
#
# Versions seen: vicinity 0.4.6, usearch 2.26.6, numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q vicinity==0.4.6 usearch==2.26.6 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
from vicinity import Backend, Vicinity

print("versions:", *(f"{name} {version(name)}" for name in ("vicinity", "usearch", "numpy")))
query = np.array([1, 0], dtype=np.float32)
documents = {"near and short": [0.5, 0.1], "far and long": [3, 3], "farthest and longest": [5, 9]}
vectors = np.array([*documents.values()], dtype=np.float32)
product = dict(zip(documents, (vectors @ query).tolist(), strict=True))
print("result: 1 - dot product:", [(name, round(1 - product[name], 1)) for name in sorted(product, key=product.get, reverse=True)])
for backend, metric in ((Backend.BASIC, "dot"), (Backend.USEARCH, "dot"), (Backend.USEARCH, "inner_product")):
    found = Vicinity.from_vectors_and_items(vectors, [*documents], backend_type=backend, metric=metric).query(query, k=3)[0]
    print(f"result: {backend.value}, {metric}:", [(name, round(float(distance), 1)) for name, distance in found])
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: 1 - dot product: [('farthest and longest', -4.0), ('far and long', -2.0), ('near and short', 0.5)]
result: basic, dot: [('near and short', 0.0), ('far and long', 0.3), ('farthest and longest', 0.5)]
result: usearch, dot: [('near and short', 0.0), ('far and long', 0.3), ('farthest and longest', 0.5)]
result: usearch, inner_product: [('farthest and longest', 0.0), ('far and long', 0.0), ('near and short', 0.5)]
SEEN
