#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer.from_pretrained of a folder that holds a model's config.json and no tokenizer file.
#
# Expected: an error that names the missing files.
# Seen: for BERT and XLM-RoBERTa a tokenizer of five special tokens, for which every word is the unknown token; for Qwen3 and GPT-2 a
# tokenizer of one token, for which every text is empty; no error. Somebody who copies weights without
# the tokenizer trains and evaluates a model that sees no words. (An MPNet folder does raise an error.)
#
# Versions seen: transformers 5.23.0, tokenizers 0.23.3, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3
cat >"$folder/run.py" <<'PYTHON'
import tempfile

import transformers

print("version: transformers", transformers.__version__)
for name in ("BertConfig", "XLMRobertaConfig", "Qwen3Config", "GPT2Config"):
    with tempfile.TemporaryDirectory() as model:
        getattr(transformers, name)().save_pretrained(model)
        tokenizer = transformers.AutoTokenizer.from_pretrained(model, local_files_only=True)
    ids = [tokenizer(text)["input_ids"] for text in ("the ferry leaves", "salt is kept")]
    words = [[i for i in row if i not in (tokenizer.cls_token_id, tokenizer.sep_token_id)] for row in ids]
    unknown = all(i == tokenizer.unk_token_id for row in words for i in row)
    seen = "no tokens" if not any(words) else "only unknown tokens" if unknown else "words"
    print(f"result: {name}: {len(tokenizer)} tokens in the vocabulary, a text becomes {seen}")
PYTHON
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: BertConfig: 5 tokens in the vocabulary, a text becomes only unknown tokens
result: XLMRobertaConfig: 5 tokens in the vocabulary, a text becomes only unknown tokens
result: Qwen3Config: 1 tokens in the vocabulary, a text becomes no tokens
result: GPT2Config: 1 tokens in the vocabulary, a text becomes no tokens
SEEN
