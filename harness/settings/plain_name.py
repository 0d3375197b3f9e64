"""Names of runs and tasks: what a recipe takes, and one made from any text, such as a file's name."""

from __future__ import annotations

import re

# Letters and digits of any script, because names are read by people: they become parts of names of folders and metrics.
NAME_PATTERN = r"^\w[\w.-]*$"
NAME_IN_WORDS = "letters and digits of any script, `_`, `-` and `.`, without blanks, not beginning with `-` or `.`"


def plain_name(text: str, otherwise: str, *, dots: bool = True) -> str:
    """Letters, digits, `_`, `-` and, unless `dots` is False, `.`; `_` for all else; never `-` or `.` in front.

    otherwise: the name if nothing is left. A task's name has no dots, because `--set tasks.NAME.quota=8` has them.
    """
    plain = re.sub(r"[^\w.-]" if dots else r"[^\w-]", "_", text)
    return plain.lstrip(".-") or otherwise
