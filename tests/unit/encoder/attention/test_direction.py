"""`model.attention_mask`: which token reads which, in training and in the folder that others load; or one line."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import config_of_folder, load_encoder
from harness.export.sentence_transformers_folder import embed_on_cpu, verify_model, write_model
from harness.model_folder.configuration import is_bidirectional
from harness.prompts import ModelPrompts
from tests.tiny import make_model
from tests.unit.encoder.attention.decoders import make_decoder
from tests.unit.encoder.models import TEXTS, change_json, config

TOKENS, OTHER_END = torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[5, 6, 7, 8, 40]])
DECODERS = ("qwen2", "qwen3", "llama", "mistral", "gemma3")


def states(backbone, tokens, padding):
    """States [L, D] of the real tokens, with so many padding tokens behind them."""
    padded = torch.cat([tokens, torch.zeros(1, padding, dtype=torch.int64)], 1)
    mask = torch.tensor([[1] * 5 + [0] * padding])
    with torch.no_grad():
        return backbone(input_ids=padded, attention_mask=mask).last_hidden_state[0, :5]


def change_of_earlier_states(backbone, padding):
    return float((states(backbone, TOKENS, padding) - states(backbone, OTHER_END, padding))[:4].abs().min(0)[0].max())


@pytest.mark.parametrize("name", DECODERS)
def test_a_later_token_changes_an_earlier_state_with_bidirectional_attention_only(tmp_path, name):
    folder = make_decoder(tmp_path, name)
    for padding in (0, 3):
        for mask in (None, "causal"):
            backbone = load_encoder(config(folder, attention_mask=mask)).backbone.eval()
            assert change_of_earlier_states(backbone, padding) == 0
        both_ways = load_encoder(config(folder, attention_mask="bidirectional")).backbone.eval()
        assert change_of_earlier_states(both_ways, padding) > 1e-3


def test_the_folder_of_an_adapter_says_which_attention_it_was_trained_with(tmp_path):
    """Its backbone is configured by the model that it changes, which is causal; its scores would be others."""
    folder, out = make_decoder(tmp_path / "in"), tmp_path / "out"
    settings = config(folder, attention_mask="bidirectional", pooling="mean", max_length=8, lora={"rank": 4})
    encoder, tokeniser = load_encoder(settings).eval(), Tokeniser(str(folder))
    state, prompts = encoder.state_dict(), ModelPrompts()
    write_model(out, encoder, state, tokeniser.tokenizer, settings, prompts=prompts, card="", adapter_base=str(folder))
    found = load_encoder(config_of_folder(str(out))).eval()
    assert change_of_earlier_states(found.backbone, 3) > 1e-3
    expected = embed_on_cpu(encoder, tokeniser, TEXTS, 8)
    assert abs(embed_on_cpu(found, tokeniser, TEXTS, 8) - expected).max() < 1e-6
    again = config(out, attention_mask="causal", max_length=8)
    assert change_of_earlier_states(load_encoder(again).backbone.eval(), 3) == 0


@pytest.mark.parametrize(("name", "mask"), [("qwen3", "bidirectional"), ("gemma3", "bidirectional"), ("llama", "soft")])
def test_an_export_is_bidirectional_for_who_knows_no_option(tmp_path, name, mask):
    """sentence-transformers and transformers read config.json and nothing of the recipe."""
    folder, out = make_decoder(tmp_path / "in", name), tmp_path / "out"
    settings = config(folder, attention_mask=mask, pooling="mean", max_length=8)
    encoder, tokeniser = load_encoder(settings).eval(), Tokeniser(str(folder))
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    write_model(out, encoder, state, tokeniser.tokenizer, settings, prompts=ModelPrompts(), card="")
    expected = embed_on_cpu(encoder, tokeniser, TEXTS, 8)
    assert verify_model(out, TEXTS, expected, settings) < 1e-5
    alone = SentenceTransformer(str(out), device="cpu").encode(TEXTS[3])  # no padding beside a single text
    torch.testing.assert_close(
        torch.tensor(alone), torch.nn.functional.normalize(torch.tensor(expected[3]), dim=0), atol=1e-5, rtol=0
    )
    assert change_of_earlier_states(AutoModel.from_pretrained(out).eval(), 0) > 1e-3
    again = load_encoder(config_of_folder(str(out)))
    assert again.pooling == "mean, bidirectional attention"
    assert change_of_earlier_states(again.backbone.eval(), 3) > 1e-3
    causal = load_encoder(config_of_folder(str(out)).model_copy(update={"attention_mask": "causal"}))
    assert change_of_earlier_states(causal.backbone.eval(), 0) == 0
    assert causal.pooling == "mean"


def test_an_export_that_readers_would_take_for_causal_is_refused(tmp_path):
    """The comparison loads what a user would load: without the key in config.json it must fail."""
    folder, out = make_decoder(tmp_path / "in"), tmp_path / "out"
    settings = config(folder, attention_mask="bidirectional", pooling="mean")
    encoder, tokeniser = load_encoder(settings).eval(), Tokeniser(str(folder))
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    write_model(out, encoder, state, tokeniser.tokenizer, settings, prompts=ModelPrompts(), card="")
    change_json(out / "config.json", is_causal=True)
    with pytest.raises(ValueError, match="do not use this export"):
        verify_model(out, TEXTS, embed_on_cpu(encoder, tokeniser, TEXTS, 24), settings)


@pytest.mark.parametrize(
    ("name", "mask", "words"),
    [
        ("stablelm", "bidirectional", "of which 2 of 2 layers do not read later tokens"),
        ("lfm2", "bidirectional", r"of which 1 of 2 layers do not read later tokens .*\(the first: 0\)"),
        ("mamba", "bidirectional", "of type mamba, of which 2 of 2 layers do not read later tokens"),
        ("mamba", "soft", "of which 2 of 2 layers do not read later tokens"),
        ("mistral", "soft", "whose layers read 16 tokens of texts of up to 24, .* lower model.max_length to 16"),
        ("gemma3", "soft", "whose layers read 9 tokens of texts of up to 24, .* lower model.max_length to 9"),
    ],
)
def test_a_model_whose_attention_cannot_be_changed_is_refused_in_one_line(tmp_path, name, mask, words):
    """StableLM obeys the key where a text is padded and is causal where it is not; transformers gives no error."""
    folder = make_decoder(tmp_path, name)
    with pytest.raises(ValueError, match=f"^model.attention_mask: got {mask} for .*{words}") as caught:
        load_encoder(config(folder, attention_mask=mask))
    assert "\n" not in str(caught.value)


def test_an_encoder_is_bidirectional_and_cannot_be_made_causal(tmp_path):
    folder = make_model(tmp_path)
    as_it_is, asked = (load_encoder(config(folder, attention_mask=mask)) for mask in (None, "bidirectional"))
    for padding in (0, 3):
        plain, also = (states(encoder.backbone.eval(), TOKENS, padding) for encoder in (as_it_is, asked))
        torch.testing.assert_close(plain, also, rtol=0, atol=0)
    with pytest.raises(ValueError, match="of type bert, of which 2 of 2 layers read later tokens"):
        load_encoder(config(folder, attention_mask="causal"))


def test_a_folder_that_says_it_is_bidirectional_is_followed_without_an_option(tmp_path):
    folder = make_decoder(tmp_path)
    change_json(folder / "config.json", is_causal=False)
    encoder = load_encoder(config(folder))
    assert is_bidirectional(encoder.backbone.config)
    assert change_of_earlier_states(encoder.backbone.eval(), 0) > 1e-3


def test_a_key_that_the_class_does_not_read_changes_nothing_but_is_said(tmp_path):
    """Folders for servers have Gemma's key on a Qwen3. It was taken for bidirectional where it was written down, and
    the option that makes it so was refused."""
    folder = make_decoder(tmp_path)
    change_json(folder / "config.json", use_bidirectional_attention=True)
    with pytest.warns(UserWarning, match=r"use_bidirectional_attention: true, which transformers does not read for qw"):
        plain = load_encoder(config(folder, pooling="mean"))
    assert plain.pooling == "mean"
    assert change_of_earlier_states(plain.backbone.eval(), 0) == 0
    asked = load_encoder(config(folder, pooling="mean", attention_mask="bidirectional"))
    assert asked.pooling == "mean, bidirectional attention"
    assert change_of_earlier_states(asked.backbone.eval(), 0) > 1e-3
