#!/usr/bin/env bash
# onnxruntime 1.32.0, quantize_dynamic: the vector of one text from an int8 model, alone and beside other texts in a batch.
#
# Expected: one vector, whatever stands in the other rows, as in float32: no operation of the model mixes rows.
# Seen: the step of the 8 bits is one number for the whole tensor of a batch, from its lowest and highest value. Rows whose states are
# 30 times as large make the steps of every other row 30 times as coarse, so that a text's vector depends on its neighbours, and on
# padding, which is a part of the tensor. Of all-MiniLM-L6-v2, four texts alone and in one batch had cosines of 0.991 to 0.997 with
# themselves. Documents that are indexed in batches and queries that come one by one are embedded differently; no message.
# What helps: encode one text at a time, or measure with the batches that are served; statically quantised models have fixed steps.
#
# Versions seen: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

print("versions:", *(f"{name} {version(name)}" for name in ("onnxruntime", "onnx", "numpy")))
D = 64
random = np.random.RandomState(0)
weights = [numpy_helper.from_array((random.standard_normal((D, D)) / 8).astype(np.float32), name) for name in ("first", "second")]
nodes = [
    helper.make_node("MatMul", ["states", "first"], ["hidden"]),
    helper.make_node("Relu", ["hidden"], ["active"]),
    helper.make_node("MatMul", ["active", "second"], ["tokens"]),
    helper.make_node("ReduceMean", ["tokens"], ["embedding"], axes=[1], keepdims=0),
]
shapes = [("states", ["batch", "length", D]), ("embedding", ["batch", D])]
states, embedding = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
graph = helper.make_graph(nodes, "model", [states], [embedding], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
full, small = f"{sys.argv[1]}/model.onnx", f"{sys.argv[1]}/model_int8.onnx"
onnx.save(model, full)
quantize_dynamic(full, small, weight_type=QuantType.QInt8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


text = random.standard_normal((1, 8, D)).astype(np.float32)
other = random.standard_normal((7, 8, D)).astype(np.float32)
batches = {"alone": text, "like others": np.concatenate([text, other]), "rows 30 times as large": np.concatenate([text, 30 * other])}
exact = None
for name, path in (("float32", full), ("int8", small)):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    vectors = {batch: session.run(None, {"states": rows})[0][0] for batch, rows in batches.items()}
    exact = vectors["alone"] if exact is None else exact
    for batch, vector in vectors.items():
        same = np.allclose(vector, vectors["alone"], atol=1e-5)
        print(f"result: {name}, {batch}: equal to alone: {same}, cosine with float32 above 0.999: {cosine(vector, exact) > 0.999}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: float32, alone: equal to alone: True, cosine with float32 above 0.999: True
result: float32, like others: equal to alone: True, cosine with float32 above 0.999: True
result: float32, rows 30 times as large: equal to alone: True, cosine with float32 above 0.999: True
result: int8, alone: equal to alone: True, cosine with float32 above 0.999: True
result: int8, like others: equal to alone: False, cosine with float32 above 0.999: True
result: int8, rows 30 times as large: equal to alone: False, cosine with float32 above 0.999: False
SEEN
