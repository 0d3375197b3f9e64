"""Hooks of mkdocs.yml: papers outside of docs/ become pages, links to other files of the checkout become their paths.

On a code host every relative link leads to a file. In the site it leads to the page of that file; a file that is no
page (a module, a folder) is shown as its path in the checkout, because the project has no public address to link to.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[1]
PAPERS = (
    "LOG.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "kernels/README.md",
    "benchmarks/README.md",
    "harness/data/README.md",
    "harness/ds_configs/README.md",
)
MOVED = {"README.md": "index.md", "ds_configs/README.md": "harness/ds_configs/README.md"}
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(((?:\.\./)[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the papers, and the pictures outside of docs/ that pages show."""
    for paper in PAPERS:
        files.append(File.generated(config, paper, abs_src_path=str(ROOT / paper)))
    shown = {
        (ROOT / "docs" / target).resolve().relative_to(ROOT).as_posix()
        for page in ROOT.glob("docs/*.md")
        for target in PICTURE.findall(page.read_text(encoding="utf-8"))
    }
    for picture in sorted(shown):
        files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the checkout as links between pages; a file without a page as its path."""
    here = page.file.src_uri
    in_checkout = here if here in PAPERS else f"docs/{here}"

    def replaced(link: re.Match[str]) -> str:
        path = PurePosixPath(in_checkout).parent / link["target"]
        target = (ROOT / path).resolve()
        if target.is_relative_to(ROOT / "docs"):
            uri = target.relative_to(ROOT / "docs").as_posix()
        else:
            uri = _normal(str(path))
            uri = MOVED.get(uri, uri)
        if files.get_file_from_path(uri) is None:
            if not target.exists():
                return link[0]  # mkdocs names it
            return f"{link['text']}" if f"`{uri}`" in link["text"] else f"{link['text']} (`{uri}`)"
        return f"{link['image']}[{link['text']}]({get_relative_url(uri, here)}{link['anchor'] or ''})"

    # Blocks of code stay as they are.
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts)


def _normal(path: str) -> str:
    """The path without `..`, links of the file system not followed."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)
