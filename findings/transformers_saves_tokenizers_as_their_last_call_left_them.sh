#!/usr/bin/env bash
# transformers 5.23.0: what save_pretrained keeps of padding_side and truncation_side that were set on a loaded tokenizer, and what
# else it writes into tokenizer.json.
#
# Expected: both sides are saved (tokenizer.padding_side = "left" is the usual line before last-token pooling), or neither is; a text
# that was cut in some call before changes nothing in the saved files.
# Seen: it depends on the last call before saving. After no call, or a call without padding and truncation, both sides are back at
# "right" when the folder is loaded. After a call with padding=True the padding side stays, after one with truncation=True the other
# side: they are read from the state that the call left in tokenizer.json. So does its length: a program that reads tokenizer.json
# with the library tokenizers then cuts every text to the max_length of that call. No message.
# What helps: load with AutoTokenizer.from_pretrained(folder, padding_side="left", truncation_side="left"): sides given there are
# written to tokenizer_config.json; and call tokenizer.backend_tokenizer.no_truncation() and no_padding() before saving.
#
# Versions seen: transformers 5.23.0, tokenizers 0.23.3, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3
cat >"$folder/run.py" <<'PYTHON'
import tempfile
from importlib.metadata import version

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

print("versions:", *(f"{name} {version(name)}" for name in ("transformers", "tokenizers")))
words = ["[PAD]", "[UNK]", "one", "two", "three", "four", "five"]
texts = ["one two three four five", "one two"]


def saved(tokenizer) -> str:
    folder = tempfile.mkdtemp()
    tokenizer.save_pretrained(folder)
    return folder


def loaded_tokenizer(**sides):
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = saved(PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"))
    return AutoTokenizer.from_pretrained(folder, **sides)


def show(name: str, tokenizer) -> None:
    folder = saved(tokenizer)
    again = AutoTokenizer.from_pretrained(folder)
    tokens = len(Tokenizer.from_file(f"{folder}/tokenizer.json").encode(texts[0]).ids)
    print(f"result: {name}: pads {again.padding_side}, cuts {again.truncation_side}, tokenizers reads {tokens} tokens of 5")


calls = {
    "no call": lambda tokenizer: None,
    "a call without either": lambda tokenizer: tokenizer(texts[0]),
    "padding": lambda tokenizer: tokenizer(texts, padding=True),
    "truncation to 3": lambda tokenizer: tokenizer(texts, truncation=True, max_length=3),
    "both, then a call without": lambda tokenizer: (
        tokenizer(texts, padding=True, truncation=True, max_length=3),
        tokenizer(texts[0]),
    ),
}
for name, call in calls.items():
    tokenizer = loaded_tokenizer()
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    call(tokenizer)
    show(name, tokenizer)
show("sides given to from_pretrained", loaded_tokenizer(padding_side="left", truncation_side="left"))
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: no call: pads right, cuts right, tokenizers reads 5 tokens of 5
result: a call without either: pads right, cuts right, tokenizers reads 5 tokens of 5
result: padding: pads left, cuts right, tokenizers reads 5 tokens of 5
result: truncation to 3: pads right, cuts left, tokenizers reads 3 tokens of 5
result: both, then a call without: pads right, cuts right, tokenizers reads 5 tokens of 5
result: sides given to from_pretrained: pads left, cuts left, tokenizers reads 5 tokens of 5
SEEN
