"""What a fuzzer has found in files of data, models and runs: each is refused in one line."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.config import load_recipe
from harness.data.bank.file import BankFacts
from harness.data.source.columns.foreign import check_flag_embedding
from harness.data.source.columns.layout import check_watched
from harness.data.source.files import read_rows
from harness.engine.checkpoint import find_damage, resolve_pointer
from harness.evaluation.datasets import load_evaluation_data
from harness.evaluation.judgements import read_judgements
from harness.files import find_changes
from harness.model_folder.configuration import default_pooling
from harness.model_folder.json_files import read_json
from harness.model_folder.layout import read_layout
from harness.model_folder.module_settings import read_pooling, read_transformer
from harness.model_folder.weight_files import check_weights
from harness.report.metrics_file import EvaluationFile, MetricsFile
from harness.settings.deepspeed_json import load_deepspeed_json
from harness.settings.yaml_text import parse_yaml

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


def test_long_names_and_numbers_of_data_are_shown_in_short():
    layout = SimpleNamespace(
        watched={"score" + "s" * 5_000: "pos_scores"}, row_format=SimpleNamespace(kind="retrieval")
    )
    with pytest.raises(ValueError, match="may hold the pos_scores") as caught:
        check_watched("a.jsonl:1", {"score" + "s" * 5_000: 0.5}, layout)
    only_line(caught)
    with pytest.raises(ValueError, match="batch_size: got 1000") as caught:
        check_flag_embedding("a.jsonl:1", {"batch_size": 10**900})
    only_line(caught)


def test_a_parquet_file_with_a_column_that_is_no_text_is_refused(tmp_path):
    """The name is checked by no writer: the bytes of a whole file are changed."""
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"question": ["a"]}), file)
    file.write_bytes(file.read_bytes().replace(b"question", b"\xcbuestion"))
    with pytest.raises(ValueError, match="expected a whole, readable file") as caught:
        list(read_rows(str(file), "train"))
    only_line(caught)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('a: "\\U00110000"', "cannot be read"),
        ("a: !" + "x" * 5_000 + " 1", "got broken YAML"),
    ],
)
def test_odd_yaml_is_refused_in_one_line(content, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_yaml(content, "recipe.yaml")
    only_line(caught)


def test_names_in_recipes_and_in_deepspeeds_json_are_shown_in_one_short_line(tmp_path):
    (tmp_path / "a.yaml").write_text(json.dumps({"name": "a", "tasks": [{"name": "b\n\nc", "quota": "x"}]}))
    with pytest.raises(ValueError, match="quota") as caught:
        load_recipe(str(tmp_path / "a.yaml"))
    assert all(line.startswith(f"{tmp_path}") for line in str(caught.value).splitlines())
    (tmp_path / "zero.json").write_text(json.dumps({"a" * 5_000: 1, "b\nc": 1}))
    for name in ("zero" * 3_000, "./zero.json"):
        with pytest.raises(ValueError, match=r"got zero|unknown key") as caught:
            load_deepspeed_json(name, tmp_path)
        assert max(map(len, str(caught.value).splitlines())) < 1_000
        assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("place", ["x" * 300, "a/" * 2_000])
def test_a_place_that_no_file_can_have_is_no_module_and_no_shard(tmp_path, place):
    kinds = ("Transformer", "Pooling")
    entries = [{"type": f"sentence_transformers.models.{kind}", "path": place} for kind in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="expected a folder below") as caught:
        read_layout(tmp_path)
    only_line(caught)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(ValueError, match="do not exist") as caught:
        check_weights(tmp_path)
    only_line(caught)


def test_a_length_or_a_grade_without_bounds_is_refused(tmp_path):
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": Infinity}')
    with pytest.raises(ValueError, match="max_seq_length: got inf") as caught:
        read_transformer(tmp_path)
    only_line(caught)
    (tmp_path / "qrels.jsonl").write_text(json.dumps({"query-id": "a", "corpus-id": "b", "score": 10**400}))
    with pytest.raises(ValueError, match="score: got 1000") as caught:
        read_judgements(tmp_path / "qrels.jsonl", ["a"], set)
    only_line(caught)
