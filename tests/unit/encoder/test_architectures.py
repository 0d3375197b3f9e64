"""Backbones of other kinds than BERT give the states that transformers gives, and are exported and read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoConfig,
    AutoModel,
    BartConfig,
    BigBirdConfig,
    BigBirdModel,
    CanineConfig,
    CanineModel,
    CLIPConfig,
    FNetConfig,
    GPT2Config,
    GPT2Model,
    MobileBertConfig,
    MobileBertModel,
    ModernBertConfig,
    ModernBertModel,
    Phi3Config,
    Phi3Model,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaModel,
    SqueezeBertConfig,
    SqueezeBertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from harness.data.table import tokenisation
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.load import config_of_folder, load_encoder
from harness.export.sentence_transformers_folder import write_model
from harness.model_folder.configuration import position_limit, steady_limit
from harness.model_folder.pooling import POOLINGS, PoolingMode
from harness.prompts import ModelPrompts
from tests.tiny import make_model, text
from tests.unit.encoder.models import change_json

TEXTS = [text(i, 2 + 5 * i) for i in range(4)] + [text(9, 90)]
SIZES = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
T5_SIZES = {
    "vocab_size": 120, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0,
}  # fmt: skip


def backbones() -> dict[str, tuple[PreTrainedModel, PoolingMode]]:
    """Name → model as people have them, some with a decoder or a language head, and the pooling to test it with."""
    qwen3 = Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, max_position_embeddings=64)
    bidirectional = Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, max_position_embeddings=64, is_causal=False)
    squeeze = {"embedding_size": 32} | {
        f"{part}_groups": 1 for part in ("q", "k", "v", "post_attention", "intermediate", "output")
    }
    return {
        "t5": (T5ForConditionalGeneration(T5Config(**T5_SIZES)), "mean"),
        "qwen3": (Qwen3ForCausalLM(qwen3), "last"),
        "qwen3 that looks both ways": (Qwen3ForCausalLM(bidirectional), "mean"),
        "gpt2": (GPT2Model(GPT2Config(vocab_size=120, n_embd=32, n_layer=2, n_head=4, n_positions=40)), "last"),
        "albert": (AlbertModel(AlbertConfig(**SIZES, embedding_size=16, max_position_embeddings=40)), "mean"),
        "roberta": (RobertaModel(RobertaConfig(**SIZES, max_position_embeddings=40)), "cls"),
        "modernbert": (
            ModernBertModel(ModernBertConfig(**SIZES, max_position_embeddings=64, local_attention=8)),
            "mean",
        ),
        "squeezebert": (SqueezeBertModel(SqueezeBertConfig(**SIZES, **squeeze, max_position_embeddings=40)), "mean"),
    }


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer that all models of this file share."""
    return make_model(tmp_path_factory.mktemp("words"))


def saved(model: PreTrainedModel, words: Path, folder: Path) -> Path:
    """The model as a Hugging Face folder, with a tokenizer that has a chat template, as those of decoders do."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(words / name, folder / name)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}aral{{ m['content'] }}{% endfor %}")
    change_json(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    return folder


def states(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """States [L, D] of one text without padding, by transformers alone."""
    model = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0]


POOLED = {"mean": lambda state: state.mean(0), "cls": lambda state: state[0], "last": lambda state: state[-1]}


@pytest.mark.parametrize("name", backbones())
def test_a_backbone_gives_the_states_of_transformers_and_is_exported(words, tmp_path, name):
    model, pooling = backbones()[name]
    folder = saved(model, words, tmp_path / "in")
    config, tokeniser = config_of_folder(str(folder), pooling=pooling), Tokeniser(str(folder))
    config = config.model_copy(update={"max_length": position_limit(str(folder)) or 40})
    encoder = load_encoder(config).eval()
    assert not getattr(encoder.backbone.config, "use_cache", False)
    rows = tokeniser.encode(TEXTS, config.max_length)
    assert max(map(len, rows)) == config.max_length  # the last position is used, and padding goes up to it
    with torch.no_grad():
        embedding_BD = encoder(*tokeniser.pad(rows).on(torch.device("cpu")))
    expected_BD = torch.stack([POOLED[pooling](states(model, row)) for row in rows])
    torch.testing.assert_close(embedding_BD, expected_BD, atol=1e-5, rtol=1e-5)
    state = {
        key: value.clone() for key, value in encoder.state_dict().items()
    }  # as gathered from ranks: nothing shared
    write_model(tmp_path / "out", encoder, state, tokeniser.tokenizer, config, prompts=ModelPrompts(), card="")
    exported_BD = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(exported_BD, nn.functional.normalize(expected_BD, dim=1).numpy(), atol=1e-5)
    again = load_encoder(config_of_folder(str(tmp_path / "out"))).state_dict()
    torch.testing.assert_close(again, encoder.state_dict())


@pytest.mark.parametrize(("name", "pooling"), [("qwen3", "last"), ("roberta", "mean"), ("t5", "mean")])
def test_a_folder_that_names_no_pooling_gets_that_of_sentence_transformers_and_says_so(words, tmp_path, name, pooling):
    folder = str(saved(backbones()[name][0], words, tmp_path / "in"))
    with pytest.warns(UserWarning, match=f"names no pooling, so it is {pooling}, as in sentence-transformers"):
        encoder = load_encoder(config_of_folder(folder))
    assert encoder.pooling_modes == (pooling,)
    pooled = next(module for module in SentenceTransformer(folder, device="cpu") if hasattr(module, "pooling_mode"))
    assert pooled.pooling_mode == POOLINGS[pooling].sentence_transformers_name


@pytest.mark.parametrize(
    ("config", "words_of_refusal"),
    [
        (
            BartConfig(d_model=32, encoder_layers=1, decoder_layers=1),
            "got a model of type bart, an encoder-decoder whose",
        ),
        (FNetConfig(), "got a model of type fnet, whose forward takes no input_ids with an attention_mask"),
        (CLIPConfig(), "got a model of type clip, which also reads images"),
    ],
)
def test_a_model_that_is_not_of_texts_alone_is_refused_by_its_type(tmp_path, config, words_of_refusal):
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(ValueError, match="expected a") as caught:
        load_encoder(config_of_folder(str(tmp_path)))
    assert words_of_refusal in str(caught.value)


LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0,
}  # fmt: skip


def models_that_switch() -> dict[str, PreTrainedModel]:
    """Models that read a whole batch in another way if one of its texts has more than 48 tokens."""
    sizes = {**SIZES, "max_position_embeddings": 96}
    return {
        "phi3": Phi3Model(
            Phi3Config(**sizes, num_key_value_heads=2, rope_parameters=LONGROPE, original_max_position_embeddings=48)
        ),
        "big_bird": BigBirdModel(
            BigBirdConfig(**sizes, block_size=6, num_random_blocks=1, attention_type="block_sparse")
        ),
    }


@pytest.mark.parametrize("name", ["phi3", "big_bird"])
def test_a_length_from_which_on_texts_change_each_other_is_refused(words, tmp_path, name):
    """transformers chooses by the longest text of a batch, or by the batches before, how all of them are read."""
    limit = 48 if name == "phi3" else 42
    folder = str(saved(models_that_switch()[name], words, tmp_path / "in"))
    with pytest.raises(ValueError, match=rf"max_length: got 96, but .*, expected at most {limit}, because an embed"):
        load_encoder(ModelConfig(name_or_path=folder, max_length=96, pooling="mean"))
    encoder = load_encoder(ModelConfig(name_or_path=folder, max_length=limit, pooling="mean")).eval()
    tokeniser = Tokeniser(folder)
    short, long = tokeniser.encode([text(1, 5), text(2, 90)], limit)
    assert steady_limit(folder) == tokeniser.pad([long]).input_ids_BL.shape[1] == limit  # padding crosses it neither
    alone, together = (encoder(*tokeniser.pad(rows).on(torch.device("cpu")))[0] for rows in ([short], [short, long]))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_texts_do_change_each_other_there(words, tmp_path):
    """Otherwise the refusal would be of nothing."""
    model = models_that_switch()["phi3"].eval()
    saved(model, words, tmp_path / "in")
    ids = torch.arange(5, 101)[None]
    with torch.no_grad():
        short, long = model(input_ids=ids[:, :8]), model(input_ids=ids[:, :49])
    assert (short.last_hidden_state[0] - long.last_hidden_state[0, :8]).abs().max() > 0.01


def test_token_types_that_would_change_a_state_are_refused(words, tmp_path):
    """GPT-2 adds the embedding of token 0 where a tokenizer gives token types."""
    folder = saved(backbones()["gpt2"][0], words, tmp_path / "in")
    Tokeniser(str(folder))
    change_json(folder / "tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    with pytest.raises(ValueError, match=r"gives token_type_ids \[0, .* expected none for a model of type gpt2"):
        Tokeniser(str(folder))


@pytest.mark.parametrize("kind", ["gpt_neo", "gpt_bigcode", "xlm", "flaubert"])
def test_types_that_read_segments_as_words_are_known(kind):
    """These, too, add the embedding of token 0 for each token type of 0, and their tokenizers may give some."""
    assert kind in tokenisation._READS_SEGMENT_0
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 4, "attention_types": [[["global"], 1]]}
    others = {"n_embd": 32, "emb_dim": 32, "n_layer": 1, "n_layers": 1, "n_head": 4, "n_heads": 4}
    config = AutoConfig.for_model(kind, vocab_size=20, **(sizes if kind == "gpt_neo" else others))
    model, ids = AutoModel.from_config(config).eval(), torch.arange(5, 9)[None]
    with torch.no_grad():
        states = [model(input_ids=ids, token_type_ids=types)[0] for types in (None, torch.zeros_like(ids))]
    assert (states[0] - states[1]).abs().max() > 0.01


def test_states_that_depend_on_the_padding_are_refused(words, tmp_path):
    """MobileBERT reads each token with its neighbours, padding included; only a padding of zeros changes nothing.

    CANINE, too, which has no table of words, and so no number of them in its configuration.
    """
    sizes = {**SIZES, "intra_bottleneck_size": 16, "embedding_size": 32, "true_hidden_size": 16}
    folder = saved(MobileBertModel(MobileBertConfig(**sizes)), words, tmp_path / "in")
    with pytest.raises(
        ValueError, match=r"of type mobilebert, whose states change by .* with the padding behind a text"
    ):
        load_encoder(config_of_folder(str(folder)))
    letters = {name: size for name, size in SIZES.items() if name != "vocab_size"}
    folder = saved(CanineModel(CanineConfig(**letters, max_position_embeddings=64)), words, tmp_path / "letters")
    with pytest.raises(ValueError, match=r"of type canine, whose states change by .* with the padding behind a text"):
        load_encoder(config_of_folder(str(folder)))
