#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export(dynamo=True) with dynamic_shapes, for a model that takes one state of each text.
#
# Expected: a graph whose batch and length are free, as dynamic_shapes says, or an error if the model does not allow it.
# Seen: with Tensor.take_along_dim the file is written without an error or a warning, and its inputs have the shape of the example, [2, 7, 4]:
# every other batch is refused when the file is used. torch.export.export alone, with the same dynamic_shapes, raises; torch.onnx.export then tries
# other ways and takes one that fixes the shape. With Tensor.gather, which take_along_dim calls, both are free.
#
# Versions seen: torch 2.13.0 (CPU build), onnx 1.23.2, onnxscript 0.7.2. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy
cat >"$folder/run.py" <<'PYTHON'
import sys
import warnings

import onnx
import torch


class Last(torch.nn.Module):
    """The state of the last token of each text that is no padding."""

    def __init__(self, take):
        super().__init__()
        self.take = take

    def forward(self, state, mask):
        last = (mask.shape[1] - 1 - mask.flip(1).argmax(dim=1))[:, None, None]
        return self.take(state, last).squeeze(1)


def shape(take):
    """The shape of the graph's first input, and what was said meanwhile of it."""
    example = (torch.randn(2, 7, 4), torch.ones(2, 7, dtype=torch.long))
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    path = sys.argv[1]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.onnx.export(
            Last(take).eval(), example, path, input_names=["state", "mask"], dynamo=True, verbose=False,
            dynamic_shapes=(free, free),
        )
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    about = [str(w.message) for w in said if "fixed" in str(w.message) or "specializ" in str(w.message)]
    return [d.dim_param or d.dim_value for d in dims], about


taken = shape(lambda state, last: state.take_along_dim(last, dim=1))
gathered = shape(lambda state, last: state.gather(1, last.expand(-1, 1, state.shape[2])))
print("version: torch", torch.__version__)
print("result: take_along_dim", taken)
print("result: gather", gathered)
if not (taken == ([2, 7, 4], []) and gathered[0][:2] == ["batch", "length"]):
    sys.exit(f"changed: {taken}, {gathered}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder/model.onnx" 2>&1 | grep -v torchvision
