#!/usr/bin/env bash
# transformers 4.57.6 and 5.23.0: what save_pretrained writes of a tokenizer that came with sentencepiece's tokenizer.model.
#
# Expected: what was loaded: tokenizer.model stays beside tokenizer.json, which is made from it.
# Seen: transformers 4 copies it; transformers 5 leaves it out, without a message. Programs that read tokenizer.model then stop, or cut
# texts into other tokens, because tokenizer.json does not hold its scores (llama.cpp's converter does the one for Gemma, the
# other for Llama 2). Copy the file beside a model that is saved.
#
# Versions seen: transformers 4.57.6 and 5.23.0, sentencepiece 0.2.1, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/make.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import sentencepiece

folder = Path(sys.argv[1])
folder.mkdir()
lines = [f"green tea number {i} keeps for {2 * i} years in a dry box" for i in range(200)]
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_prefix=str(folder / "tokenizer"), vocab_size=330, model_type="bpe",
    byte_fallback=True, minloglevel=2,
)
(folder / "tokenizer.vocab").unlink()
special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **special}))
PYTHON
cat >"$folder/run.py" <<'PYTHON'
import sys
from pathlib import Path

import transformers

tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[2])
major = transformers.__version__.partition(".")[0]
print("version: transformers", transformers.__version__)
for name, place in (("loaded", sys.argv[1]), ("saved", sys.argv[2])):
    files = sorted(path.name for path in Path(place).glob("tokenizer.*"))
    print(f"result: transformers {major}: {name}: {', '.join(files)}")
PYTHON
for version in 4.57.6 5.23.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q "transformers==$version" sentencepiece==0.2.1 protobuf
  [[ -d $folder/model ]] || "$folder/$version/bin/python" "$folder/make.py" "$folder/model" 2>/dev/null
  HF_HUB_OFFLINE=1 "$folder/$version/bin/python" "$folder/run.py" "$folder/model" "$folder/saved-$version" 2>/dev/null
done | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: transformers 4: loaded: tokenizer.model
result: transformers 4: saved: tokenizer.json, tokenizer.model
result: transformers 5: loaded: tokenizer.model
result: transformers 5: saved: tokenizer.json
SEEN
