"""The figures of docs/ are those that docs/figures/draw.py draws today."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

FIGURES = Path(__file__).parents[3] / "docs" / "figures"


def _version(svg: str) -> str:
    return re.search(r"<dc:title>(Matplotlib v[\d.]+)", svg)[1]


def _words(svg: str) -> list[str]:
    """Text is drawn as outlines, with the words in a comment before them."""
    return re.findall(r"<!--(.*?)-->", svg, re.DOTALL)


def test_the_figures_are_what_their_script_draws(tmp_path):
    """A change of the script that nobody ran, or of a figure by hand, would stay unseen.

    Another version of matplotlib may draw the same with other numbers; then the words must be the same.
    """
    script = shutil.copy(FIGURES / "draw.py", tmp_path)
    subprocess.run([sys.executable, script], check=True, timeout=120)
    drawn = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    kept = {path.name: path.read_text() for path in FIGURES.glob("*.svg")}
    assert drawn.keys() == kept.keys()
    for name, svg in kept.items():
        assert _words(svg), name
        assert _words(drawn[name]) == _words(svg), f"{name} is stale: run python docs/figures/draw.py"
        if _version(drawn[name]) == _version(svg):
            assert drawn[name] == svg, f"{name} is stale: run python docs/figures/draw.py"
