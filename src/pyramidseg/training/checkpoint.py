"""Checkpoints: all state that resuming needs, written atomically with checksums; the last two are kept."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from pyramidseg.base.config import Config
from pyramidseg.base.errors import WeightsError
from pyramidseg.model.tensor_files import read_metadata, read_verified, write_tensors
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import MAY_CHANGE

logger = logging.getLogger(__name__)

KIND = "pyramidseg checkpoint"
KEPT = 2


@dataclass(frozen=True)
class Identity:
    """Fingerprints of settings and data; a resumed run must have the same as when it was started.

    Attributes:
        settings: hash of the settings that the run's config.yaml contains.
        data: hash of the data.
        all_settings: hash of all settings; also accepted, so that a default may be deleted from config.yaml.
    """

    settings: str
    data: str
    all_settings: str | None = None


def run_identity(config: Config, saved: Path, data: str) -> Identity:
    """Identity of a run with the given settings.

    Only settings that the saved config.yaml contains are hashed, so that a setting that was added to pyramidseg later,
    with its default value, does not prevent resuming.

    Args:
        config: the resolved settings.
        saved: the run's config.yaml.
        data: fingerprint of the data.
    """
    tree = config.model_dump(mode="json")
    for name in MAY_CHANGE:
        section, _, key = name.partition(".")
        del tree[section][key]
    content = yaml.safe_load(saved.read_text(encoding="utf-8")) or {}
    in_file = {
        section: {key: value for key, value in settings.items() if key in (content.get(section) or {})}
        for section, settings in tree.items()
        if section in content
    }
    return Identity(_digest(in_file), data, all_settings=_digest(tree))


class CheckpointClock:
    """Decides when a checkpoint is due, by steps or by time, across epochs.

    Args:
        now: monotonic time in seconds.
    """

    def __init__(self, config: Config, now: Callable[[], float] = time.monotonic) -> None:
        self._steps = config.train.checkpoint_steps
        self._seconds = 60 * config.train.checkpoint_minutes
        self._now = now
        self._saved_at = now()

    def is_due(self, steps_done: int) -> bool:
        """Whether a checkpoint is due after so many steps of the run."""
        by_steps = self._steps and steps_done % self._steps == 0
        by_time = self._seconds and self._now() - self._saved_at >= self._seconds
        return bool(by_steps or by_time)

    def restart(self) -> None:
        """Restart the time; called when a checkpoint has been saved."""
        self._saved_at = self._now()


def save_checkpoint(
    folder: Path,
    progress: TrainingProgress,
    *,
    steps_done: int,
    model: nn.Module,
    ema: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    counts: Tensor,
    identity: Identity,
    initial_weights: InitialWeights,
    processes: int,
) -> Path:
    """Write `step-N.safetensors`, then delete all but the last two.

    Args:
        ema: the averaged model.
        counts: of the current epoch, summed over all processes.
        processes: number of training processes; a resumed run must have the same.
    """
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    if ema is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in ema.state_dict().items()}
    tensors |= _optimizer_tensors(optimizer)
    tensors["tally"] = counts
    metadata = {
        "format": KIND,
        "settings": identity.settings,
        "data": identity.data,
        "origin": initial_weights.to_json(),
        "processes": str(processes),
        "position": json.dumps(asdict(progress)),
    }
    path = folder / f"step-{steps_done:09d}.safetensors"
    write_tensors(path, tensors, metadata)
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def stored_initial_weights(folder: Path) -> InitialWeights | None:
    """The initial weights that the newest readable checkpoint records; None if no checkpoint records them."""
    for path in reversed(_checkpoints(folder)):
        with suppress(WeightsError, KeyError):
            return InitialWeights.from_json(read_metadata(path, kind=KIND)["origin"])
    return None


def load_checkpoint(
    folder: Path, *, identity: Identity, processes: int
) -> tuple[dict[str, Tensor], TrainingProgress] | None:
    """Load the newest intact checkpoint; None if there is no checkpoint.

    A damaged checkpoint is skipped with a warning if there is an older one.

    Raises:
        WeightsError: all checkpoints are damaged, or they belong to other settings, other data or another number of
            processes.
    """
    stored = _checkpoints(folder)
    for path in reversed(stored):
        try:
            tensors, metadata = read_verified(path, kind=KIND)
        except WeightsError as error:
            if path != stored[0]:
                logger.warning(f"{error}; using the checkpoint before it")
            continue
        if metadata["data"] != identity.data:
            raise WeightsError(f"{path}: the run was started with other data; resume it with the same dataset")
        if metadata["settings"] not in (identity.settings, identity.all_settings):
            raise WeightsError(
                f"{path}: the run was started with other settings than config.yaml has now; undo the changes there, or "
                "start a new run from its weights with weights=RUN/last.safetensors"
            )
        if metadata["processes"] != str(processes):
            raise WeightsError(
                f"{path}: the run was started with {metadata['processes']} processes and cannot continue with "
                f"{processes}; resume it with the same number (torchrun --nproc-per-node {metadata['processes']})"
            )
        return tensors, TrainingProgress(**json.loads(metadata["position"]))
    if stored:
        raise WeightsError(
            f"{folder}: all {len(stored)} checkpoints are damaged; --overwrite starts again from scratch"
        )
    return None


def restore(
    tensors: dict[str, Tensor], *, model: nn.Module, ema: nn.Module | None, optimizer: torch.optim.Optimizer
) -> Tensor:
    """Restore model, EMA and optimizer from a checkpoint's tensors; returns the counts of the current epoch."""
    model.load_state_dict(_with_prefix("model/", tensors))
    if ema is not None:
        ema.load_state_dict(_with_prefix("average/", tensors))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _with_prefix("optimizer/", tensors).items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = _in_layout_of(parameters[int(index)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return tensors["tally"]


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer/{index}/{key}": value
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def _in_layout_of(parameter: Tensor, stored: Tensor) -> Tensor:
    """A stored optimizer tensor in the memory format of its parameter.

    Files store tensors contiguously, but fused optimizers iterate over a channels-last parameter and its moments in
    memory order.
    """
    return torch.empty_like(parameter).copy_(stored) if stored.shape == parameter.shape else stored


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))
