"""DeepSpeed's JSON: where it is looked up, which keys it may contain, and the messages when it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config import load_recipe
from harness.settings.deepspeed_json import (
    KEYS_OF_THE_JSON,
    OWNED_BY_RECIPE,
    UNTESTED_KEYS,
    load_deepspeed_json,
    refuse_without_gpu,
    untested_keys,
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "{name: small, model: {name_or_path: demo-minilm}, training: {steps: 10},"
        " tasks: [{name: faq, kind: retrieval, path: faq.jsonl, quota: 8}]}"
    )
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load_recipe(str(path), overrides)
    assert "pydantic" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("key", OWNED_BY_RECIPE)
def test_a_deepspeed_json_with_a_key_of_the_recipe_is_refused_and_both_knobs_named(recipe: Path, key: str) -> None:
    (recipe.parent / "mine.json").write_text(json.dumps({"zero_optimization": {"stage": 2}, key: 1}))
    message = refusal(recipe, "deepspeed=mine.json")
    assert f"mine.json: {key}: " in message
    assert OWNED_BY_RECIPE[key] in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"zero_optimization": {"stage": 2},\n "x" 1}', "mine.json:2: got"),
        ("{}", "zero_optimization.stage: got nothing, expected a ZeRO stage"),
        ('{"zero_optimisation": {"stage": 2}}', "zero_optimisation: unknown key; did you mean zero_optimization?"),
        ('{"zero_optimization": {"stage": 4}}', 'zero_optimization.stage: got {"stage": 4}'),
        ('{"zero_optimization": {"stage": 1, "stage": 2}}', "got the key stage twice"),
        ("[]", "expected a JSON object"),
    ],
)
def test_a_broken_deepspeed_json_is_refused_with_its_place(recipe: Path, text: str, words: str) -> None:
    (recipe.parent / "mine.json").write_text(text)
    assert words in refusal(recipe, "deepspeed=mine.json")


@pytest.mark.parametrize("key", ["tensor_parallel", "managed_gradient_accumulation", "sequence_parallel_size"])
def test_a_key_of_deepspeed_that_could_change_the_gradient_is_refused(recipe: Path, key: str) -> None:
    (recipe.parent / "mine.json").write_text(json.dumps({"zero_optimization": {"stage": 2}, key: 1}))
    message = refusal(recipe, "deepspeed=mine.json")
    assert f"mine.json: {key}: unknown key; known keys: zero_optimization, communication_data_type" in message
    assert "\n" not in message


@pytest.mark.parametrize("key", KEYS_OF_THE_JSON)
def test_keys_that_move_state_or_report_are_the_jsons(recipe: Path, key: str) -> None:
    (recipe.parent / "mine.json").write_text(json.dumps({key: {}, "zero_optimization": {"stage": 2}}))
    assert load_recipe(str(recipe), ["deepspeed=mine.json"])


def test_an_unknown_deepspeed_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"zero0, zero1, zero2, zero2_offload, zero3, zero3_offload; did you mean zero3"
    ):
        load_deepspeed_json("zero33", tmp_path)


def test_a_deepspeed_path_is_looked_up_beside_the_recipe_then_in_the_working_directory(
    recipe: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    (elsewhere / "mine.json").write_text('{"zero_optimization": {"stage": 3}}')
    assert load_deepspeed_json("mine.json", recipe.parent)["zero_optimization"]["stage"] == 3
    (recipe.parent / "mine.json").write_text('{"zero_optimization": {"stage": 2}}')
    assert load_deepspeed_json("mine.json", recipe.parent)["zero_optimization"]["stage"] == 2


def test_keys_that_no_test_runs_are_named_when_they_are_used() -> None:
    tree = {"zero_optimization": {"stage": 3, "zero_quantized_weights": True, "zero_quantized_gradients": False}}
    (line,) = untested_keys(tree, "my.json")
    assert line.startswith("my.json: zero_optimization.zero_quantized_weights goes to DeepSpeed as it is")


def test_what_only_a_gpu_can_do_is_refused_in_one_line_without_one() -> None:
    tree = {"zero_optimization": {"stage": 3, "zero_quantized_gradients": True}}
    with pytest.raises(ValueError, match=r"^my.json: zero_optimization.zero_quantized_gradients: got .* without a GPU"):
        refuse_without_gpu(tree, "my.json", has_gpu=False)
    assert refuse_without_gpu(tree, "my.json", has_gpu=True) is tree


def test_deepspeed_knows_every_key_that_is_named_as_untested() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    assert set(UNTESTED_KEYS) <= set(DeepSpeedZeroConfig.model_fields)
