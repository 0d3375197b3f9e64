"""What the repository says about itself is true: README's tree, links, recipes, DeepSpeed JSON, launch.sh."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from harness.config import load_recipe
from harness.settings.deepspeed_json import OWNED_BY_RECIPE, load_deepspeed_json, zero_stage

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in ROOT.glob("harness/recipes/*.yaml"))
DS_CONFIGS = sorted(ROOT.glob("ds_configs/*.json"))
TREE_GLYPHS = re.compile(r"^[\s│├└─]*")
MAX_LAUNCH_LINES = 60
MAX_README_LINES = 150


def tree_of(readme: str) -> list[str]:
    """Return the paths in README's annotated tree, the fenced block with a line that starts with `harness/`.

    A line is `name[  name ...]   description`. Two spaces separate names; a name contains a dot or ends in a slash.
    Indentation (or box drawing) shows the folder of a name.
    """
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    block = next(block for block in blocks if re.search(r"^[│├└─ ]*harness/", block, flags=re.MULTILINE))
    folders: list[tuple[int, str]] = []
    paths = []
    for line in filter(str.strip, block.splitlines()):
        glyphs = TREE_GLYPHS.match(line)
        indent = glyphs.end() if glyphs else 0
        folders = [(depth, folder) for depth, folder in folders if depth < indent]
        for name in re.split(r"\s{2,}", line[indent:].strip()):
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.\w+)", name):
                break
            paths.append("".join(folder for _, folder in folders) + name)
        if paths and paths[-1].endswith("/"):
            folders.append((indent, line[indent:].split()[0]))
    return paths


def test_the_tree_is_read_with_its_folders() -> None:
    readme = "```\nother\n```\n```text\nREADME.md  launch.sh   two papers\nharness/     the package\n"
    readme += (
        "  comm.py   the only importer\n  data/     sources.py is there\n    plan.py   pure\ntests/   checks\n```\n"
    )
    expected = "README.md launch.sh harness/ harness/comm.py harness/data/ harness/data/plan.py tests/"
    assert tree_of(readme) == expected.split()
    boxes = "```\nharness/   the package\n├── comm.py   the only importer\n└── data/\n    └── plan.py\n```\n"
    assert tree_of(boxes) == ["harness/", "harness/comm.py", "harness/data/", "harness/data/plan.py"]


def test_every_path_of_readmes_tree_exists_and_is_of_its_kind() -> None:
    paths = tree_of((ROOT / "README.md").read_text(encoding="utf-8"))
    wrong = [path for path in paths if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())]
    assert wrong == []


def test_readmes_tree_leaves_out_no_part_of_the_harness() -> None:
    paths = tree_of((ROOT / "README.md").read_text(encoding="utf-8"))
    parts = [f"harness/{path.name}" for path in ROOT.glob("harness/*.py") if path.name != "__init__.py"]
    parts += [f"harness/{path.parent.name}/" for path in ROOT.glob("harness/*/__init__.py")]
    parts += ["docs/", "harness/recipes/", "kernels/", "ds_configs/", "benchmarks/", "tests/", "launch.sh"]
    assert [part for part in parts if part not in paths] == []


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_readme_is_short_and_leads_to_the_list_of_pages(name: str) -> None:
    readme = (ROOT / name).read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= MAX_README_LINES
    assert "](docs/index.md)" in readme


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_loads_and_is_named_like_its_file(name: str) -> None:
    config = load_recipe(name).config
    assert config.name == name
    assert config.output == f"runs/{name}"


def test_the_demo_needs_no_file_and_no_download() -> None:
    config = load_recipe("demo").config
    assert config.model.name_or_path == "demo-minilm"
    paths = [task.path for task in config.tasks] + [entry.path for entry in config.evaluation.data]
    assert [path for path in paths if not path.startswith("demo-docstrings/")] == []
    assert {task.kind for task in config.tasks} == {"retrieval", "sts", "classification"}


@pytest.mark.parametrize("path", DS_CONFIGS, ids=lambda path: path.stem)
def test_a_deepspeed_json_says_how_state_is_sharded_and_nothing_else(path: Path) -> None:
    tree = load_deepspeed_json(path.stem, ROOT)
    assert tree.keys() == {"zero_optimization"}
    assert not OWNED_BY_RECIPE.keys() & tree["zero_optimization"].keys()
    assert zero_stage(tree) == int(path.stem[4])
    offloads = {key for key in tree["zero_optimization"] if key.startswith("offload_")}
    assert bool(offloads) == path.stem.endswith("_offload")
    assert f"`{path.name}`" in (ROOT / "ds_configs" / "README.md").read_text(encoding="utf-8")


def test_the_six_promised_ways_to_shard_are_there() -> None:
    promised = "zero0 zero1 zero2 zero2_offload zero3 zero3_offload"
    assert [path.stem for path in DS_CONFIGS] == promised.split()


def test_deepspeed_itself_accepts_every_key(tmp_path: Path) -> None:
    """DeepSpeed ignores unknown keys at the top of the JSON, but refuses them in zero_optimization."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    for path in DS_CONFIGS:
        section = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
        assert DeepSpeedZeroConfig(**section).stage == section["stage"]


@pytest.mark.parametrize("script", ["launch.sh", ".ci/run"])
def test_a_script_can_be_started_and_stays_short(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert len(lines) <= MAX_LAUNCH_LINES


def test_no_file_names_a_place_of_one_machine() -> None:
    """A path of one person's home or workplace does not exist on other machines."""
    places = re.compile(r"/(?:root|work|home)/[a-z]")
    suffixes = {".py", ".yaml", ".json", ".md", ".toml", ".sh", ".txt"}
    skipped = {".venv", ".git", "runs", "build", "dist"}
    named = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped and not name.startswith((".", "_"))]
        paths = (Path(folder, name) for name in files if Path(name).suffix in suffixes)
        named += [
            str(path) for path in paths if path != Path(__file__) and places.search(path.read_text(encoding="utf-8"))
        ]
    assert named == []
