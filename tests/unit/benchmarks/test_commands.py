"""Every row of benchmarks/README.md names an existing folder and a command that starts."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from benchmarks.growth.benchmark import TOPICS
from benchmarks.precision import measure
from harness.config import load_recipe

ROOT = Path(__file__).parents[3]
TABLE = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
MODULES = re.findall(r"`python -m (benchmarks\.\w+)", TABLE)
RECIPES = re.findall(r"`\./launch\.sh (benchmarks/\S+\.yaml)", TABLE)


def test_every_folder_has_a_row_and_every_row_a_folder() -> None:
    rows = set(re.findall(r"^\| `(\w+)/`", TABLE, flags=re.MULTILINE))
    folders = {path.name for path in (ROOT / "benchmarks").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert rows == folders - {"runner"}


@pytest.mark.parametrize("module", MODULES)
def test_a_command_of_the_table_shows_its_help(module: str, monkeypatch, capsys) -> None:
    main = importlib.import_module(f"{module}.__main__").main
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert f"python -m {module}" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_of_the_table_loads(recipe: str) -> None:
    assert load_recipe(str(ROOT / recipe)).config.training.steps > 0


def test_the_recipe_of_the_precisions_loads(tmp_path: Path) -> None:
    settings = measure.Settings(tmp_path, "demo-minilm", batch=3, steps=5, stage=2, precision="bf16")
    config = measure.load(settings).config
    assert (config.tasks[0].quota, config.training.steps, config.training.precision) == (3, 5, "bf16")


def test_the_table_has_commands_and_recipes() -> None:
    assert len(MODULES) == 14
    assert len(RECIPES) == 2


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_of_the_growth_table_has_rows(topic: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.growth.{topic}").rows)
