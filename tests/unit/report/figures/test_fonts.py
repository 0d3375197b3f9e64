"""Names in any script are drawn with a font of the machine, or one line says which characters are not."""

from __future__ import annotations

import warnings

import pytest
from matplotlib.font_manager import FontProperties, findfont, get_font
from rich.cells import cell_len

from harness.report.figures import drawing, fonts


def drawn_warnings(text: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with drawing.figure(height=1) as figure:
            figure.text(0, 0, text)
            drawing.to_png(figure)
    return [str(warning.message) for warning in caught]


def test_characters_that_no_font_has_are_named_in_one_warning_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib gives one per character and figure: 27 for a run whose data sets are called 检索 and 分类."""
    monkeypatch.setattr(drawing, "families", lambda: [fonts.OWN])
    monkeypatch.setattr(fonts, "_named", set())
    [message] = drawn_warnings("检索 分类")
    assert all(character in message for character in "检索分类")
    assert "fonts-noto-cjk" in message
    assert drawn_warnings("检索") == []
    assert drawn_warnings("nDCG@10") == []


def test_a_character_that_the_first_font_lacks_is_drawn_with_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """STIXGeneral comes with matplotlib, so it stands here for a Chinese font."""
    monkeypatch.setattr(fonts, "_EAST_ASIAN", ("stixgeneral",))
    monkeypatch.setattr(fonts, "_named", set())
    fonts.families.cache_clear()
    own, other = (
        set(get_font(findfont(FontProperties(family=[name]))).get_charmap()) for name in (fonts.OWN, "STIXGeneral")
    )
    only_there = chr(min(code for code in other - own if chr(code).isalpha()))
    try:
        assert drawn_warnings(only_there) == []
        assert fonts.families() == [fonts.OWN, "STIXGeneral"]
    finally:
        fonts.families.cache_clear()


def test_a_legend_s_label_is_cut_by_its_width_and_not_by_its_characters() -> None:
    assert drawing.short("检索" * 8) == "检索" * 8
    cut = drawing.short("中文检索数据集" * 4)
    assert "…" in cut
    assert cell_len(cut) <= 34
