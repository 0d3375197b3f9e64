"""Writes the tables of docs/coming_from.md anew: `python -m tests.unit.conversion.page`."""

from __future__ import annotations

import re
from pathlib import Path

from harness.conversion.arguments.sentence_transformers import LOSSES_THERE
from harness.conversion.arguments.table import losses_markdown, markdown
from harness.conversion.convert import TABLES

PAGE = Path(__file__).parents[3] / "docs" / "coming_from.md"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    tables = {name: markdown(table) for name, table in TABLES.items()} | {"losses": losses_markdown(LOSSES_THERE)}
    for name, table in tables.items():
        between = re.compile(rf"(<!-- table {name} -->\n).*?(\n<!-- end -->)", flags=re.DOTALL)
        text = between.sub(lambda found, table=table: found[1] + table + found[2], text)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
