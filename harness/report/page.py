"""Writes report.html: the figures and tables of one run, or of several side by side, in one file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.files import replace_file
from harness.report.figures.catalogue import FIGURES
from harness.report.figures.drawing import Picture
from harness.report.history import RunHistory, different_settings, group
from harness.report.run_file import timestamp
from harness.report.tables import Finding, overview, results
from harness.settings.version import __version__

PAGE, FIGURE_FOLDER = "report.html", "figures"
_MARK = '<meta name="generator" content="conan-harness">'  # stands in the template


def write_report(
    runs: Sequence[RunHistory],
    out: Path,
    *,
    title: str | None = None,
    findings: Sequence[Finding] = (),
    pictures: Sequence[Picture] = (),
) -> Path:
    """Write OUT/report.html, which holds everything it shows, and OUT/figures/NAME.png; returns the page's path.

    Runs that differ only in their seed are drawn as mean and spread, other runs side by side in the same axes.
    findings, pictures: additional tables and figures about the runs, shown before the standard ones.
    """
    groups = group(runs)
    pictures = [*pictures, *(draw(groups) for draw in FIGURES)]
    folder = out / FIGURE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        if picture.png is None:
            (folder / f"{picture.name}.png").unlink(missing_ok=True)  # may exist from an earlier report
        else:
            (folder / f"{picture.name}.png").write_bytes(picture.png)
    page = _environment().get_template("page.html.j2")
    content = page.render(
        title=title or ", ".join(run_group.label for run_group in groups),
        findings=findings,
        drawn_at=timestamp(),
        version=__version__,
        runs=runs,
        overview=overview(runs),
        results=results(groups, all_metrics=False),
        all_results=results(groups, all_metrics=True),
        groups=groups,
        different_settings=different_settings(groups),
        pictures=pictures,
    )
    replace_file(out / PAGE, content)
    return out / PAGE


def is_report(folder: Path) -> bool:
    """Whether `write_report` has written the report.html of this folder."""
    try:
        return _MARK in (folder / PAGE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_address"] = _data_address
    environment.filters["setting"] = _setting
    return environment


def _data_address(picture: Picture) -> str:
    """The picture as a data: address, so that the page loads nothing from elsewhere."""
    assert picture.png is not None
    return "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii")


def _setting(value: Any) -> str:
    return "–" if value is None else str(value)
