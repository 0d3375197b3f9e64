#!/usr/bin/env bash
# transformers 5.23.0: BertweetTokenizer (vinai/bertweet-base) saved and loaded again. 4.57.6 is shown beside it.
#
# Expected: the same tokens, as from 4.57.6, which copies the file of the merges.
# Seen: 5.23.0 writes the two pieces of a merge in a line, and reads all but the last word of a line, which in the published file says
# how often the pair was seen. So every merge loses its second half, words fall into letters, and a model that was trained with the
# first tokenizer and saved with the second gives other vectors. No message. PhoBERT's tokenizer copies the file.
# Our export copies the files of a vocabulary that a class in Python has written.
#
# Versions seen: transformers 4.57.6 and 5.23.0, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/run.py" <<'PYTHON'
import sys
from pathlib import Path

import transformers
from transformers import BertweetTokenizer

published, saved = (Path(sys.argv[1]) / name for name in ("published", "saved"))
published.mkdir(parents=True)
letters = "abcdefghijklmnopqrstuvwxyz"
# As fastBPE writes them: a piece or two pieces, and how often they were seen.
pieces = [*letters, *(f"{letter}@@" for letter in letters), "tea", "te@@"]
(published / "vocab.txt").write_text("".join(f"{piece} 9\n" for piece in pieces))
(published / "bpe.codes").write_text("t e 9\nte a</w> 8\n")
tokenizer = BertweetTokenizer(str(published / "vocab.txt"), str(published / "bpe.codes"))
tokenizer.save_pretrained(saved)
again = BertweetTokenizer.from_pretrained(saved)
major = transformers.__version__.partition(".")[0]
print("version: transformers", transformers.__version__)
for name, one in (("made", tokenizer), ("saved and loaded", again)):
    print(f"result: transformers {major}: {name}: {' '.join(one.tokenize('tea'))}")
PYTHON
for version in 4.57.6 5.23.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q "transformers==$version"
  HF_HUB_OFFLINE=1 "$folder/$version/bin/python" "$folder/run.py" "$folder/of-$version" 2>/dev/null
done | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: transformers 4: made: tea
result: transformers 4: saved and loaded: tea
result: transformers 5: made: tea
result: transformers 5: saved and loaded: t@@ e@@ a
SEEN
