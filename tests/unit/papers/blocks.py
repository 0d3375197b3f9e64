"""The blocks of code in the papers, and what can be checked of a command without doing its work.

A block that cannot be checked says why in a comment above it: `<!-- not run: needs a server -->`.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from harness.__main__ import app
from harness.config import check_tree, load_recipe
from harness.settings.yaml_text import parse_yaml

ROOT = Path(__file__).parents[3]
PAPERS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("harness/*/README.md"),
    ]
    if path.parent.name not in ("build", "dist")
)
FENCED = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
HARNESS = typer.main.get_command(app)
TASK = {"name": "questions", "kind": "retrieval", "path": "questions.jsonl", "quota": 8}
SMALLEST: dict[str, Any] = {
    "name": "x",
    "model": {"name_or_path": "demo-minilm"},
    "tasks": [TASK],
    "training": {"steps": 300},
}
OURS = ("--set", "--data-root", "--output")  # what launch.sh keeps; everything else goes to DeepSpeed's launcher


@dataclass(frozen=True)
class Block:
    """One fenced block. mark: what the comment above it says, or nothing."""

    paper: Path
    number: int
    language: str
    code: str
    mark: str

    def __str__(self) -> str:
        return f"{self.paper.relative_to(ROOT)}-{self.number}-{self.language}"


def blocks_of(paper: Path) -> list[Block]:
    """All blocks of a paper in their order."""
    found = FENCED.finditer(paper.read_text(encoding="utf-8"))
    return [Block(paper, i, one["language"], one["code"], one["mark"] or "") for i, one in enumerate(found, 1)]


def check_recipe(code: str) -> None:
    """Load a whole recipe, or a part of one with the smallest values beside it, by the loader of every command."""
    tree = parse_yaml(code, "block", name_lines=True)
    assert isinstance(tree, dict)
    model = SMALLEST["model"] | tree.get("model", {})
    check_tree(SMALLEST | tree | {"model": model}, "block", ROOT)


def commands_in(code: str, language: str) -> list[list[str]]:
    """The command lines of a block as words. Of a console only what follows the prompt `$ `."""
    if language == "console":
        code = "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def check_command(words: list[str]) -> None:
    """Check a command as its own parser does: options, values, recipe, `--set`. Its work is not done."""
    program, *rest = words
    if program == "harness":
        _check_harness(rest)
    elif program == "./launch.sh":
        _check_launch(rest)
    elif program == "deepspeed":
        _check_deepspeed(rest)
    elif program == "python" and rest[:1] == ["-m"]:
        assert importlib.util.find_spec(rest[1]), f"no module {rest[1]}"
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), f"no file {rest[0]}"
    elif program == "pip":
        check_extras(" ".join(rest))
    elif program == "source":
        assert rest == [".venv/bin/activate"]
    else:
        assert shutil.which(program) or (ROOT / program).is_file(), (
            f"no program {program}: mark the block `not run: WHY`"
        )


def check_extras(arguments: str) -> None:
    """`pip install -c constraints.txt -e '.[...]'` names extras that pyproject.toml has."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r"\.\[([\w,]+)\]", arguments)
    assert set(named.split(",")) <= set(extras)


def check_syntax(script: str) -> None:
    """bash itself reads the script without running it."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _check_harness(words: list[str]) -> None:
    with HARNESS.make_context("harness", list(words)) as context:
        name, command, rest = HARNESS.resolve_command(context, [*context._protected_args, *context.args])
        with command.make_context(name, list(rest), parent=context) as given:
            recipe, changes = given.params.get("recipe"), given.params.get("overrides")
    if recipe:
        _check_overrides(recipe, changes or ())


def _check_launch(words: list[str]) -> None:
    recipe = words.pop(0) if words and not words[0].startswith("-") else "demo"
    if recipe == "test":
        return
    ours = {flag: [words[i + 1] for i, word in enumerate(words) if word == flag] for flag in OURS}
    _check_overrides(recipe, ours["--set"])


def _check_overrides(recipe: str, changes: list[str] | tuple[str, ...]) -> None:
    """The recipe as the papers have it: one of this package, of a benchmark, or README's `my_recipe.yaml`."""
    if recipe in ("my_recipe.yaml", "recipe.yaml", "RECIPE"):
        readme = next(block for block in blocks_of(ROOT / "README.md") if block.language == "yaml")
        check_tree(parse_yaml(readme.code, recipe, name_lines=True), recipe, ROOT, list(changes))
    else:
        load_recipe(str(ROOT / recipe) if recipe.endswith(".yaml") else recipe, list(changes))


def _check_deepspeed(words: list[str]) -> None:
    from deepspeed.launcher.runner import parse_args

    given = parse_args(list(words))
    assert given.module
    assert given.user_script == "harness"
    _check_harness(given.user_args)
