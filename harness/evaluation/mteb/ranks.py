"""Rank 0 runs a library that knows nothing of ranks, and asks all ranks for help where it encodes and searches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from harness import comm
from harness.rank0 import SIGN_OF_LIFE_SECONDS

Value = TypeVar("Value")
Ask = Callable[[Any], Any]  # a request → rank 0's answer to it


def together(work: Callable[[Ask], Value], serve: Ask) -> Value:
    """Run `work(ask)` on rank 0 and return its value on every rank; each `ask(request)` runs `serve(request)` on all.

    Every rank must call it. work: only rank 0's is called, in a thread; must not call collectives itself, and its value
    is sent to all ranks. serve: may call collectives; rank 0's value is what `ask` returns. While rank 0 works alone, it
    gives a sign of life every second.

    Raises:
        ValueError: on the other ranks, with the message of rank 0's error. Rank 0 raises the error itself.
    """
    if comm.world_size() == 1:
        return work(serve)
    if comm.is_main():
        return _conduct(work, serve)
    while True:
        kind, content = comm.broadcast_object(None)
        if kind == "request":
            serve(content)
        elif kind == "value":
            return content
        elif kind == "error":
            raise ValueError(content)


def _conduct(work: Callable[[Ask], Value], serve: Ask) -> Value:
    asked: SimpleQueue[tuple[Any, Future[Any]] | None] = SimpleQueue()
    done: Future[Value] = Future()

    def ask(request: Any) -> Any:
        answer: Future[Any] = Future()
        asked.put((request, answer))
        return answer.result()

    def run() -> None:
        try:
            done.set_result(work(ask))
        except BaseException as error:
            done.set_exception(error)
        asked.put(None)

    Thread(target=run, daemon=True, name="mteb").start()
    while True:
        try:
            entry = asked.get(timeout=SIGN_OF_LIFE_SECONDS)
        except Empty:
            comm.broadcast_object(("alive", None))
            continue
        if entry is None:
            break
        request, answer = entry
        comm.broadcast_object(("request", request))
        answer.set_result(serve(request))
    error = done.exception()
    if error is None:
        comm.broadcast_object(("value", done.result()))
    else:
        comm.broadcast_object(("error", str(error) if isinstance(error, ValueError) else repr(error)))
    return done.result()
