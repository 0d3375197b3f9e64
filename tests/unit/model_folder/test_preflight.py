"""A model's folder is checked before any work: each fault is one line with place, cause and remedy."""

from __future__ import annotations

import builtins
import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import load_encoder
from harness.export.sentence_transformers_folder import verify_model
from harness.model_folder.preflight import COMMAND_LINE, Preflight, check_attention
from tests.own_code import make_own_code
from tests.tiny import make_model
from tests.unit.encoder.models import TEXTS, change_json, config, embed, export

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 90868376\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """A sentence-transformers folder."""
    out = tmp_path_factory.mktemp("exported") / "out"
    export(folder, out)
    return out


def refusal(request):
    with pytest.raises(ValueError, match=r"got") as caught:
        request.check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"), [(LFS.encode(), "got a pointer of Git LFS"), (b"", "got an empty file"), (None, "no whole")]
)
def test_the_weights_of_the_head_are_checked_too(folder, tmp_path, content, words):
    export(folder, tmp_path / "out", projection_dim=20)
    file = tmp_path / "out" / "2_Dense" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8] if content is None else content)
    message = refusal(Preflight(str(tmp_path / "out")))
    assert message.startswith(f"{file}: ")
    assert words in message


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _shards(out):
    names = list(load_file(out / "model.safetensors"))
    (out / "model.safetensors").rename(out / "a.safetensors")
    shards = {name: "ab"[i % 2] + ".safetensors" for i, name in enumerate(names)}
    (out / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def _pickled(out):
    torch.save(load_file(out / "model.safetensors"), out / "pytorch_model.bin")
    (out / "model.safetensors").unlink()


def _tokenizer_files(out):
    for path in [path for path in out.iterdir() if "token" in path.name]:
        path.unlink()


def _quantized(out):
    change_json(out / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda out: (out / "model.safetensors").write_text(LFS), "model.safetensors: got a pointer of Git LFS"),
        (lambda out: _cut(out / "model.safetensors"), "that are no whole safetensors file"),
        (lambda out: (out / "model.safetensors").write_bytes(b""), "model.safetensors: got an empty file"),
        (lambda out: (out / "model.safetensors").write_text("<html>404</html>"), "no whole safetensors file"),
        (lambda out: (out / "model.safetensors").unlink(), "got no weights, expected a folder with safetensors"),
        (_shards, "got 1 of 2 files of weights that do not exist (b.safetensors)"),
        (_pickled, "got only pytorch_model.bin, expected a folder with safetensors weights"),
        (_tokenizer_files, "got no tokenizer beside the weights, expected tokenizer.json"),
        (lambda out: (out / "tokenizer.json").write_text(LFS), "tokenizer.json: got a pointer of Git LFS"),
        (lambda out: _cut(out / "tokenizer.json"), "tokenizer.json:"),
        (lambda out: (out / "tokenizer.json").write_text("{}"), "got a tokenizer that cannot be loaded"),
        (lambda out: (out / "config.json").unlink(), "got no config.json, expected a model's folder"),
        (lambda out: (out / "config.json").write_text('{"a":\n'), "config.json:2: got broken JSON"),
        (lambda out: (out / "config.json").write_bytes(b"\xff\xfe{\0"), "config.json: got bytes that are no UTF-8"),
        (lambda out: (out / "modules.json").write_text(""), "modules.json: got an empty file, expected JSON"),
        (lambda out: (out / "1_Pooling" / "config.json").unlink(), "1_Pooling/config.json: got no such file"),
        (lambda out: change_json(out / "config.json", model_type="bertx9"), "model_type: got bertx9, expected a type"),
        (_quantized, "config.json: got quantization_config, expected float weights"),
        (
            lambda out: change_json(out / "config.json", vocab_size=70),
            "(id 70) and 44 more, but weights for the ids 0 to 69 only",
        ),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(exported, tmp_path, damage, words):
    shutil.copytree(exported, tmp_path / "out")
    damage(tmp_path / "out")
    assert words in refusal(Preflight(str(tmp_path / "out")))


def test_a_whole_folder_passes_and_its_weights_are_counted(folder, exported):
    weights = sum(value.numel() for value in load_file(folder / "model.safetensors").values())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Preflight(str(folder)).check() == Preflight(str(exported)).check() == weights


def test_a_token_without_a_row_of_the_embedding_table_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokenizer.add_tokens(["kettle"])
    tokenizer.save_pretrained(tmp_path / "out")
    assert "the token 'kettle' (id 115)" in refusal(Preflight(str(tmp_path / "out")))


def test_a_path_that_is_mistyped_is_told_apart_from_a_hub_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "finetune").mkdir(parents=True)
    message = refusal(Preflight("runs/finetun", COMMAND_LINE))
    assert message.startswith("MODEL: got runs/finetun, which does not exist, expected a run folder")
    assert "did you mean runs/finetune?" in message
    assert "hub" not in message + refusal(Preflight("./nope")) + refusal(Preflight(str(tmp_path / "a" / "b")))
    assert "a file, expected a model's folder" in refusal(Preflight(str(folder / "config.json"), COMMAND_LINE))


def test_lengths_and_dims_are_checked_in_the_words_of_who_asks(folder):
    assert refusal(Preflight(str(folder), longest_text=65)).startswith("model.max_length: got 65, but")
    assert refusal(Preflight(str(folder), "guide", longest_text=65)).startswith("guide.max_length: got 65")
    assert refusal(Preflight(str(folder), COMMAND_LINE, longest_text=65)).startswith("--max-length: got 65")
    assert "model.matryoshka_dims: got 40" in refusal(Preflight(str(folder), largest_dim=40))
    Preflight(str(folder), largest_dim=32, longest_text=64).check()


def test_pooling_the_last_token_without_a_special_one_at_the_end_is_said(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (tmp_path / "out" / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.warns(UserWarning, match="puts no special token at the end of a text"):
        Preflight(str(tmp_path / "out"), pooling=("last",)).check()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Preflight(str(folder), pooling=("last",)).check()
        Preflight(str(tmp_path / "out"), pooling=("mean",)).check()


def test_a_tokenizer_without_special_tokens_gets_padding_that_changes_no_text(folder, tmp_path):
    """Padding is masked, so that any id serves; but a padding token is cut out of texts, so no word may become it."""
    shutil.copytree(folder, tmp_path / "out")
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["post_processor"], tree["added_tokens"] = None, []
    (tmp_path / "out" / "tokenizer.json").write_text(json.dumps(tree))
    change_json(tmp_path / "out" / "tokenizer_config.json", **dict.fromkeys(_SPECIAL), tokenizer_class=_FAST)
    bare = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "out" / "tokenizer.json"))
    tokeniser = Tokeniser(str(tmp_path / "out"))
    words = ["a b ##c", "aral bral", "##z z"]
    assert tokeniser.encode(words, 24) == bare(words)["input_ids"]
    batch = tokeniser.pad(tokeniser.encode(words, 24))
    assert batch.attention_mask_BL.sum(1).tolist() == [len(ids) for ids in bare(words)["input_ids"]]


_SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
_FAST = "PreTrainedTokenizerFast"


def test_code_of_the_models_own_is_run_only_with_leave_and_nothing_asks_on_the_terminal(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a question on the terminal"))
    source = make_own_code(tmp_path / "source", folder, "askingtiny")
    message = refusal(Preflight(str(source)))
    assert "brings code of its own (configuration_askingtiny.TinyConfig and modeling_askingtiny.TinyModel" in message
    assert message.endswith("read the code, then set model.trust_remote_code: true")
    assert refusal(Preflight(str(source), COMMAND_LINE)).endswith("then give --trust-remote-code")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_encoder(config(source))
    Preflight(str(source), trust_remote_code=True).check()
    (source / "modeling_askingtiny.py").write_text("import a_package_that_nobody_has\n")
    assert "a_package_that_nobody_has" in refusal(Preflight(str(source), trust_remote_code=True))


def test_a_model_with_its_own_code_is_exported_with_the_code_and_compared(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a question on the terminal"))
    source = make_own_code(tmp_path / "source", folder, "exportedtiny")
    encoder = export(source, tmp_path / "out", trust_remote_code=True)
    trusting = config(source, trust_remote_code=True)
    assert verify_model(tmp_path / "out", TEXTS, embed(encoder, source), trusting) < 1e-5
    assert {path.name for path in (tmp_path / "out").glob("*.py")} == {path.name for path in source.glob("*.py")}
    Preflight(str(tmp_path / "out"), trust_remote_code=True).check()


def test_code_that_is_not_run_because_transformers_has_the_class_is_said(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    change_json(tmp_path / "out" / "config.json", auto_map={"AutoModel": "modeling_other.BertModel"})
    with pytest.warns(UserWarning, match=r"modeling_other.BertModel\), which is not run"):
        Preflight(str(tmp_path / "out")).check()


def test_attention_that_needs_a_gpu_is_refused_without_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"flash_attention_2, which needs a GPU, .* set model.attention: auto or sdpa"):
        check_attention("flash_attention_2")
    check_attention("sdpa")


@pytest.mark.parametrize(("positions", "said"), [(1024, "sentence-transformers reads 1,024"), (300, None)])
def test_a_length_that_no_file_names_is_said(folder, tmp_path, positions, said):
    """A text's end would be cut off without a word, and its vector be another one than that of other readers."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change_json(copy / "tokenizer_config.json", model_max_length=10**30)
    change_json(copy / "config.json", max_position_embeddings=positions)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Preflight(str(copy), COMMAND_LINE).check()
        Preflight(str(copy), COMMAND_LINE, longest_text=400 if said else 200).check()
    found = [str(warning.message) for warning in caught if "names no length" in str(warning.message)]
    assert len(found) == (said is not None)
    assert all(line.startswith("--max-length: ") and line.endswith(said) for line in found)
