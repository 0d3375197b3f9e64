#!/usr/bin/env bash
# FlagEmbedding 1.4.2 and tevatron 0.1.0, two trainers of text embeddings, installed beside transformers 5.24.0.
#
# Expected: packages that pip installs together without complaint work together.
# Seen: FlagEmbedding asks for transformers below 6 and tevatron for 4.10 or later, so pip takes the newest 5 and `pip check` is
# content. FlagEmbedding's import then fails: it imports a module of transformers that 5.24.0 no longer has (5.23.0 has it).
# tevatron's own training command starts, and fails as it reads the first example: tokenizers have no encode_plus any more.
# What helps: transformers 5.23.0 or earlier for FlagEmbedding's import; 4.44.2 for tevatron (4.57.6 fails too: the trainer is given
# an argument num_items_in_batch that tevatron's does not take).
#
# Versions seen: as pinned below, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q FlagEmbedding==1.4.2 tevatron==0.1.0 transformers==5.24.0 torch==2.13.0 datasets==3.6.0 \
    accelerate==1.15.0 sentence-transformers==6.2.0 peft==0.21.2 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import importlib
import importlib.metadata
import json
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", HF_HOME=sys.argv[1] + "/cache")
import transformers

for name in ("FlagEmbedding", "tevatron", "transformers"):
    print("version:", name, importlib.metadata.version(name))
folder = pathlib.Path(sys.argv[1])
(folder / "texts").mkdir(parents=True)


def first_error(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def write_model_and_texts():
    """A BERT of one layer, and four examples in tevatron's form: token ids of a query, its positives and its negatives."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "blue"]
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    example = {"query": [5], "positives": [[5, 6]], "negatives": [[7, 6]]}
    (folder / "texts" / "train.jsonl").write_text(4 * (json.dumps(example) + "\n"))


def train_with_tevatron():
    from tevatron.driver.train import main

    sys.argv = ["train", "--model_name_or_path", str(folder), "--train_dir", str(folder / "texts")]
    sys.argv += ["--output_dir", str(folder / "out"), "--report_to", "none", "--max_steps", "1"]
    sys.argv += ["--train_n_passages", "2", "--per_device_train_batch_size", "2", "--use_cpu", "True"]
    main()


write_model_and_texts()
print("result: import FlagEmbedding:", first_error(lambda: importlib.import_module("FlagEmbedding")))
print("result: training with tevatron:", first_error(train_with_tevatron))
PYTHON
{
    echo "result: pip check: $("$folder/venv/bin/pip" check)"
    "$folder/venv/bin/python" "$folder/run.py" "$folder/model" 2>/dev/null | grep -E '^(version|result)'
} | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: pip check: No broken requirements found.
result: import FlagEmbedding: ModuleNotFoundError: No module named 'transformers.modeling_attn_mask_utils'
result: training with tevatron: AttributeError: BertTokenizer has no attribute encode_plus
SEEN
