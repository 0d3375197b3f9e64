#!/usr/bin/env bash
# transformers.js 4.3.2: the pipeline feature-extraction with pooling "last_token", for texts of different lengths in one batch.
#
# Expected: the state of each text's last token, as with pooling "mean", which leaves padding out; or a refusal.
# Seen: the state at the last place of the batch, without a message. Where the tokenizer pads on the right (its default), that is the
# padding of every text but the longest: in the batch two different texts get one and the same vector. A text by itself, and
# a tokenizer with padding_side "left", are right. An ONNX file that has the finished vector as an output needs no pooling.
#
# Versions seen: @huggingface/transformers 4.3.2, onnxruntime-node 1.30.0, node 20. Needs node, npm and python3.
# Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.22.0 tokenizers==0.22.2
cat >"$folder/make.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import Tokenizer, models, pre_tokenizers

folder = Path(sys.argv[1])
words = ["[PAD]", "[UNK]", "green", "tea", "keeps", "long"]
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
state = numpy_helper.from_array(np.eye(len(words), dtype=np.float32), "state")  # a token's state says which token it is
graph = helper.make_graph(
    [helper.make_node("Gather", ["state", "input_ids"], ["last_hidden_state"])],
    "states",
    [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")],
    [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", len(words)])],
    [state],
)
for side in ("right", "left"):
    (folder / side / "onnx").mkdir(parents=True)
    tokenizer.save(str(folder / side / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]", "padding_side": side}
    (folder / side / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / side / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": len(words)}))
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / side / "onnx" / "model.onnx")
PYTHON
"$folder/venv/bin/python" "$folder/make.py" "$folder/models"
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit --ignore-scripts @huggingface/transformers@4.3.2
cat >"$folder/run.mjs" <<'JS'
import { env, pipeline } from "@huggingface/transformers";
import { readFileSync } from "node:fs";
const version = JSON.parse(readFileSync("node_modules/@huggingface/transformers/package.json")).version;
console.log("version: transformers.js", version);
env.localModelPath = "models";
env.allowRemoteModels = false;
const words = ["[PAD]", "[UNK]", "green", "tea", "keeps", "long"];
const texts = ["green tea", "keeps", "green tea keeps long"];
const tokens = (rows) => rows.tolist().map((row) => words[row.indexOf(1)]).join(", ");
for (const side of ["right", "left"]) {
  const embed = await pipeline("feature-extraction", side, { dtype: "fp32" });
  const alone = [];
  for (const text of texts) alone.push(tokens(await embed([text], { pooling: "last_token" })));
  console.log(`result: padding ${side}: one by one: ${alone.join(", ")}`);
  console.log(`result: padding ${side}: in a batch: ${tokens(await embed(texts, { pooling: "last_token" }))}`);
}
JS
node "$folder/run.mjs" 2>/dev/null | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: padding right: one by one: tea, keeps, long
result: padding right: in a batch: [PAD], [PAD], long
result: padding left: one by one: tea, keeps, long
result: padding left: in a batch: tea, keeps, long
SEEN
