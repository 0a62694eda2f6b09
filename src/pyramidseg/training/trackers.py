"""Experiment trackers: where the rows of metrics.csv are reported while a run is under way.

A tracker is anything with `log(row)` and `close()`; another one (MLflow, W&B) is one more class like this.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoardTracker:
    """Writes every value as a scalar per epoch.

    Args:
        first_epoch: the first epoch that will be logged (from 1); later rows of a killed run are discarded.
    """

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and needed on the first rank only

        self._writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def log(self, row: Mapping[str, Any]) -> None:
        """Report the values of one epoch, by column of metrics.csv; None where a value does not exist."""
        for name, value in row.items():
            if value is not None and name != "epoch":
                self._writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()
