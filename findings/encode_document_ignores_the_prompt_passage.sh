#!/usr/bin/env bash
# sentence-transformers 6.2.0: encode_document of a model whose document prompt is called "passage".
#
# Expected: its docstring: the first available prompt of "document", "passage" and "corpus" is used.
# Seen: no prompt is used, without a message: every model has a prompt "document", which is empty if none is stored, and the first
# one that is there wins. encode(texts, prompt_name="passage") uses the prompt. Models that are trained elsewhere should
# be written with the name "document".
#
# Versions seen: sentence-transformers 6.2.0, torch 2.13.0, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 sentence-transformers==6.2.0
cat >"$folder/run.py" <<'PYTHON'
import sys

import numpy as np
import sentence_transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

print("version: sentence-transformers", sentence_transformers.__version__)
tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "find": 1, "page": 2, "kettle": 3}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
modules = [StaticEmbedding(tokenizer, embedding_weights=np.eye(4, dtype=np.float32))]
SentenceTransformer(modules=modules, device="cpu", prompts={"query": "find ", "passage": "page "}).save(sys.argv[1])
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = ["kettle"]
print("result: prompts:", dict(sorted(model.prompts.items())))
for name, rows in (
    ("encode_query", model.encode_query(texts)),
    ("encode_document", model.encode_document(texts)),
    ("encode with the name passage", model.encode(texts, prompt_name="passage")),
):
    used = [prompt for prompt in ("", "find ", "page ") if np.allclose(rows, model.encode(texts, prompt=prompt))]
    print(f"result: {name} puts before a text: {used}")
PYTHON
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/run.py" "$folder/model" 2>/dev/null | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: prompts: {'document': '', 'passage': 'page ', 'query': 'find '}
result: encode_query puts before a text: ['find ']
result: encode_document puts before a text: ['']
result: encode with the name passage puts before a text: ['page ']
SEEN
