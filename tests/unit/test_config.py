"""Recipes: what is read, what is refused, and the messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config import RunConfig, dump, load_recipe
from harness.settings.recipe_file import apply_override, build
from harness.settings.yaml_text import parse_yaml

RECIPE = """\
name: small
model: {name_or_path: demo-minilm, matryoshka_dims: [128, 384]}
tasks:
  - {name: faq, kind: retrieval, path: faq.jsonl, quota: 8}
  - {name: v1.2, kind: sts, path: pairs.jsonl, quota: 4}
training:
  steps: 10
  learning_rate: 2e-5
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load_recipe(str(path), overrides)
    assert "pydantic" not in str(caught.value)
    return str(caught.value)


def test_defaults_fill_in_and_the_output_folder_is_named_after_the_recipe(recipe: Path) -> None:
    loaded = load_recipe(str(recipe))
    assert loaded.config.output == "runs/small"
    assert loaded.config.deepspeed == "zero1"
    assert loaded.recipe_folder == recipe.parent
    assert loaded.config.training.learning_rate == 2e-5  # YAML 1.1 reads 2e-5 as text


@pytest.mark.parametrize("text", ["search_query ", "Topic # ", " a", "Find it\nquery ", "12:30", "#"])
def test_a_text_of_the_command_line_keeps_its_blanks_line_breaks_and_signs(recipe: Path, text: str) -> None:
    """YAML takes blanks off, folds line breaks and reads # as a comment: another prompt than the one that was given."""
    config = load_recipe(str(recipe), [f"tasks.faq.prompts.query={text}"]).config
    assert config.tasks[0].prompts.query == text


def test_a_name_set_from_outside_moves_the_output_folder(recipe: Path) -> None:
    assert load_recipe(str(recipe), ["name=other"]).config.output == "runs/other"


def test_names_may_have_letters_of_any_script(recipe: Path) -> None:
    assert load_recipe(str(recipe), ["name=我的模型-v1", "tasks.faq.name=检索"]).config.tasks[0].name == "检索"
    assert 'name: got the text "a b", expected letters and digits of any script' in refusal(recipe, "name=a b")


@pytest.mark.parametrize("name", [".", "..", "...", "/tmp", "a/b", "../a", ".hidden", "-x", "", "a\n"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(recipe: Path, name: str) -> None:
    """`runs/..` is the folder of all projects, and a hidden name is one of our own temporary folders."""
    assert "name: got" in refusal(recipe, f"name={json.dumps(name)}")
    message = refusal(recipe, f"tasks.faq.name={json.dumps(name)}")
    assert message.startswith("--set: tasks.")
    assert ".name: got the text" in message
    assert "output: got" in refusal(recipe, 'output=""')


@pytest.mark.parametrize("name", ["demo", "finetune_small"])
def test_a_dumped_recipe_reads_back_as_the_equal_config(name: str, tmp_path: Path) -> None:
    config = load_recipe(name, ["training.dropout=0.0", "loss.temperature=0.0123456789", 'name="2e5"']).config
    (tmp_path / "recipe.yaml").write_text(dump(config))
    assert load_recipe(str(tmp_path / "recipe.yaml")).config == config


def test_overrides_reach_values_tasks_by_name_or_index_and_missing_sections(recipe: Path) -> None:
    overrides = [
        "training.steps=20",
        "tasks.faq.quota=32",
        "tasks.1.quota=5",
        "tasks.v1.2.weight=0.5",  # a task's name may hold a dot
        "data.cache=/somewhere",
        "model.matryoshka_dims=[64, 128]",
        "evaluation={every: 3}",
    ]
    config = load_recipe(str(recipe), overrides).config
    assert config.training.steps == 20
    assert [task.quota for task in config.tasks] == [32, 5]
    assert config.tasks[1].weight == 0.5
    assert config.data.cache == "/somewhere"
    assert config.model.matryoshka_dims == (64, 128)
    assert config.evaluation.every == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tasks.0.path=3", "--set: tasks.faq.path: got 3, expected text"),
        ("modeling.pooling=cls", "--set: modeling: unknown key; did you mean model?"),
        ("evaluation.everyone.x=1", "--set: evaluation.everyone: unknown key; did you mean every?"),
        ("model.matryoshka_dims=[4,2]", "--set: model.matryoshka_dims: got [4, 2], expected ascending"),
        (
            "model.attention=flash_attention_2",
            "--set: model.attention: got flash_attention_2 with training.precision fp32, expected bf16 or fp16",
        ),
        ("training.learning_rat=1", "--set: training.learning_rat: unknown key; did you mean learning_rate?"),
        ("training.temperature=1", "did you mean tasks.NAME.temperature or loss.temperature?"),
        ("tasks.faq.zzz=1", "--set: tasks.faq.zzz: unknown key; known keys: name, kind, path"),
        ("tasks.fag.quota=1", "--set tasks.fag.quota: got no entry fag, expected one of faq, v1.2"),
        ("tasks.7.quota=1", "or an index from 0 to 1"),
        ("name.first=1", '--set name.first: got name = the text "small", a value without keys'),
        ("training.steps", "--set training.steps: got no KEY=VALUE"),
        ("training.steps=[1", "--set training.steps: got broken YAML"),
        ("training.steps=0", "--set: training.steps: got 0, expected a number of at least 1"),
        ("training.steps='10'", '--set: training.steps: got the text "10", expected a whole number'),
        ("training.seed=true", "--set: training.seed: got true, expected a whole number"),
        ("training.adam_epsilon=.inf", "--set: training.adam_epsilon: got Infinity, expected a finite number"),
        ("training.micro_batch_tokens=0", "training.micro_batch_tokens: got 0, expected a number of at least 1 or"),
        ("training.adam_betas=[0.9, 1.0]", "training.adam_betas.1: got 1.0, expected a number less than 1"),
        ("training.adam_betas=[-0.1, 0.9]", "training.adam_betas.0: got -0.1, expected a number of at least 0"),
        ("training.micro_batch_tokens=many", "got the text \"many\", expected a whole number or 'auto'"),
        ("tasks.faq.kind=retrieve", "tasks.faq.kind: got the text \"retrieve\", expected 'retrieval', 'sts' or"),
        (
            "model.attention_mask=both",
            "model.attention_mask: got the text \"both\", expected 'causal', 'bidirectional' or",
        ),
        (
            "model.soft_mask_steps=2",
            "model.soft_mask_steps: got 2 with attention_mask null, expected attention_mask: soft",
        ),
        ("model.append_eos=1", "--set: model.append_eos: got 1, expected"),
        ('tasks.faq.prompts.query="Instruct: q\\nQuery: {query}"', "got the place {query} in a prompt, which is put"),
        ('model.prompts={query: "{text} <-"}', "model.prompts.query: got the place {text} in a prompt"),
        ('evaluation.query_prompt="{}{}"', "evaluation.query_prompt: got the place {} in a prompt"),
        (
            "tasks.faq.prompts.query='Find it\\nQuery'",
            "tasks.faq.prompts.query: got a backslash and the letter n as two",
        ),
        ("evaluation.document_prompt=a\\tb", "evaluation.document_prompt: got a backslash and the letter t as two"),
        ("tasks.faq.prompts.query=Find it\\nQuery: ", "put a text with a colon into double quotes"),
        ("training.steps=010", 'training.steps: got the text "010", expected a whole number'),
        ("training.timeout=1:30", 'training.timeout: got the text "1:30", expected a number'),
        ("model.pooling=maximum", "model.pooling: got maximum, expected cls, max, mean, "),
        ("model.pooling=[mean, mean]", "model.pooling: got ['mean', 'mean'], expected "),
        ("tasks=[]", "--set: tasks: got [], expected a list of at least 1"),
        ("loss=null", "--set: loss: got nothing, expected a section"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line_that_names_it(recipe: Path, override: str, words: str) -> None:
    message = refusal(recipe, override)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "learning_rate:",
            "learning_rat:",
            "recipe.yaml: training.learning_rat: unknown key; did you mean learning_rate?",
        ),
        ("name: small\n", "", "recipe.yaml: name: got nothing, expected a value (the key is required)"),
        ("name: small", "name: a\nname: b", "recipe.yaml:2: got the key name a second time (first in line 1)"),
        ("quota: 8}", "quota: 8, quota: 9}", "recipe.yaml:4: got the key quota a second time (first in line 4)"),
        ("[128, 384]", "[128, 384", "recipe.yaml:2: got broken YAML"),
        ("name: small", "name: sm\x07all", "recipe.yaml:1: got broken YAML (unacceptable character"),
        ("name: small", "name: 2026-11-20\nnamed: x", "recipe.yaml: named: unknown key; did you mean name?"),
        ("v1.2", "faq", "recipe.yaml: tasks: got the name faq twice"),
        ("[128, 384]", "[128, 384], projection_dim: 256", "model.matryoshka_dims: got 384, expected at most"),
        ("quota: 4", "quota: 4, negatives: {per_query: 2}", "recipe.yaml: tasks.v1.2.negatives: an sts task has no"),
        ("[128, 384]", "[384, 128]", "recipe.yaml: model.matryoshka_dims: got [384, 128], expected ascending"),
    ],
)
def test_a_mistake_in_the_file_is_refused_in_one_line_that_names_the_place(
    recipe: Path, old: str, new: str, words: str
) -> None:
    recipe.write_text(RECIPE.replace(old, new))
    message = refusal(recipe)
    assert words in message
    assert "\n" not in message


def test_bad_utf8_is_refused_with_its_line(recipe: Path) -> None:
    recipe.write_bytes(RECIPE.encode() + b"output: \xff\n")
    assert "recipe.yaml:9: got byte 0xff, expected UTF-8 text" in refusal(recipe)


def test_every_mistake_is_told_at_once(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("quota: 8", "quota: no").replace("steps: 10", "steps: lots"))
    assert len(refusal(recipe).splitlines()) == 2


def test_an_unknown_recipe_names_the_nearest_shipped_one() -> None:
    with pytest.raises(ValueError, match=r"RECIPE: got dmeo.*did you mean demo\?"):
        load_recipe("dmeo")


def test_a_data_root_that_does_not_exist_is_refused(recipe: Path) -> None:
    with pytest.raises(ValueError, match=r"--data-root: got .*missing, expected an existing folder"):
        load_recipe(str(recipe), data_root=recipe.parent / "missing")


def test_weights_in_half_precision_need_a_zero_stage_that_keeps_fp32_copies(recipe: Path) -> None:
    message = refusal(recipe, "training.precision=bf16_weights", "deepspeed=zero0")
    assert "training.precision: got bf16_weights with ZeRO stage 0" in message
    assert load_recipe(str(recipe), ["training.precision=bf16_weights", "deepspeed=zero1"])
    assert load_recipe(str(recipe), ["training.precision=bf16", "deepspeed=zero0"])


def test_compiled_layers_are_refused_with_the_stage_that_divides_weights(recipe):
    message = refusal(recipe, "training.compile=true", "deepspeed=zero3")
    assert "training.compile: got true with ZeRO stage 3" in message
    assert load_recipe(str(recipe), ["training.compile=true", "deepspeed=zero2"]).config.training.compile


def test_a_config_is_frozen_because_every_rank_must_keep_the_same(recipe: Path) -> None:
    config = load_recipe(str(recipe)).config
    with pytest.raises(ValueError, match="frozen"):
        config.training.steps = 5  # type: ignore[misc]


def test_an_override_leaves_the_other_keys_of_the_tree_alone() -> None:
    tree = parse_yaml(RECIPE, "here")
    expected = parse_yaml(RECIPE, "here")
    expected["tasks"][0]["quota"] = 9
    assert apply_override(tree, "tasks.faq.quota=9") == "tasks.faq.quota"
    assert tree == expected
    assert build(RunConfig, tree, "here").tasks[0].quota == 9


def test_reading_a_recipe_imports_nothing_heavy() -> None:
    """A mistake in a recipe must be reported within milliseconds, on every rank of a large job."""
    code = (
        "import sys, harness.__main__, harness.config; harness.config.load_recipe('demo');"
        "print([m for m in ('torch', 'transformers', 'datasets', 'deepspeed', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("steps", "tenth"), [(10, 1), (2, 1), (1000, 100), (199, 19)])
def test_without_a_number_a_run_saves_and_evaluates_every_tenth_and_the_resolved_recipe_says_so(
    recipe: Path, steps: int, tenth: int
) -> None:
    config = load_recipe(str(recipe), [f"training.steps={steps}"]).config
    assert (config.checkpoint.every, config.checkpoint.keep, config.evaluation.every) == (tenth, 2, tenth)
    assert build(RunConfig, parse_yaml(dump(config), "r.yaml"), "r.yaml") == config


def test_an_interval_of_zero_means_never(recipe: Path) -> None:
    config = load_recipe(str(recipe), ["checkpoint.every=0", "evaluation.every=0"]).config
    assert (config.checkpoint.every, config.evaluation.every) == (0, 0)


@pytest.mark.parametrize("value", ["{x: 1}", "3"])
def test_a_wrong_entry_of_a_list_is_named_once(recipe: Path, value: str) -> None:
    """pydantic drops such an entry and then calls the list too short."""
    recipe.write_text(recipe.read_text().replace("path: faq.jsonl", f"path: {value}"))
    with pytest.raises(ValueError, match=r"tasks.faq.path: got .*, expected text or a list$") as caught:
        load_recipe(str(recipe))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"--set: tasks: got \[\], expected a list of at least 1$"):
        load_recipe(str(recipe), ["tasks=[]"])
