"""The picture of growth says what was assumed, and says where a rate is missing."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from harness.report.figures import scaling
from harness.report.figures.scaling import LogPanel, scaling_png

NOTES = [
    "H100: 40% of its matrix rate (assumed)",
    "texts of 49 tokens each, and a note that is long enough to be cut " * 2,
]


def test_assumptions_and_unknown_panels_stand_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    real = scaling.to_png
    monkeypatch.setattr(scaling, "to_png", lambda figure: (drawn.append(figure), real(figure))[1])
    known = LogPanel("GiB a rank", "ranks", {"ZeRO 0": [(1, 2.0), (1024, 9.0)]}, (80.0, "memory of H100"))
    unknown = LogPanel("texts a second", "ranks", {"ZeRO 0": [(1, None), (1024, None)]})
    assert scaling_png("demo: predicted", [known, unknown], NOTES).startswith(b"\x89PNG")
    texts = [text.get_text() for axes in drawn[0].axes for text in axes.texts]
    written = " ".join(" ".join(texts).replace("\n", " ").split())
    for note in NOTES:
        assert " ".join(note.split()) in written
    assert "not known" in texts[0]
    lines = {line.get_label(): line for line in drawn[0].axes[0].get_lines()}
    assert lines["ZeRO 0"].get_ydata().tolist() == [2.0, 9.0]
    assert lines["memory of H100"].get_ydata()[0] == 80.0
