"""docs/python.md: its code runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tiny import make_model

PAGE = Path(__file__).parents[3] / "docs" / "python.md"


def test_the_ten_lines_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tiny model in place of the demo's, which CI may not have."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert code.count("\n") <= 13
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_model(tmp_path / "model")
    exec(compile(code.replace("demo-minilm", "./model"), str(PAGE), "exec"), {})
    assert "(1, 32)" in capsys.readouterr().out
    assert (tmp_path / "runs" / "parts" / "model" / "modules.json").is_file()
