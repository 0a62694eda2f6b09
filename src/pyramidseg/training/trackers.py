"""TensorBoard: every value of metrics.csv as a scalar by epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyramidseg.training.checkpoint import TrainingProgress


class EventLog:
    """Writes TensorBoard events; an inactive one (all ranks but the first) writes nothing."""

    def __init__(self, folder: Path, position: TrainingProgress, *, active: bool) -> None:
        self._writer: Any = None
        if active:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only the first rank needs it

            # Rows that a killed run wrote beyond its last checkpoint are replaced.
            self._writer = SummaryWriter(str(folder), purge_step=position.epoch + 1)

    def row(self, row: Mapping[str, Any]) -> None:
        """One epoch."""
        for name, value in row.items():
            if self._writer is not None and value is not None and name != "epoch":
                self._writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])

    def close(self) -> None:
        """Flush what is left."""
        if self._writer is not None:
            self._writer.close()
