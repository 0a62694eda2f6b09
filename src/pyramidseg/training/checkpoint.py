"""Checkpoints: everything that resuming needs, written atomically, checksummed, the last two kept."""

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyramidseg.base.errors import WeightsError
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.tensor_files import read_metadata, read_verified, write_tensors

if TYPE_CHECKING:
    from pyramidseg.model.classifier import Classifier
    from pyramidseg.model.segmenter import Segmenter

logger = logging.getLogger(__name__)

KIND = "pyramidseg checkpoint"
KEPT = 2


@dataclass(frozen=True)
class Identity:
    """Fingerprints of what a run was started with; a resumed run has to have the same."""

    settings: str
    data: str


@dataclass(frozen=True)
class InitialWeights:
    """What a run began with, as its checkpoints know it: a resumed run needs the starting weights themselves no more.

    Attributes:
        source: of the encoder's weights.
        mean, std: by which the model normalises.
    """

    source: EncoderSource
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, model: "Segmenter | Classifier") -> "InitialWeights":
        """The origin of a model that is trained."""
        return cls(model.encoder_source, tuple(model.mean.tolist()), tuple(model.std.tolist()))

    def give(self, model: "Segmenter | Classifier") -> None:
        """Make it that of a model whose weights are still to come."""
        model.encoder_source = self.source
        model.set_normalization(self.mean, self.std)

    def to_json(self) -> str:
        """As it is stored in checkpoints."""
        return json.dumps({"source": self.source.to_json(), "mean": self.mean, "std": self.std})

    @classmethod
    def from_json(cls, text: str) -> "InitialWeights":
        """Of what `to_json` made."""
        stored = json.loads(text)
        return cls(EncoderSource.from_json(stored["source"]), tuple(stored["mean"]), tuple(stored["std"]))


@dataclass
class TrainingProgress:
    """How far a run has come; all that is not tensors.

    Attributes:
        epoch: the epoch under way, from 0.
        step: the next step of that epoch, from 0.
        updates: optimiser steps that were taken (skipped ones are not).
        skipped: steps whose loss or gradient was not finite, and how many of them came last in a row.
        loss_sum: sum of the step losses of the epoch so far.
        counted: steps in that sum.
        history: rows of metrics.csv.
        best: the best watched value, and the epoch that gave it.
        stopped_early: the watched value has not improved for as long as was asked.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    counted: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = -1
    stopped_early: bool = False


def save_checkpoint(
    folder: Path,
    position: TrainingProgress,
    *,
    steps_done: int,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    tally: Tensor,
    identity: Identity,
    origin: InitialWeights,
    processes: int,
) -> Path:
    """Write `step-N.safetensors`, then delete all but the last two.

    Args:
        processes: how many train; a resumed run has to have as many.
    """
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in average.state_dict().items()}
    tensors |= _optimizer_tensors(optimizer)
    tensors["tally"] = tally
    metadata = {
        "format": KIND,
        **asdict(identity),
        "origin": origin.to_json(),
        "processes": str(processes),
        "position": json.dumps(asdict(position)),
    }
    path = folder / f"step-{steps_done:09d}.safetensors"
    write_tensors(path, tensors, metadata)
    for old in _stored(folder)[:-KEPT]:
        old.unlink()
    return path


def stored_origin(folder: Path) -> InitialWeights | None:
    """What the run of these checkpoints began with; None where none can be read and says so."""
    for path in reversed(_stored(folder)):
        with suppress(WeightsError, KeyError):
            return InitialWeights.from_json(read_metadata(path, kind=KIND)["origin"])
    return None


def load_checkpoint(
    folder: Path, *, identity: Identity, processes: int
) -> tuple[dict[str, Tensor], TrainingProgress] | None:
    """The newest checkpoint that is whole, or None where there is none at all.

    A damaged one is passed over aloud for the one before it.

    Raises:
        WeightsError: checkpoints are there, but none is whole, or they belong to other settings or data, or to another
            number of processes.
    """
    stored = _stored(folder)
    for path in reversed(stored):
        try:
            tensors, metadata = read_verified(path, kind=KIND)
        except WeightsError as error:
            if path != stored[0]:
                logger.warning(f"{error}; the checkpoint before it is used")
            continue
        if metadata["data"] != identity.data:
            raise WeightsError(
                f"{path}: belongs to other data than this run was started with; resume with the same dataset"
            )
        if metadata["settings"] != identity.settings:
            raise WeightsError(
                f"{path}: belongs to other settings than those of config.yaml; undo what was changed there, or start "
                "another run, which weights=RUN/last.safetensors lets go on from this one"
            )
        if metadata["processes"] != str(processes):
            raise WeightsError(
                f"{path}: {metadata['processes']} processes began this run, and {processes} would go on otherwise: "
                f"resume with as many (torchrun --nproc-per-node {metadata['processes']})"
            )
        return tensors, TrainingProgress(**json.loads(metadata["position"]))
    if stored:
        raise WeightsError(f"{folder}: none of its {len(stored)} checkpoints is whole; --overwrite starts anew")
    return None


def restore(
    tensors: dict[str, Tensor], *, model: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> Tensor:
    """Put a checkpoint's tensors back; returns the tally of the epoch under way."""
    model.load_state_dict(_below("model/", tensors))
    if average is not None:
        average.load_state_dict(_below("average/", tensors))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer/", tensors).items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return tensors["tally"]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer/{index}/{key}": value
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def _laid_out_as(parameter: Tensor, stored: Tensor) -> Tensor:
    """A stored moment in its parameter's memory format.

    Files hold tensors in plain order, but the moments of a channels-last weight are channels last, and fused
    optimisers walk through the memory of both side by side.
    """
    return torch.empty_like(parameter).copy_(stored) if stored.shape == parameter.shape else stored


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _stored(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))
