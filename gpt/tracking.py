"""A run's numbers in TensorBoard, for who has it open anyway: `--track tensorboard`.

    train.py ─> a line of metrics.jsonl ─> TensorBoard(folder).log(line) ─> folder/tensorboard/

An extra, and a mirror: `metrics.jsonl` is the run's record, and no part of this project reads what
is written here. A resumed run says where it goes on from, and TensorBoard then drops the points
that the killed run wrote beyond it, so that none stands there twice.

    tensorboard --logdir checkpoints        # all runs, at http://localhost:6006
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from gpt.errors import UserError, first_line

FOLDER = "tensorboard"  # in a run's folder
# TensorBoard shows what stands before the slash as the heading of a group.
TAGS = {
    "train_loss": "loss/training",
    "val_loss": "loss/validation",
    "lr": "optimizer/learning rate",
    "grad_norm": "optimizer/gradient norm",
    "epoch": "seen/epochs",
    "tokens": "seen/tokens",
    "supervised_tokens": "seen/supervised tokens",
    "tokens_per_second": "machine/tokens a second",
    "memory_bytes": "machine/peak memory in bytes",
    "seconds": "machine/seconds",
}


class TrackingError(UserError):
    """TensorBoard is not there, or its folder can't be made."""


def refuse_without_tensorboard() -> None:
    """Before a run begins, and not when it has trained for a day."""
    if importlib.util.find_spec("tensorboard") is None:
        raise TrackingError("--track tensorboard needs TensorBoard: pip install tensorboard")


class TensorBoard:
    """Writes each line of a run's metrics: one curve for each of its keys."""

    def __init__(
        self,
        folder: str | Path,
        last_step: int = -1,  # after which a resumed run goes on; -1: from the start
        say: Callable[[str], object] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrackingError(
                f"--track tensorboard needs TensorBoard ({first_line(error)}): "
                "pip install tensorboard"
            ) from None
        self._path, self._say = Path(folder) / FOLDER, say
        try:
            self._writer = SummaryWriter(str(self._path), purge_step=last_step + 1)
        except OSError as error:
            raise TrackingError(f"{self._path}: not written: {error.strerror or error}") from None

    def log(self, line: dict) -> None:
        """Mirror one line. It is on its way to the disk when this returns, as in metrics.jsonl.

        A full disk ends the mirror, and not the run.
        """
        if self._writer is None:
            return
        try:
            for key, value in line.items():
                if key != "step" and isinstance(value, int | float):
                    self._writer.add_scalar(TAGS.get(key, key), value, line["step"])
            self._writer.flush()
        except OSError as error:
            self._say(f"{self._path}: no more is written: {error.strerror or error}")
            self._writer = None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
