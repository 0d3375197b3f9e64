"""What a run will write, and whether there is room for it."""

from __future__ import annotations

from pathlib import Path

from harness.config import RunConfig
from harness.files import check_output, folder_size
from harness.model_folder.preflight import count_weights

# Bytes that a run writes at least, per weight: an export is written in float32 and copied; a checkpoint holds float32
# weights, the two moments of the optimizer and an export.
BYTES_OF_EXPORT, BYTES_OF_CHECKPOINT = 8, 16


def check_outputs(config: RunConfig) -> None:
    """Raises ValueError, in one line, if the run folder has no room for what it will hold."""
    num_weights = count_weights(config.model.name_or_path, config.model.trust_remote_code)
    every, steps = config.checkpoint.every, config.training.steps
    # A new checkpoint is written before the oldest is removed. What earlier starts have written is there already.
    # With epochs, whose steps are not known before the data is read, there may be as many as are kept.
    most = config.checkpoint.keep + 1
    num_checkpoints = 0 if every == 0 else most if not every or not steps else min(most, -(-steps // every))
    average = 0 if config.training.ema is None else 4
    needed = num_weights * (BYTES_OF_EXPORT + num_checkpoints * (BYTES_OF_CHECKPOINT + average))
    folder = Path(config.output)
    check_output(folder, "output", max(0, needed - folder_size(folder)))
