#!/usr/bin/env bash
# sentence-transformers 6.2.0: a plain Hugging Face folder whose tokenizer has a chat template, as most decoders have.
#
# Expected: SentenceTransformer(folder).encode(text) embeds the text, as it does without a template.
# Seen: the text becomes a chat message and is put into the template, so that its tokens are others. The log says nothing.
# The same happens in Transformer(folder), the first module of a model that is being put together, and with it in every
# folder that is saved from it. A folder that already has modules.json, but no modality_config, embeds the plain text.
# Our export therefore says modality_config = {"text": ...} itself.
#
# Versions seen: sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0 (CPU), Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 sentence-transformers==6.2.0 transformers==5.23.0
cat >"$folder/run.py" <<'PYTHON'
import pathlib
import sys

import sentence_transformers
import transformers
from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Tokenizer, models, pre_tokenizers

print("version: sentence-transformers", sentence_transformers.__version__, "transformers", transformers.__version__)
folder = pathlib.Path(sys.argv[1])
words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "tea": 2, "user": 3, "says": 4}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
transformers.Qwen3Model(transformers.Qwen3Config(vocab_size=5, intermediate_size=8, **sizes)).save_pretrained(folder)
for template in (None, "{% for m in messages %}user says {{ m['content'] }}{% endfor %}"):
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    ids = Transformer(str(folder)).preprocess(["tea"])["input_ids"][0].tolist()
    print("result:", "with" if template else "without", "a chat template:", tokenizer.decode(ids))
PYTHON
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/run.py" "$folder/model" 2>/dev/null | grep -E '^(version|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: without a chat template: tea
result: with a chat template: user says tea
SEEN
