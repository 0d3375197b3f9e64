"""The fonts of the figures: matplotlib's own, then those of this machine that have Chinese, Japanese or Korean."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from matplotlib.font_manager import findSystemFonts, fontManager

OWN = "DejaVu Sans"  # comes with matplotlib: the same picture everywhere
# Of file names and of families, without blanks, signs and case: those of Linux distributions, Windows and macOS.
_EAST_ASIAN = (
    "cjk",
    "sourcehan",
    "wenquanyi",
    "wqy",
    "droidsansfallback",
    "yahei",
    "msyh",
    "simhei",
    "simsun",
    "pingfang",
)
_MISSING = re.compile(r"Glyph (\d+) .*missing from font")
_named: set[str] = set()  # characters that a warning has named in this process


@cache
def families() -> list[str]:
    """The families in which a character is looked for, in this order.

    matplotlib keeps a list of fonts and does not see those installed since; they are added here.
    """
    listed = {font.fname for font in fontManager.ttflist}
    for file in findSystemFonts():
        if file not in listed and _is_east_asian(Path(file).stem):
            fontManager.addfont(file)
    return [OWN, *sorted({font.name for font in fontManager.ttflist if _is_east_asian(font.name)})]


def _is_east_asian(name: str) -> bool:
    plain = re.sub(r"[\W_]", "", name).lower()
    return any(part in plain for part in _EAST_ASIAN)


@contextmanager
def missing_characters_named_once() -> Iterator[None]:
    """One warning for all characters that no font has, in place of matplotlib's one for each in every figure."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing: set[str] = set()
    for warning in caught:
        if found := _MISSING.match(str(warning.message)):
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if new := sorted(missing - _named):
        _named.update(new)
        warnings.warn(
            f"figures of report.html: got {''.join(new)[:40]}, which no font here can draw, so they show boxes; "
            "install one, such as Debian's fonts-noto-cjk or fonts-wqy-microhei, and run harness report again",
            stacklevel=2,
        )
