"""The import rules: a layer imports only from layers below it, and some libraries may be imported in one place only."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("harness/**/*.py"), *ROOT.glob("kernels/**/*.py")])
ALL_PYTHON = sorted([*SOURCES, *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tests/**/*.py")])

# library → the only places in harness/ and kernels/ that may import it
ONLY_IMPORTERS = {
    "deepspeed": ("harness/engine/",),
    "torch.distributed": ("harness/comm.py", "kernels/examples/ring.py"),
    "triton": ("kernels/",),
    "transformers": (
        "harness/encoder/",
        "harness/model_folder/",
        "harness/data/table/tokenisation.py",
        "harness/export/sentence_transformers_folder.py",
    ),
    "typer": ("harness/cli/", "harness/__main__.py"),
    "click": (),
    "argparse": ("kernels/fused_contrastive/triton/compile_table.py",),
    "peft": ("harness/encoder/partial/",),
    "tensorboard": ("harness/report/trackers/",),
    "wandb": ("harness/report/trackers/wandb.py",),
    "mlflow": ("harness/report/trackers/mlflow.py",),
    "matplotlib": ("harness/report/",),
    "harness.demo": ("harness/demo/", "harness/run/"),
}


def used_modules(tree: ast.AST) -> Iterator[str]:
    """Yield each module that a file imports, and each dotted name in it (`torch.distributed` after `import torch`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def importers(library: str, files: dict[str, str]) -> list[str]:
    """Return the paths of the files that use a library."""
    return [
        path
        for path, text in files.items()
        if any(f"{name}.".startswith(f"{library}.") for name in used_modules(ast.parse(text)))
    ]


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    files = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}
    outside = [path for path in importers(library, files) if not path.startswith(ONLY_IMPORTERS[library] or ("-",))]
    assert outside == []


@pytest.mark.parametrize(
    "text",
    [
        "import torch.distributed as dist",
        "from torch import distributed",
        "from torch.distributed import get_rank",
        "import torch\ndef f():\n    return torch.distributed.get_rank()",
        "def f():\n    import torch.distributed",
    ],
)
def test_the_search_for_importers_sees_every_way_to_import(text: str) -> None:
    assert importers("torch.distributed", {"file.py": text, "other.py": "import torch.distributions"}) == ["file.py"]


def test_the_import_contracts_of_pyproject_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_of_the_harness_stands_on_a_floor() -> None:
    """import-linter does not report a module that is in no layer."""
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name.strip().removeprefix("harness.") for layer in layers for name in layer.split("|")}
    modules = {path.stem for path in ROOT.glob("harness/*.py")} - {"__init__"}
    packages = {path.parent.name for path in ROOT.glob("harness/*/__init__.py")}
    assert modules | packages == named


@pytest.mark.parametrize("path", ALL_PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    is_package_of_tests = path.name == "__init__.py" and path.parts[len(ROOT.parts)] in ("tests", "benchmarks")
    assert ast.get_docstring(ast.parse(text)) or (is_package_of_tests and not text)


def test_kernels_is_a_folder_and_no_package() -> None:
    """Our folder must not shadow Hugging Face's package `kernels`, which transformers imports."""
    assert (ROOT / "kernels" / "fused_contrastive" / "__init__.py").is_file()
    assert not (ROOT / "kernels" / "__init__.py").exists()
