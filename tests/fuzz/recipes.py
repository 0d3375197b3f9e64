"""Recipes: the text of the file, `--set` overrides, and DeepSpeed's JSON. A message has a line per mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from harness.config import RECIPES, dump, load_recipe
from harness.settings.deepspeed_json import KEYS_OF_THE_JSON, OWNED_BY_RECIPE, load_deepspeed_json
from tests.fuzz.judgement import Find, judge
from tests.fuzz.target import Target
from tests.fuzz.values import as_json, changed_tree, changes_of, damaged, seeds, trees

MOST_MISTAKES = 60  # of one recipe
_SMALL = """
name: tiny
model: {name_or_path: model, pooling: mean, matryoshka_dims: [8, 32], max_length: 24}
tasks:
  - {name: faq, kind: retrieval, path: retrieval.jsonl, quota: 8, negatives: {scope: task, per_query: 2}}
  - {name: similar, kind: sts, path: sts.jsonl, quota: 6}
training: {steps: 6, learning_rate: 1.0e-3}
evaluation: {every: 3, data: [faq]}
checkpoint: {every: 2, keep: 2}
"""
_ODD_YAML = (
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "name: &n [*n]\n", "tasks: &t\n  - <<: *t\n", "<<: 1\n",
    "<<: [[1]]\n",
    "? [a, b]\n: c\n", "? {a: b}\n: c\n", "name: !!binary aGk=\n", "name: !!binary '%'\n",
    "name: !!python/object:os.system x\n",
    "name: !!set {a, b}\n", "name: !!omap [a: b]\n", "name: !!omap [1]\n", "name: !!pairs 1\n", "name: !!int x\n",
    "name: !!float x\n",
    "name: !!int ''\n", "name: !!bool maybe\n", "name: !!null x\n", "name: !!timestamp x\n", "name: 2026-11-29\n",
    "1: 2\n", "~: 1\n",
    ".nan: 1\n", "name: 1:30:00\n", "name: 0o17\n", "name: 0x\n", "name: 0b\n", "name: +_\n", "name: ._\n",
    "name: '\\ud800'\n",
    'name: "\\ud800"\n', 'name: "\\U0010ffff"\n', 'name: "\\xg"\n', "%YAML 9.9\n---\nname: x\n",
    "%TAG ! !!\n--- !x\n", "--- a\n--- b\n",
    "name: |\n  a\n b\n", "name: >9\n a\n", "\t- a\n", "name: @x\n", "name: `x\n", "&a\n", "*a\n", "!!map []\n",
    "!!seq {}\n", "!!str {}\n",
    "? a\n", "[a, b]\n", "text\n", "training: {steps: 1e5, learning_rate: 1e-5}\n", "name: " + "9" * 5_000 + "\n",
)  # fmt: skip
_WORDS = (
    "own", "task", "step", "info_nce", "cosent", "v1", "v2", "none", "auto", "fp16", "bf16", "mean", "last", "never",
    "adamw",
    "flash_attention_2", "guide", "mining", "loss", "projection_dim", "retrieval", "sts", "classification",
)  # fmt: skip


def _trees_of_recipes() -> list[dict[str, Any]]:
    texts = [_SMALL, *(path.read_text() for path in sorted(RECIPES.glob("*.yaml")))]
    return [yaml.safe_load(text) for text in texts]


def _full_trees(recipes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each recipe with every key, defaults too."""
    full = [yaml.safe_load(dump(load_recipe(str(path)).config)) for path in sorted(RECIPES.glob("*.yaml"))]
    return [*recipes, *full]


_TREES = _full_trees(_trees_of_recipes())
_KEYS = sorted({f"{section}.{key}" for tree in _TREES for section, inner in tree.items() if isinstance(inner, dict)
                for key in inner} | {key for tree in _TREES for key in tree})  # fmt: skip
_key = st.sampled_from(
    (*_KEYS, "tasks.faq.quota", "tasks.0.quota", "tasks.9", "tasks.-1", "tasks.²", "a.b.c", "", ".", "tasks.faq.")
)
_value = st.one_of(
    trees.map(lambda tree: as_json(tree, 3)), st.sampled_from((*_ODD_YAML, *_WORDS, "[", "{a: 1", "1e5", "null"))
)
_overrides = st.lists(st.one_of(st.tuples(_key, _value).map("=".join), st.text(max_size=6)), max_size=2)


def _yaml_of(drawn: Any) -> bytes:
    number, changes, odd, seed = drawn
    tree = changed_tree(_TREES[number % len(_TREES)], changes)
    is_json = seed % 3 or "\\ud" in json.dumps(tree)  # the writer of YAML takes no half of a surrogate pair
    text = as_json(tree, seed) if is_json else yaml.dump(tree, Dumper=yaml.CSafeDumper, allow_unicode=True)
    if odd is not None:
        text = f"{text}\n{odd}" if seed % 2 and not seed % 3 else odd
    return damaged(text.encode("utf-8", "surrogatepass"), seed)


def _attempt_file(drawn: Any, folder: Path) -> Find | str:
    content, overrides = _yaml_of(drawn[0]), drawn[1]
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    return judge(lambda: load_recipe(str(path), overrides), mistakes=MOST_MISTAKES)


_number = st.sampled_from((0, 0, 0, 0, *range(len(_TREES))))
_text = st.tuples(_number, changes_of(_WORDS), st.one_of(*[st.none()] * 5, st.sampled_from(_ODD_YAML)), seeds)

_ZERO = [json.loads(path.read_text()) for path in sorted((RECIPES.parents[1] / "ds_configs").glob("*.json"))]


def _attempt_json(drawn: Any, folder: Path) -> Find | str:
    number, changes, seed = drawn
    tree = changed_tree(_ZERO[number % len(_ZERO)], changes)
    (folder / "zero.json").write_bytes(damaged(as_json(tree, seed).encode("utf-8", "surrogatepass"), seed))

    return judge(lambda: load_deepspeed_json("zero.json", folder), mistakes=MOST_MISTAKES)


def _file_inputs() -> st.SearchStrategy[Any]:
    return st.tuples(_text, st.one_of(*[st.just([])] * 2, _overrides))


TARGETS = (
    Target("recipes: file and --set", _file_inputs(), _attempt_file, 2.0),
    Target(
        "recipes: DeepSpeed's JSON",
        st.tuples(st.integers(0, 20), changes_of((*KEYS_OF_THE_JSON, *OWNED_BY_RECIPE)), seeds),
        _attempt_json,
        1.0,
    ),
)
