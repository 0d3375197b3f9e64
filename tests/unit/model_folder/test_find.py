"""A model's name is resolved to its folder; the largest number of tokens of a model."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig

from harness.api.session import session
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import load_encoder
from harness.model_folder.configuration import backbone_config, position_limit, positions_of_tokens
from harness.model_folder.find import resolve_model, verify_sha256
from harness.model_folder.layout import read_layout
from tests.tiny import make_model
from tests.unit.encoder.models import config, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("trusted", [False, True])
def test_a_hub_name_stands_for_its_whole_folder(folder, tmp_path, monkeypatch, hub_answers, trusted):
    """transformers alone would not download modules.json, which names the pooling and the Dense layer."""
    encoder = export(folder, tmp_path / "out", pooling="cls", projection_dim=20)
    calls = []

    def snapshot_download(name, *, allow_patterns, **_):
        calls.append((name, "*.py" in allow_patterns, "*.safetensors" in allow_patterns))
        return str(tmp_path / "out")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    name = f"somebody/some-model-{trusted}"
    settings = config(name, pooling="cls", projection_dim=20, trust_remote_code=trusted)
    torch.testing.assert_close(load_encoder(settings).state_dict(), encoder.state_dict())
    assert read_layout(resolve_model(name, trusted)).pooling == ("cls",)
    assert Tokeniser(name, trusted).encode(["ral"], 24) == Tokeniser(str(folder)).encode(["ral"], 24)
    assert calls == [(name, trusted, True)]


def test_a_tilde_stands_for_the_home_folder(folder, monkeypatch):
    """The shell expands it on a command line; in a recipe nobody else does."""
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve_model(f"~/{folder.name}") == str(folder)


def test_a_name_that_nobody_has_is_told_in_one_line(monkeypatch, hub_answers):
    def snapshot_download(name, **_):
        raise FileNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    name = "not a name/of/a model"
    for load in (resolve_model, Tokeniser, position_limit, lambda name: load_encoder(config(name))):
        with pytest.raises(ValueError, match=r"model.name_or_path: got not a name/of/a model, expected a") as caught:
            load(name)
        assert "\n" not in str(caught.value)


def test_a_hub_that_never_answers_is_waited_for_once(monkeypatch, tmp_path, silent_hub):
    """snapshot_download waits for ever; transformers, asked afterwards, tried six times more, for 24 s."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for load in (resolve_model, Tokeniser, position_limit):
        with pytest.raises(ValueError, match=r"the hub did not give it \(ReadTimeout: .*HF_ENDPOINT .*HF_HUB_OFFLINE"):
            load("somebody/behind-a-firewall")
    assert len(silent_hub) == 1


def _cached(cache, name):
    """The folder of an empty copy of a model in a cache of the hub."""
    commit, model = "0" * 40, cache / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots" / commit).mkdir(parents=True)
    return model / "snapshots" / commit


def test_without_the_hub_the_copy_in_the_cache_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = _cached(tmp_path, "somebody/whole")
    (folder / "modules.json").write_text("[]")
    assert resolve_model("somebody/whole") == str(folder)


def test_a_copy_that_may_lack_the_pooling_is_taken_with_a_warning(monkeypatch, tmp_path):
    """Fetched by `AutoModel.from_pretrained` it has no modules.json, and would be pooled in another way in silence."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = _cached(tmp_path, "somebody/partial")
    with pytest.warns(UserWarning, match=r"has no modules.json, .*set model.pooling"):
        assert resolve_model("somebody/partial") == str(folder)


def test_a_full_cache_is_not_taken_for_a_wrong_name(monkeypatch, hub_answers):
    def snapshot_download(name, **_):
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/model.safetensors")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(OSError, match="No space left"):
        resolve_model("somebody/large")


@pytest.mark.parametrize(("kind", "limit"), [("bert", 514), ("xlm-roberta", 512), ("mpt", 96)])
def test_positions_that_padding_takes_are_no_texts(kind, limit):
    """MPT calls them by another name."""
    settings = SimpleNamespace(model_type=kind, max_position_embeddings=514, max_seq_len=96, pad_token_id=1)
    assert positions_of_tokens(settings) == limit


def test_the_padding_of_mpnet_is_in_its_class_whatever_config_json_says():
    """Else a text of full length would ask for a position that is not there."""
    settings = SimpleNamespace(model_type="mpnet", max_position_embeddings=514, pad_token_id=0)
    assert positions_of_tokens(settings) == 512


def test_the_demo_weights_are_the_published_ones_and_load():
    folder = resolve_model("demo-minilm")
    assert SentenceTransformer(folder, device="cpu").encode("a").shape == (384,)


def test_other_weights_under_the_demo_name_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"got SHA-256 .* expected 53aa51"):
        verify_sha256(tmp_path / "model.safetensors", "53aa51")


def test_a_models_configuration_is_read_once_and_never_changed(tmp_path, monkeypatch):
    """Tokeniser and encoder read the same configuration; dropout is changed in a copy."""
    model = str(make_model(tmp_path / "model"))
    Tokeniser(model)
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("read a second time"))
    load_encoder(config(model), dropout=0.3)
    assert position_limit(model) == 64
    assert backbone_config(model, False).hidden_dropout_prob == 0.1


def test_a_model_that_another_one_has_replaced_is_read_anew(tmp_path, monkeypatch):
    """In a notebook or a loop: the same folder exported again, or the same relative path in another working folder.

    The configuration of the first model was taken, and so its dropout.
    """
    for place, dropout in (("a", 0.1), ("a", 0.3), ("b", 0.2)):
        make_model(tmp_path / place / "model", dropout=dropout)
        monkeypatch.chdir(tmp_path / place)
        assert backbone_config("model", False).hidden_dropout_prob == dropout
        assert backbone_config("model", False) is backbone_config("model", False)  # read once as long as it is the same


def test_a_hub_that_was_out_of_reach_is_asked_again_by_the_next_session(tmp_path, monkeypatch, hub_answers):
    answers = iter([OSError("offline"), str(tmp_path)])

    def snapshot_download(name, **_):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for _ in range(2):
        with pytest.raises(ValueError, match="offline"):
            resolve_model("somebody/is-there-later")
    with session():
        assert resolve_model("somebody/is-there-later") == str(tmp_path)
