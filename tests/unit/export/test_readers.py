"""check-export says of each reader what it makes of a folder: of ours, of our older ones, and of single mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.export.readers import READERS, judge_folder, owner_only
from tests.tiny import make_model
from tests.unit.cli.command_line import invoke
from tests.unit.encoder.models import change_json
from tests.unit.export.folders import BACKBONES, exported, in_the_layout_of_sentence_transformers_5_4, start

ALL_RIGHTLY = dict.fromkeys(READERS, "rightly")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    """(kind of backbone, whether it has a projection) → exported folder."""
    cases = [(kind, projected) for kind in BACKBONES for projected in (False, True)]
    return {
        (kind, projected): exported(
            tmp_path_factory.mktemp(kind), kind, projection_dim=20 if projected else None, matryoshka_dims=(8, 20)
        )[0]
        for kind, projected in cases
    }


def reads(folder: Path) -> dict[str, str]:
    return dict(zip(READERS, [verdict.reads for verdict in judge_folder(folder)], strict=True))


def changed(folder: Path, copy: Path, file: str, **changes: Any) -> Path:
    """A copy of the folder with other values in one file; None: without the key."""
    shutil.copytree(folder, copy)
    content = {**json.loads((copy / file).read_text()), **changes}
    (copy / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return copy


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("projected", [False, True])
def test_every_reader_reads_our_export_but_llama_cpp_its_projection(folders, kind, projected):
    expected = ALL_RIGHTLY | ({"llama.cpp": "wrongly"} if projected else {})
    assert reads(folders[kind, projected]) == expected
    notes = [note for verdict in judge_folder(folders[kind, projected]) for note in verdict.notes]
    assert not any("fewer dimensions" in note for note in notes)  # vLLM finds the Matryoshka sizes


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_the_layout_of_sentence_transformers_5_4_is_read_by_few(folders, tmp_path, kind):
    """What this project has exported until now: the findings of everybody who tried to serve it."""
    old = in_the_layout_of_sentence_transformers_5_4(folders[kind, True], tmp_path / "old")
    found = reads(old)
    assert [found["sentence-transformers-3"], found["sentence-transformers-5"]] == ["not", "not"]
    assert found["sentence-transformers-6"] == "rightly"
    assert found["text-embeddings-inference"] == "not"
    assert [found["vllm-old"], found["llama.cpp"]] == ["wrongly", "wrongly"]
    [old_vllm] = judge_folder(old, ["vllm-old"])
    assert any("projection (Dense) is lost" in reason for reason in old_vllm.reasons)
    [vllm] = judge_folder(old, ["vllm"])  # pooling and projection are right, the length is not known to it
    assert [vllm.reads, len(vllm.reasons)] == ["wrongly", 1]
    assert "tokens instead of 24" in vllm.reasons[0]


MISTAKES: dict[str, tuple[str, str, dict[str, Any], dict[str, str]]] = {
    "no rope_theta": (
        "qwen3",
        "config.json",
        {"rope_theta": None},
        {"transformers-4": "wrongly", "sentence-transformers-3": "wrongly"},
    ),
    "no base of windows": (
        "modernbert",
        "config.json",
        {"local_rope_theta": None},
        {"transformers-4": "wrongly", "text-embeddings-inference": "not"},
    ),
    "a tokenizer class of transformers 5": (
        "bert",
        "tokenizer_config.json",
        {"tokenizer_class": "TokenizersBackend"},
        {"transformers-4": "not", "sentence-transformers-3": "not", "sentence-transformers-5": "not"},
    ),
    "special tokens of transformers 5": (
        "bert",
        "tokenizer_config.json",
        {"extra_special_tokens": ["[A]"]},
        {"transformers-4": "not", "sentence-transformers-3": "not", "sentence-transformers-5": "not"},
    ),
    "no length": (
        "bert",
        "sentence_bert_config.json",
        {"max_seq_length": None},
        {"text-embeddings-inference": "not", "vllm": "wrongly", "vllm-old": "wrongly"},
    ),
    "a new key of Dense": (
        "bert",
        "2_Dense/config.json",
        {"module_input_name": "sentence_embedding"},
        {"sentence-transformers-3": "not", "sentence-transformers-5": "not"},
    ),
    "an activation that servers do not have": (
        "bert",
        "2_Dense/config.json",
        {"activation_function": "torch.nn.modules.activation.Mish"},
        {"text-embeddings-inference": "not", "vllm": "wrongly", "vllm-old": "wrongly"},
    ),
    "no flag of last": ("qwen3", "1_Pooling/config.json", {"pooling_mode_lasttoken": None}, {"llama.cpp": "not"}),
    "tokens that see those after them": (
        "qwen3",
        "config.json",
        {"is_causal": False},
        {"transformers-4": "wrongly", "text-embeddings-inference": "wrongly", "vllm": "rightly"},
    ),
    "prompts that mteb drops": (
        "bert",
        "config_sentence_transformers.json",
        {"prompts": {"sentence": "a: ", "passage": "b: "}},
        {"mteb": "wrongly", "sentence-transformers-6": "wrongly"},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen_in_the_rows_of_the_readers_that_it_misleads(folders, tmp_path, mistake):
    kind, file, changes, expected = MISTAKES[mistake]
    found = reads(changed(folders[kind, True], tmp_path / "copy", file, **changes))
    assert {name: found[name] for name in expected} == expected


def test_a_pooling_that_servers_do_not_have_is_said(tmp_path):
    out, _ = exported(tmp_path, "bert", pooling="weightedmean")
    found = reads(out)
    assert found["sentence-transformers-3"] == "rightly"
    assert [found["text-embeddings-inference"], found["llama.cpp"]] == ["not", "not"]
    assert [found["vllm"], found["vllm-old"]] == ["wrongly", "wrongly"]


def test_the_command_prints_a_row_per_reader_and_says_by_its_status_whether_all_read_rightly(folders):
    right, wrong = str(folders["bert", False]), str(folders["bert", True])
    done = invoke("check-export", right)
    assert done.exit_code == 0, done.output
    assert all(verdict.reader.name in done.output for verdict in judge_folder(Path(right)))
    done = invoke("check-export", wrong, "--json")
    assert done.exit_code == 1
    rows = json.loads(done.output)["readers"]
    assert [row["reads"] for row in rows].count("wrongly") == 1
    assert all(row["version"] and row["source"] for row in rows)
    assert invoke("check-export", wrong, "--reader", "vllm", "--reader", "mteb").exit_code == 0


def test_what_cannot_be_judged_ends_in_one_line_with_status_2(folders, tmp_path):
    for arguments in ([str(tmp_path / "none")], [str(tmp_path)], [str(folders["bert", False]), "--reader", "x"]):
        done = invoke("check-export", *arguments)
        assert done.exit_code == 2
        assert len(done.stderr.strip().splitlines()) == 1


def test_files_that_only_their_owner_can_read_are_named(folders, tmp_path):
    """A server in a container is often somebody else."""
    copy = shutil.copytree(folders["bert", False], tmp_path / "copy")
    assert owner_only(copy) == []
    (copy / "model.safetensors").chmod(0o600)
    assert owner_only(copy) == ["model.safetensors"]


def test_an_adapter_is_no_folder_of_a_server_which_is_said(tmp_path):
    base = make_model(tmp_path / "base")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"got \S+, an adapter beside another model's weights, .* merge it first"):
        judge_folder(tmp_path)


def test_a_plain_folder_is_judged_by_what_each_version_of_sentence_transformers_puts_around_it(tmp_path):
    """A language model's folder names neither its pooling nor that its texts are no chat."""
    folder = start(tmp_path / "plain", "qwen3")
    change_json(folder / "config.json", architectures=["Qwen3ForCausalLM"])
    as_in_transformers_4 = {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": {}}
    change_json(folder / "tokenizer_config.json", **as_in_transformers_4)
    new, old = judge_folder(folder, ["sentence-transformers-6"]), judge_folder(folder, ["sentence-transformers-5"])
    assert ["chat template" in reason for reason in new[0].reasons] == [True]
    assert any("takes the mean of the tokens' states, not the last one" in reason for reason in old[0].reasons)
    (folder / "chat_template.jinja").unlink()
    assert reads(folder)["sentence-transformers-6"] == "rightly"


@pytest.mark.parametrize("file", ["vocab.json", "spm.model", None])
def test_a_vocabulary_of_any_format_is_a_tokenizer(tmp_path, file):
    """RoBERTa's folders of 2019 have vocab.json and merges.txt; ByT5's tokenizer needs no file."""
    folder = make_model(tmp_path / "plain")
    (folder / "tokenizer.json").unlink()
    assert reads(folder)["sentence-transformers-6"] == "not"
    if file is None:
        change_json(folder / "tokenizer_config.json", tokenizer_class="ByT5Tokenizer")
    else:
        (folder / file).write_text("{}")
    assert reads(folder)["sentence-transformers-6"] == "rightly"
