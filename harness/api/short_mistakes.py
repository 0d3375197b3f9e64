"""A mistake in the arguments of the Python API ends in its line, not in the frames of this project above it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from harness.process.own_errors import raised_by_this_project, tracebacks_are_wanted

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def with_short_mistakes(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same call; a ValueError of this project shows the caller's line and its own, without causes.

    A notebook prints some ten lines for each frame, so that the one that says what to do is seen last. All frames are
    kept with HARNESS_DEBUG=1, and of an error that a library or a callback has raised.
    """

    @wraps(call)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return call(*args, **kwargs)
        except ValueError as error:
            if tracebacks_are_wanted() or not raised_by_this_project(error):
                raise
            raise error.with_traceback(None) from None

    return checked
