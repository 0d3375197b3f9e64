"""What a run tells while it goes on, and to whom: `Callback` is what a user subclasses, `STOP` what it may return."""

from harness.run.callbacks.callback import STOP, Callback

__all__ = ["STOP", "Callback"]
