#!/usr/bin/env bash
# llama.cpp 0.5.0 (in node-llama-cpp 3.22.1): tokens of a WordPiece vocabulary that strips accents, as bert-base-uncased's.
#
# Expected: those of tokenizers' BertNormalizer, for every script: letters are decomposed and accents dropped, so that a Korean syllable
# becomes its two or three letters and a vowel sign stays.
# Seen: Latin letters are the same. Of a Korean syllable only the first consonant is left, without a message, so that different words
# have one and the same vector. Do not use such a vocabulary for Korean in llama.cpp.
#
# Versions seen: node-llama-cpp 3.22.1, gguf 0.17.1, tokenizers 0.22.2, node 20, x86-64. Needs node, npm and python3.
# Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q gguf==0.17.1 tokenizers==0.22.2
cat >"$folder/make.py" <<'PYTHON'
import sys
import unicodedata

from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

texts = ["Cafés", "naïve", "한국", "하구", "서울", "시울"]
letters = sorted({letter for text in texts for letter in unicodedata.normalize("NFD", text.lower())} - {"\u0301", "\u0308"})
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
for text in texts:
    print(f"result: tokenizers {text}:", *tokenizer.encode(text).ids)

gguf = GGUFWriter(sys.argv[1], "bert")  # a vocabulary without weights, as convert_hf_to_gguf.py --vocab-only writes it
for key in ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"):
    gguf.add_uint32(f"bert.{key}", 8)
gguf.add_float32("bert.attention.layer_norm_epsilon", 1e-12)
gguf.add_token_type_count(2)
gguf.add_tokenizer_model("bert")
gguf.add_token_list([word if word[0] == "[" else word[2:] if word[:2] == "##" else f"\u2581{word}" for word in words])
gguf.add_token_types([TokenType.CONTROL if word[0] == "[" else TokenType.NORMAL for word in words])
for role, number in (("pad", 0), ("unk", 1), ("bos", 2), ("eos", 3), ("sep", 3)):
    getattr(gguf, f"add_{role}_token_id")(number)
gguf.write_header_to_file()
gguf.write_kv_data_to_file()
gguf.write_tensors_to_file()
gguf.close()
PYTHON
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit --ignore-scripts --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
cat >run.mjs <<'JS'
import { readFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
console.log("version: node-llama-cpp", JSON.parse(readFileSync("node_modules/node-llama-cpp/package.json")).version);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: "vocabulary.gguf", vocabOnly: true });
for (const text of ["Cafés", "naïve", "한국", "하구", "서울", "시울"])
  console.log(`result: llama.cpp ${text}: ${[...model.tokenize(text)].join(" ")}`);
process.exit(0);
JS
{
  venv/bin/python make.py vocabulary.gguf
  node run.mjs 2>/dev/null
} | tee seen
diff <(grep result seen) - <<'SEEN'
result: tokenizers Cafés: 5 23 26 25 29
result: tokenizers naïve: 9 23 27 30 25
result: tokenizers 한국: 15 35 40 31 37 39
result: tokenizers 하구: 15 35 31 37
result: tokenizers 서울: 13 36 33 37 41
result: tokenizers 시울: 13 38 33 37 41
result: llama.cpp Cafés: 5 23 26 25 29
result: llama.cpp naïve: 9 23 27 30 25
result: llama.cpp 한국: 15 31
result: llama.cpp 하구: 15 31
result: llama.cpp 서울: 13 33
result: llama.cpp 시울: 13 33
SEEN
