"""A run's report in a real browser: the run writes it at its end, it is complete, and it loads nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from harness.cli.report import draw_report
from harness.config import load_recipe
from harness.report.figures.catalogue import FIGURES
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed
NAMES = [draw.__name__ for draw in FIGURES]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHASES = {f"seconds/{name}" for name in ("data", "embed", "score", "replay", "step", "communication", "reduce")}


def train(folder: Path, output: str, *settings: str, broken: str = "") -> str:
    """Runs on a rank: train and return the text of stderr. broken: if given, the error of drawing the report."""
    from harness import trainer
    from harness.report import page

    def fail(*_: object) -> None:
        raise OSError(broken)

    if broken:
        page.write_report = fail
    with redirect_stderr(io.StringIO()) as stderr:
        trainer.train(load_recipe(str(folder / "tiny.yaml"), [f"output={folder}/{output}", *settings]))
    return stderr.getvalue()


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A finished run of two ranks that replaced negatives."""
    run_ranks(2, train, folder, "dynamic", "mining.rule=v2", "mining.floor=1.0")
    return folder / "dynamic"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        # Root, the user in most containers, cannot create a sandbox.
        yield playwright.chromium.launch(executable_path=program, chromium_sandbox=os.geteuid() != 0)


def look(browser: Browser, page: Path, width: int) -> dict[str, object]:
    """Load a page from disk at a window width; return its messages, the addresses it requests, and what it shows."""
    opened = browser.new_page(viewport={"width": width, "height": 800})
    requests: list[str] = []
    messages: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.goto(page.as_uri(), wait_until="load")
    images = opened.eval_on_selector_all(
        "figure", "all => all.map(f => [f.id, ...[...f.querySelectorAll('img')].map(i => [i.naturalWidth, i.alt])])"
    )
    overflow = opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    opened.close()
    return {"asked": requests, "said": messages, "images": images, "overflow": overflow}


@pytest.mark.parametrize("width", [1280, 360])
def test_a_browser_shows_every_figure_and_asks_for_nothing(run: Path, browser: Browser, width: int) -> None:
    seen = look(browser, run / "report.html", width)
    assert seen["said"] == []
    assert seen["asked"] == [(run / "report.html").as_uri()]
    assert [name for name, *_ in seen["images"]] == NAMES
    for name, *images in seen["images"]:
        assert len(images) == 1, f"{name}: not recorded"
        assert images[0][0] > 0
        assert images[0][1]
    assert seen["overflow"] <= 0  # on a phone only tables may scroll sideways


def test_what_a_browser_asks_for_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    """The check above notices a picture from another address and an error on the console."""
    (tmp_path / "page.html").write_text(
        '<figure id="x"><img src="other.png"></figure><script>console.error("no")</script>'
    )
    seen = look(browser, tmp_path / "page.html", 800)
    assert len(seen["asked"]) == 2
    assert "no" in seen["said"]
    assert seen["images"] == [["x", [0, ""]]]


def test_every_row_says_where_the_time_went(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row.keys() == rows[0].keys()
        assert row.keys() >= PHASES | {"memory_bytes"}
        phases = {name for name in row if name.startswith("seconds/")} - {"seconds/communication", "seconds/reduce"}
        spent = sum(row[name] for name in phases)
        assert 0 < spent <= row["seconds"]
        assert row["seconds/communication"] + row["seconds/reduce"] <= spent
    assert sum(row["negatives_replaced"] for row in rows) > 0


def test_a_floor_found_by_auto_stands_in_every_row_and_in_run_json(folder: Path, run: Path) -> None:
    """It is known after ten steps; a given floor is no finding."""
    settings = ("mining.rule=v2", "mining.floor=auto", "training.steps=11", "evaluation.every=0")
    run_ranks(1, train, folder, "auto", *settings)
    rows = [json.loads(line) for line in (folder / "auto" / "metrics.jsonl").read_text().splitlines()]
    floor = rows[-1]["negative_floor/faq"]
    assert 0 < floor < 1
    assert [row["negative_floor/faq"] for row in rows] == [None] * 9 + [floor] * 2
    assert json.loads((folder / "auto" / "run.json").read_text())["mining"] == {"faq": {"floor": floor}}
    assert json.loads((run / "run.json").read_text())["mining"] == {}


def test_a_report_that_cannot_be_made_does_not_fail_the_run(folder: Path) -> None:
    (stderr,) = run_ranks(1, partial(train, broken="no space left"), folder, "undrawn", "training.steps=1")
    assert json.loads((folder / "undrawn" / "run.json").read_text())["finished"]
    assert f"report.html could not be made (no space left); to try again: harness report {folder}/undrawn" in stderr


def test_several_runs_stand_in_one_report_beside_the_first(run: Path, folder: Path, browser: Browser) -> None:
    run_ranks(1, train, folder, "static")
    draw_report([folder / "static", run], None)
    page = folder / "report-static-dynamic" / "report.html"
    assert "mining.floor" in page.read_text()
    seen = look(browser, page, 1280)
    assert (seen["said"], seen["asked"]) == ([], [page.as_uri()])
