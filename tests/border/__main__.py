"""Prints what becomes of inputs that people bring: `python -m tests.border [DATA MODELS]`, a row per input.

Without arguments the inputs of `own_data.py` and `own_models.py` are tried. DATA and MODELS are folders with inputs
written elsewhere, one folder per input, with the names that `given.py` knows.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.settings.environment import prepare_environment
from tests.border import given, own_data, own_models
from tests.border.tried import Case, Seen

AT_ONCE = 2


def main() -> int:
    prepare_environment(verbose=False)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        if len(sys.argv) == 3:
            cases = given.cases(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute(), place)
        else:
            cases = [*own_data.cases(place), *own_models.cases(place)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            seen = list(pool.map(_try, cases))
    table = Table("case", "what happened", "as it should")
    for case, result in zip(cases, seen, strict=True):
        table.add_row(*map(Text, (case.name, result.what, "yes" if result.right else "NO")))
    Console(width=200).print(table)
    wrong = sum(not result.right for result in seen)
    print(f"{len(cases)} inputs, {wrong} not as they should be")
    return int(wrong > 0)


def _try(case: Case) -> Seen:
    try:
        return case.try_it()
    except Exception as error:
        return Seen(f"{type(error).__name__}: {error}", False)


if __name__ == "__main__":
    raise SystemExit(main())
