"""What a fuzzer has found in files of data, models and runs: each is refused in one line."""

import json
from types import SimpleNamespace

import pytest

from harness.data.bank.file import BankFacts
from harness.data.source.files import read_rows
from harness.engine.checkpoint import find_damage, resolve_pointer
from harness.evaluation.datasets import load_evaluation_data
from harness.files import find_changes
from harness.model_folder.configuration import default_pooling
from harness.model_folder.json_files import read_json
from harness.model_folder.layout import read_layout
from harness.model_folder.module_settings import read_pooling
from harness.model_folder.weight_files import check_weights
from harness.report.metrics_file import EvaluationFile, MetricsFile

DIGITS, BRACKETS = "9" * 5_000, "[" * 100_000


def only_line(caught):
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 1_000
    return str(caught.value)


def test_a_number_of_thousands_of_digits_in_a_json_list_is_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "rows.json").write_text(f'[{{"score": {DIGITS}}}]')
    with pytest.raises(ValueError, match=r"rows.json:1: file: got ValueError") as caught:
        list(read_rows(str(tmp_path / "rows.json"), "train"))
    only_line(caught)


@pytest.mark.parametrize("content", [f'{{"a": {DIGITS}}}', BRACKETS])
def test_a_model_s_json_of_endless_numbers_or_brackets_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json: got JSON that cannot be read") as caught:
        read_json(tmp_path / "config.json")
    only_line(caught)


def test_a_header_of_weights_is_not_quoted_at_length(tmp_path):
    header = json.dumps({"a": "x" * 3_000}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="no whole safetensors file") as caught:
        check_weights(tmp_path)
    only_line(caught)


@pytest.mark.parametrize(
    "content", [BRACKETS, "[1]", '{"a": 1}', '{"a": [1, 2, 3]}', '{"' + "a" * 5_000 + '": [1, "0"]}']
)
def test_a_manifest_that_holds_anything_is_damage(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    assert find_damage(tmp_path)


def test_a_name_that_no_file_system_takes_is_missing(tmp_path):
    assert "is missing" in (find_changes(tmp_path, {"a" * 5_000: (1, "0")}) or "")
    assert "is missing" in (find_changes(tmp_path, {"a\0": (1, "0")}) or "")


@pytest.mark.parametrize("content", [b"\xed\xa0\x80", b"a" * 5_000, b"\0", b""])
def test_a_pointer_to_no_folder_is_said(tmp_path, content):
    (tmp_path / "latest").write_bytes(content)
    with pytest.raises(ValueError, match=r"latest: got") as caught:
        resolve_pointer(tmp_path / "latest")
    only_line(caught)


@pytest.mark.parametrize("step", ['"a"', "null", "1.5", "[]", "true"])
def test_scores_of_a_step_that_is_no_number_are_refused(tmp_path, step):
    (tmp_path / "evaluation.json").write_text(f'[{{"step": {step}, "dataset": "a", "metrics": {{}}}}]')
    with pytest.raises(ValueError, match=r"evaluation.json: got another content") as caught:
        EvaluationFile(tmp_path / "evaluation.json")
    only_line(caught)


@pytest.mark.parametrize("value", ['"x"', "[NaN]", "{}"])
def test_a_metric_that_is_no_number_is_refused(tmp_path, value):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": {value}}}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:1: got") as caught:
        MetricsFile(tmp_path / "metrics.jsonl")
    only_line(caught)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config_sentence_transformers.json", {"default_prompt_name": ["a", 2]}),
        ("config_sentence_transformers.json", {"prompts": ["x" * 5_000]}),
        ("modules.json", [{"idx": 0, "name": "x" * 5_000}, {}]),
        ("modules.json", [{"type": "x" * 5_000, "path": ""}]),
    ],
)
def test_values_of_a_model_s_files_are_shown_in_short(tmp_path, file, content):
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": kind} for kind in ("Transformer", "Pooling")]
    (tmp_path / "Pooling").mkdir()
    (tmp_path / "Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=file) as caught:
        read_layout(tmp_path)
    only_line(caught)


def test_a_pooling_that_is_no_name_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"pooling_mode": [["mean"]]}')
    with pytest.raises(ValueError, match="pooling_mode: got") as caught:
        read_pooling(tmp_path)
    only_line(caught)


@pytest.mark.parametrize("architectures", [7, {"a": 1}, [], None, "BertModel"])
def test_architectures_of_any_kind_have_a_default_pooling(architectures):
    assert default_pooling(SimpleNamespace(architectures=architectures)) == ("mean",)


def test_a_bank_with_a_key_of_several_lines_is_refused_in_one(tmp_path):
    (tmp_path / "bank.json").write_text(json.dumps({"version": 2, "a\nb": 1}))
    with pytest.raises(ValueError, match=r"negatives.bank: got") as caught:
        BankFacts.read(tmp_path)
    assert "\n" not in only_line(caught)


def test_columns_of_thousands_of_characters_are_shown_in_short(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"t" * 5_000: 1}) + "\n")
    with pytest.raises(ValueError, match="got columns ttt") as caught:
        load_evaluation_data(tmp_path / "test.jsonl")
    only_line(caught)


def test_a_shard_with_a_name_of_several_lines_is_missing_in_one(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "b\nc"}}))
    with pytest.raises(ValueError, match="do not exist") as caught:
        check_weights(tmp_path)
    assert "\n" not in only_line(caught)
