"""Links of all papers lead to files and headings that are there; the site and its list of pages hold every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SKIPPED = {".venv", ".git", "runs", "build", "dist"}
PAPERS = sorted(path for path in ROOT.rglob("*.md") if not SKIPPED & set(path.relative_to(ROOT).parts))
BLOCK = re.compile(r"^( *)```.*?^\1```$", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)")


def links(text: str) -> list[tuple[str, str]]:
    """(path, anchor) of every relative link outside of code; of a link within the page the path is empty."""
    prose = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))
    return [(path, anchor) for path, anchor in LINK.findall(prose) if path or anchor]


def anchors(text: str) -> set[str]:
    """The anchors of a page as code hosts make them: the heading in small letters, blanks as hyphens, no signs."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", BLOCK.sub("", text), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        repeats = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.add(f"{anchor}-{repeats}" if repeats else anchor)
    return found


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_of_it(paper: Path) -> None:
    missing = []
    for path, anchor in links(paper.read_text(encoding="utf-8")):
        target = paper.parent / path if path else paper
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            missing.append(f"{path}#{anchor}")
    assert missing == []


def test_links_and_anchors_are_found() -> None:
    text = "# A `b`, c\n[x](y.md#a-b)\n```\n# no heading\n[no](link)\n```\n## A `b`, c\n`[code](is none)` [z](#here)"
    assert links(text) == [("y.md", "a-b"), ("", "here")]
    assert anchors(text) == {"a-b-c", "a-b-c-1"}


def pages_of_nav(nav: object) -> list[str]:
    """The pages of an entry of mkdocs' nav."""
    if isinstance(nav, str):
        return [nav]
    entries = nav if isinstance(nav, list) else list(nav.values()) if isinstance(nav, dict) else []
    return [page for entry in entries for page in pages_of_nav(entry)]


def test_every_page_of_docs_stands_in_the_site_and_in_the_list_of_pages() -> None:
    """mkdocs itself (`mkdocs build --strict` in .ci/run) checks that the links of the built site lead somewhere."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = pages_of_nav(yaml.safe_load(re.sub(r"!!python\S+ ", "", settings))["nav"])
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in ROOT.glob("docs/*.md")}
    assert pages - set(nav) == set()
    assert [page for page in pages - {"index.md"} if f"]({page})" not in index] == []
    assert len(nav) == len(set(nav))
