"""`model.append_eos`: every text ends with the end token, in training and in the folder that others load."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.end_of_text import end_of_texts
from harness.encoder.load import load_encoder
from harness.export.sentence_transformers_folder import embed_on_cpu, verify_model, write_model
from harness.model_folder.preflight import Preflight
from harness.prompts import ModelPrompts
from harness.types import PromptedText
from tests.unit.encoder.attention.decoders import make_decoder, make_llama
from tests.unit.encoder.models import TEXTS, change_json, config

END = 3  # the id of [SEP], which is the decoders' end token


@pytest.fixture
def folder(tmp_path):
    return make_decoder(tmp_path / "in")


@pytest.mark.parametrize("max_length", [3, 24])
def test_every_text_ends_with_the_end_token_even_if_it_is_cut(folder, max_length):
    plain, tokeniser = Tokeniser(str(folder)), Tokeniser(str(folder), append_eos=True)
    rows, without = tokeniser.encode(TEXTS, max_length), plain.encode(TEXTS, max_length)
    assert max(map(len, rows)) == min(max_length, 15)
    for row, words in zip(rows, without, strict=True):
        assert row == [*words[: max_length - 1], END]
    flat = tokeniser.encode_flat(TEXTS * 3, max_length)  # word by word, where the tokenizer allows it
    assert flat.ids_E.tolist() == [token for row in rows * 3 for token in row]


def test_stored_tokens_are_told_apart_by_the_end_token(folder):
    """The cache of tokens is keyed by this hash."""
    prints = [Tokeniser(str(folder), append_eos=append).fingerprint for append in (False, True, "auto", False)]
    assert prints[0] == prints[3] != prints[1] == prints[2]


def test_a_tokenizer_that_ends_texts_itself_is_left_as_it_is(tmp_path):
    folder = make_decoder(tmp_path, end="[SEP]")
    prints = {Tokeniser(str(folder), append_eos=append).fingerprint for append in (False, True, "auto")}
    assert len(prints) == 1
    assert Tokeniser(str(folder), append_eos=True).encode(["aral"], 8)[0].count(END) == 1


def exported(folder, out, pooling="last", append_eos="auto"):
    settings = config(folder, pooling=pooling, append_eos=append_eos)
    encoder = load_encoder(settings).eval()
    tokeniser = Tokeniser(str(folder), append_eos=end_of_texts(settings))
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    write_model(out, encoder, state, tokeniser.tokenizer, settings, prompts=ModelPrompts(), card="")
    return settings, embed_on_cpu(encoder, tokeniser, TEXTS, 24)


@pytest.mark.parametrize("flags", [{}, {"add_bos_token": False, "add_eos_token": False}])
def test_an_export_ends_texts_for_every_reader_and_pads_on_either_side(folder, tmp_path, flags):
    """tokenizer.json holds it: readers in Rust know no other file. A pooled last token must not be padding."""
    change_json(folder / "tokenizer_config.json", **flags)
    out = tmp_path / "out"
    settings, expected = exported(folder, out)
    assert verify_model(out, TEXTS, expected, settings) < 1e-5
    assert Tokenizer.from_file(str(out / "tokenizer.json")).encode("aral btin").ids[-1] == END
    assert Tokeniser(str(out)).encode(TEXTS, 24) == Tokeniser(str(folder), append_eos=True).encode(TEXTS, 24)
    model = SentenceTransformer(str(out), device="cpu")
    right = model.encode(TEXTS)
    model.tokenizer.padding_side = "left"
    np.testing.assert_allclose(model.encode(TEXTS), right, atol=1e-5)
    unit = torch.nn.functional.normalize(torch.tensor(expected), dim=1).numpy()
    np.testing.assert_allclose(right, unit, atol=1e-5)


def test_the_end_token_comes_once_behind_a_text_that_another_token_begins(tmp_path):
    """Llama, Mistral and Gemma begin texts with one. A second template took it and the text for a pair, and ended both:
    <s> </s> text </s>."""
    folder, out = make_llama(tmp_path / "in"), tmp_path / "out"
    plain = Tokeniser(str(folder)).encode(TEXTS, 24)
    assert all(row[0] == 1 and 2 not in row for row in plain)
    tokeniser = Tokeniser(str(folder), append_eos=True)
    assert tokeniser.encode(TEXTS, 24) == [[*row[:23], 2] for row in plain]
    assert tokeniser.encode(TEXTS, 4) == [[*row[:3], 2] for row in plain]
    settings, expected = exported(folder, out)
    assert verify_model(out, TEXTS, expected, settings) < 1e-5
    assert [Tokenizer.from_file(str(out / "tokenizer.json")).encode(text).ids for text in TEXTS] == [
        [*row, 2] for row in plain
    ]
    # A class that in transformers 4 reads no template: it would end no text, without a word.
    assert json.loads((out / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_an_export_without_the_end_token_is_refused(folder, tmp_path):
    """The comparison of an export would see a reader that does not add it."""
    settings, expected = exported(folder, tmp_path / "out")
    Tokeniser(str(folder)).tokenizer.save_pretrained(tmp_path / "out")
    with pytest.raises(ValueError, match="do not use this export"):
        verify_model(tmp_path / "out", TEXTS, expected, settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "auto"),  # a causal language model
        ({"pooling": "last"}, "auto"),
        ({"pooling": ["mean", "last"]}, "auto"),
        ({"pooling": "mean"}, False),
        ({"attention_mask": "bidirectional"}, False),  # whose pooling is mean, unless the recipe names one
        ({"attention_mask": "soft"}, False),
        ({"attention_mask": "soft", "pooling": "last"}, "auto"),
        ({"append_eos": False}, False),
        ({"pooling": "mean", "append_eos": True}, True),
    ],
)
def test_auto_adds_it_where_the_last_token_is_pooled(folder, settings, expected):
    assert end_of_texts(config(folder, **settings)) == expected


def test_auto_leaves_a_model_of_sentence_transformers_as_it_was_trained_and_says_so(folder, tmp_path):
    exported(folder, tmp_path / "out", append_eos=False)
    assert end_of_texts(config(tmp_path / "out")) is False
    with pytest.warns(UserWarning, match=r"got last, but the tokenizer .* set model.append_eos: true if the model"):
        Preflight(str(tmp_path / "out"), append_eos="auto").check()


def test_a_run_says_what_it_adds_and_a_command_that_reads_the_folder_adds_nothing(folder):
    with pytest.warns(UserWarning, match=r"append_eos: auto: the last token is pooled, .*: \[SEP\] is added to every"):
        Preflight(str(folder), append_eos="auto").check()
    with pytest.warns(UserWarning, match="the embedding is the state of its last word"):
        Preflight(str(folder)).check()


def test_a_tokenizer_without_an_end_token_is_refused_where_it_is_required(folder):
    change_json(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ValueError, match=r"append_eos: got true, but the tokenizer of .* has no end token, expected"):
        Preflight(str(folder), pooling=("last",), append_eos=True).check()
    with pytest.raises(ValueError, match=r"model.append_eos: got true"):
        Tokeniser(str(folder), append_eos=True)
    with pytest.warns(UserWarning, match="add the token to the tokenizer if"):
        Preflight(str(folder), append_eos="auto").check()


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_an_instruction_is_read_and_pooled_as_in_sentence_transformers(folder, tmp_path, pooling, include_prompt):
    """Instruct: ... Query: ... before queries; with `include_prompt: false` its tokens are read but not pooled."""
    instruction, out = "aral btin cmok dsul ", tmp_path / "out"
    exported(folder, out, pooling, append_eos=True)
    change_json(out / "1_Pooling" / "config.json", include_prompt=include_prompt)
    encoder, tokeniser = load_encoder(config(out)).eval(), Tokeniser(str(out))
    queries = [PromptedText(instruction, text) for text in TEXTS]
    found = embed_on_cpu(encoder, tokeniser, queries, 24)
    expected = SentenceTransformer(str(out), device="cpu").encode(TEXTS, prompt=instruction)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, expected, atol=1e-5)
    without = embed_on_cpu(encoder, tokeniser, TEXTS, 24)
    assert np.abs(without - found).max() > 1e-2
