"""What the papers show can be done: recipes load, commands parse, Python runs. A block without a check says why."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.config import RunConfig
from harness.filtering.config import FilterConfig
from harness.inspection.look import look_at
from harness.inspection.recipe_keys import keys_of
from tests.tiny import make_data, make_model, make_recipe
from tests.unit.cli.command_line import invoke
from tests.unit.papers import blocks
from tests.unit.papers.blocks import PAPERS, ROOT, blocks_of

BLOCKS = [block for paper in PAPERS for block in blocks_of(paper)]
NO_CODE = ("text", "")  # trees of folders and what programs print
CHECKED = [block for block in BLOCKS if block.language not in NO_CODE and not block.mark.startswith("not run")]
COMMANDS = [block for block in CHECKED if block.language in ("sh", "bash", "console")]


def of_language(language: str) -> list[blocks.Block]:
    return [block for block in CHECKED if block.language == language]


def test_every_block_is_of_a_kind_that_is_checked_or_says_why_not() -> None:
    """A new kind of block needs a check here, or `<!-- not run: WHY -->` above it."""
    kinds = {"sh", "bash", "console", "yaml", "python", "json", "jsonl", *NO_CODE}
    assert [str(block) for block in BLOCKS if block.language not in kinds and not block.mark] == []
    marks = [block.mark for block in BLOCKS if block.mark and not block.mark.startswith("excerpt: ")]
    assert [mark for mark in marks if not re.fullmatch(r"not run: .{10,}", mark) and not mark.startswith("end")] == []
    assert len(marks) <= 9  # not a way out
    assert len(CHECKED) > 35


def test_no_page_says_a_section_or_a_paragraph_twice() -> None:
    """As two merged branches that both brought it leave it."""
    paragraphs = [(paper, text) for paper in PAPERS for text in paper.read_text(encoding="utf-8").split("\n\n")]
    told = [(paper, text) for paper, text in paragraphs if text.startswith("#") or len(text) > 200]
    assert [text for text, times in Counter(told).items() if times > 1] == []


@pytest.mark.parametrize("block", of_language("yaml"), ids=str)
def test_a_recipe_of_the_papers_is_read_by_the_loader(block: blocks.Block) -> None:
    blocks.check_recipe(block.code)


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_the_commands_of_the_papers_are_taken_by_their_own_parsers(block: blocks.Block) -> None:
    if block.language != "console":
        blocks.check_syntax(block.code)
    for words in blocks.commands_in(block.code, block.language):
        blocks.check_command(words)


@pytest.mark.parametrize(
    "command",
    [
        "harness evaluat x y",
        "harness plan demo --rank 2",
        "harness plan demo --set training.learning_rat=1",
        "./launch.sh my_recipe.yaml --set training.step=1",
        "./launch.sh no_such_recipe",
        "deepspeed --num_accelerators 8 --module harness evaluate --benchmarks x",
        "python -m benchmarks.no_such",
        "pip install -e '.[no_such]'",
        "no-such-program --help",
    ],
)
def test_a_wrong_command_is_found(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = blocks.commands_in(command, "sh")
    with pytest.raises((Exception, SystemExit)):
        blocks.check_command(words)


@pytest.mark.parametrize("block", of_language("json"), ids=str)
def test_json_of_the_papers_is_json(block: blocks.Block) -> None:
    json.loads(block.code)


@pytest.mark.parametrize("block", of_language("jsonl"), ids=str)
def test_a_row_of_the_papers_is_read_as_training_data(block: blocks.Block, tmp_path: Path) -> None:
    """By what `harness init` looks with, which is the reader of training."""
    for number, row in enumerate(block.code.splitlines()):
        keys = json.loads(row).keys()
        kind = "sts" if "text1" in keys else "classification" if "label" in keys else "retrieval"
        file = tmp_path / f"{number}.jsonl"
        file.write_text(row + "\n", encoding="utf-8")
        (seen,) = look_at([file], lambda texts: np.array([len(text) for text in texts])).training
        assert (seen.kind, seen.rows, seen.bad_rows) == (kind, 1, 0)


RUN_ELSEWHERE = "docs/python.md-1-python"  # by tests/unit/api/test_page.py


@pytest.mark.parametrize("block", [one for one in of_language("python") if str(one) != RUN_ELSEWHERE], ids=str)
def test_python_of_the_papers_runs(
    block: blocks.Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tiny model in place of the demo's, which CI may not have. An excerpt stands in the file it is from."""
    if block.mark.startswith("excerpt: "):
        source = " ".join((ROOT / block.mark.removeprefix("excerpt: ")).read_text(encoding="utf-8").split())
        assert [line for line in block.code.splitlines() if " ".join(line.split()) not in source] == []
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_model(tmp_path / "model")
    if "SentenceTransformer(" in block.code:
        _save_sentence_transformer(tmp_path)
    if "my_data/questions.jsonl" in block.code:
        rows = [{"query": f"how {i}", "positive": f"so {i}"} for i in range(3)]
        Path("my_data").mkdir()
        Path("my_data/questions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    if "my_recipe.yaml" in block.code:
        recipe = make_recipe(make_data(tmp_path)).read_text(encoding="utf-8")
        Path("my_recipe.yaml").write_text(recipe.replace("steps: 6", "steps: 1"), encoding="utf-8")
    torch.manual_seed(0)
    queries, documents = torch.randn(4, 1024, requires_grad=True), torch.randn(12, 1024, requires_grad=True)
    given = {
        "query_BD": queries,
        "document_ND": documents,
        "positive_B": torch.arange(4),
        "mined_BM": torch.arange(4, 12).reshape(4, 2),
    }
    exec(compile(block.code.replace("demo-minilm", "./model"), str(block), "exec"), given)


def _save_sentence_transformer(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(folder / "model")).save(str(folder / "my_model"))
    SentenceTransformer(str(folder / "model"), prompts={"query": "query: "}).save(str(folder / "my_teacher"))


def test_readmes_recipe_goes_with_the_data_of_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`harness init` and `harness plan`, as docs/first_run.md has them, on a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_model(tmp_path / "model")
    data = next(block for block in blocks_of(ROOT / "docs" / "first_run.md") if block.language == "python")
    exec(compile(data.code, str(data), "exec"), {})
    recipe = next(block for block in blocks_of(ROOT / "README.md") if block.language == "yaml").code
    tiny = recipe.replace("demo-minilm", "model").replace("[128, 256, 384]", "[8, 16, 32]").replace("128 ", "24 ")
    (tmp_path / "my_recipe.yaml").write_text(tiny)
    planned = invoke("plan", "my_recipe.yaml", "--ranks", "2")
    assert planned.exit_code == 0, planned.output
    begun = invoke("init", "my_data", "--yes", "--model", "model")
    assert begun.exit_code == 0, begun.output
    assert (tmp_path / "recipe.yaml").is_file()


KEYS = {key.path.replace(".NAME.", ".") for key in [*keys_of(RunConfig), *keys_of(FilterConfig)]}
SECTIONS = {path.partition(".")[0] for path in KEYS if "." in path} - {"rules"}
KEY = re.compile(r"`([a-z]+(?:\.[A-Za-z_]+)+)(?::[^`]*)?`")


@pytest.mark.parametrize("paper", [*ROOT.glob("docs/*.md"), ROOT / "README.md"], ids=lambda path: path.name)
def test_a_recipe_key_that_a_page_names_exists(paper: Path) -> None:
    named = KEY.findall(re.sub(r"^```.*?^```", "", paper.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL))
    files = (".py", ".json", ".md", ".safetensors")
    named = [name for name in named if name.partition(".")[0] in SECTIONS and not name.endswith(files)]
    entry = re.compile(r"^(tasks|evaluation\.data)\.[A-Za-z_]+\.")
    assert [name for name in named if name not in KEYS and entry.sub(r"\1.", name) not in KEYS] == []


def test_both_readmes_have_the_same_commands_recipes_and_links() -> None:
    """Only comments, which are translated, and the link to the other language differ."""
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    without_comments = [
        [re.sub(r"\s+#.*", "", line).rstrip() for line in block.code.splitlines() if block.language != "text"]
        for block in [*blocks_of(ROOT / "README.md"), *blocks_of(ROOT / "README.zh.md")]
    ]
    half = len(without_comments) // 2
    assert without_comments[:half] == without_comments[half:]
    targets = re.compile(r"\]\(([^)\s]+)\)")
    assert targets.findall(english)[0] == "README.zh.md"
    assert targets.findall(chinese)[0] == "README.md"
    assert sorted(targets.findall(english)[1:]) == sorted(targets.findall(chinese)[1:])
    numbers = re.compile(r"[−+]?\d+\.\d+(?:e-\d+)?")
    assert sorted(numbers.findall(english)) == sorted(numbers.findall(chinese))


def test_pages_hold_no_python_that_does_not_parse() -> None:
    """Also of blocks that are marked."""
    for block in BLOCKS:
        if block.language == "python":
            ast.parse(block.code)
