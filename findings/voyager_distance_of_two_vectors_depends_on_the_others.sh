#!/usr/bin/env bash
# voyager 2.2.3: Index.get_distance(a, b) in the space InnerProduct.
#
# Expected: what its documentation says, the distance between the two vectors that are given: 1 - their inner product, as query() has
# it, whatever else the index holds.
# Seen: get_distance() takes both for stored vectors, which carry one more number that makes them as long as the longest vector of the
# index (sqrt(longest^2 - own^2), here cut to a whole number), and includes the product of these numbers. The result falls as
# longer vectors are added, and orders documents otherwise than query(). No message. Cosine and Euclidean agree with query().
# What helps: take the distance from query(), or compute the product with numpy.
#
# Versions seen: voyager 2.2.3, numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q voyager==2.2.3 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
from voyager import Index, Space

print("versions:", *(f"{name} {version(name)}" for name in ("voyager", "numpy")))
query = np.array([1, 0], dtype=np.float32)
documents = np.array([[1, 0], [2, 4], [0, 3]], dtype=np.float32)
for space in (Space.InnerProduct, Space.Cosine, Space.Euclidean):
    index = Index(space, num_dimensions=2)
    index.add_items(documents)
    places, distances = index.query(query, k=3)
    by_query = [round(float(distances[places.tolist().index(i)]), 2) for i in range(3)]
    pairs = [round(index.get_distance(query, document), 2) for document in documents]
    print(f"result: {space.name}: query {by_query}, get_distance {pairs}")
    if space is Space.InnerProduct:
        squares = np.array([1, *(documents**2).sum(axis=1)])  # the query's first
        further = np.floor(np.sqrt(squares.max() - squares))
        print("result: 1 - product - product of the further numbers:", (1 - documents @ query - further[0] * further[1:]).tolist())
        index.add_item(np.array([30, 40], dtype=np.float32))
        print("result: after a vector of length 50:", [round(index.get_distance(query, document), 1) for document in documents])
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: InnerProduct: query [0.0, -1.0, 1.0], get_distance [-16.0, -1.0, -11.0]
result: 1 - product - product of the further numbers: [-16.0, -1.0, -11.0]
result: after a vector of length 50: [-2401.0, -2402.0, -2400.0]
result: Cosine: query [0.0, 0.55, 1.0], get_distance [0.0, 0.55, 1.0]
result: Euclidean: query [0.0, 17.0, 10.0], get_distance [0.0, 17.0, 10.0]
SEEN
