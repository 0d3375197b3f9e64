"""Tokenizers that transformers has in Python only: they are found, fetched, and exported as they came."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import transformers
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import config_of_folder, load_encoder
from harness.export.sentence_transformers_folder import write_model
from harness.model_folder.find import resolve_model
from harness.prompts import ModelPrompts

TEXTS = ["the quick fox", "thick the"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def with_backbone(folder: Path, tokenizer_class: str) -> Path:
    settings = {"tokenizer_class": tokenizer_class, "model_max_length": 24}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=100, **sizes, max_position_embeddings=24)).save_pretrained(folder)
    return folder


def japanese(folder: Path) -> Path:
    """One of the two vocabularies that its class names, as in every published folder."""
    pieces = [*SPECIAL, "the", "quick", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return with_backbone(folder, "BertJapaneseTokenizer")


def tweets(folder: Path) -> Path:
    """Merges with how often each was seen, as BERTweet and PhoBERT have them."""
    (folder / "vocab.txt").write_text("".join(f"{x} 9\n" for x in [*LETTERS, *(f"{x}@@" for x in LETTERS), "the"]))
    (folder / "bpe.codes").write_text("t h 9\nth e</w> 8\n")
    return with_backbone(folder, "BertweetTokenizer")


@pytest.mark.parametrize("make", [japanese, tweets])
def test_a_tokenizer_in_python_gives_the_same_tokens_before_and_after_an_export(tmp_path, make):
    (tmp_path / "in").mkdir()
    folder = make(tmp_path / "in")
    config, tokeniser = config_of_folder(str(folder)), Tokeniser(str(folder))
    ids = tokeniser.encode(TEXTS, 24)
    assert ids == _ids_of_sentence_transformers(folder)
    assert len(ids[0]) < len(TEXTS[0].replace(" ", "")) + 2  # some letters are joined
    encoder = load_encoder(config)
    state = dict(encoder.state_dict())
    write_model(tmp_path / "out", encoder, state, tokeniser.tokenizer, config, prompts=ModelPrompts(), card="")
    assert _ids_of_sentence_transformers(tmp_path / "out") == ids
    assert Tokeniser(str(tmp_path / "out")).encode(TEXTS, 24) == ids


def test_other_merges_are_another_tokenizer_although_the_vocabulary_is_the_same(tmp_path):
    """Else tokens of the old merges would be taken from the cache."""
    folder = tweets(tmp_path)
    before = Tokeniser(str(folder))
    assert Tokeniser(str(folder)).fingerprint == before.fingerprint
    (folder / "bpe.codes").write_text("h e</w> 9\nt h 8\n")
    after = Tokeniser(str(folder))
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    assert after.encode(TEXTS, 24) != before.encode(TEXTS, 24)
    assert after.fingerprint != before.fingerprint


def test_every_file_of_every_tokenizer_is_fetched_from_a_hub(monkeypatch, hub_answers):
    """PhoBERT's merges, bpe.codes, were not, and its folder was said to have no tokenizer."""
    patterns = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda _, allow_patterns, **__: patterns.extend(allow_patterns)
    )
    resolve_model("somebody/some-tokenizer")
    # From the sources, because some of the classes cannot be imported without further packages.
    sources = Path(transformers.__file__).parent.glob("models/*/tokenization_*.py")
    files = {name for source in sources for name in re.findall(r'"\w+_file": "([\w.-]+)"', source.read_text("utf-8"))}
    assert len(files) > 8
    not_fetched = {file for file in files if not any(fnmatch(file, pattern) for pattern in patterns)}
    assert not_fetched <= {"prophetnet.tokenizer"}, not_fetched  # of an encoder-decoder


def _ids_of_sentence_transformers(folder: Path) -> list[list[int]]:
    model = SentenceTransformer(str(folder), device="cpu")
    return [model.preprocess([text])["input_ids"][0].tolist() for text in TEXTS]
