"""A wheel, installed where there is no checkout, plans and trains.

On demand: pytest -p no:xdist -m wheel tests/wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tiny import make_data, make_model, make_recipe

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, so that nothing is left in the checkout."""
    if "wheel" not in str(request.config.getoption("-m")):
        pytest.skip("on demand: pytest -p no:xdist -m wheel tests/wheel")
    copy = tmp_path_factory.mktemp("sources")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("harness", "kernels", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    for name in (
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "MANIFEST.in",
        "constraints.txt",
        "launch.sh",
    ):
        shutil.copy(ROOT / name, copy / name)
    out = copy / "dist"
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(copy),
    ]
    subprocess.run(command, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True)
    return target


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_all_that_is_read_at_run_time(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    read = [*ROOT.glob("harness/recipes/*.yaml"), *ROOT.glob("harness/ds_configs/*"), *ROOT.glob("harness/**/*.j2")]
    expected = {str(path.relative_to(ROOT)) for path in read}
    assert expected | {"harness/py.typed", "fused_contrastive/py.typed"} <= names
    assert len(expected) >= 10
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("harness/**/*.py")}
    assert modules <= names
    assert not [name for name in names if name.startswith("tests")]


def test_an_installed_harness_plans_trains_and_launches(installed: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    make_data(tmp_path)
    recipe = make_recipe(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    planned = run(installed, empty, "harness", "plan", str(recipe))
    assert planned.returncode == 0, planned.stderr
    short = ("--set", "training.steps=2", "--output")
    trained = run(installed, empty, "harness", "train", str(recipe), *short, "alone")
    assert trained.returncode == 0, trained.stderr
    launched = run(installed, empty, "harness", "launch", str(recipe), "--ranks", "2", *short, "launched")
    assert launched.returncode == 0, launched.stderr
    for name in ("alone", "launched"):
        assert (empty / name / "model" / "modules.json").is_file()
    where = "import harness; print(harness.__file__)"
    code = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=empty,
        capture_output=True,
        text=True,
        check=True,
    )
    assert code.stdout.startswith(str(installed))
