"""`json` of the standard library, whose `loads` gives a ValueError for every text that it cannot read.

By itself it raises RecursionError for brackets nested a thousand times, which callers that expect a ValueError let
through as a traceback. Modules that read this project's own files import it as `json`.
"""

from __future__ import annotations

import json
from json import JSONDecodeError, dumps
from typing import Any

__all__ = ["JSONDecodeError", "dumps", "loads"]


def loads(text: str | bytes, **options: Any) -> Any:
    """The value of a JSON text. options: as json.loads has them.

    Raises:
        ValueError: the text is no JSON, or its values are nested too deeply.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("values are nested too deeply to be read") from None
