"""Checkpoints: all state that resuming needs, written atomically with checksums; the last two are kept."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from pyramidseg.base.config import Config
from pyramidseg.base.distributed import rank, sum_over_ranks, world_size
from pyramidseg.base.errors import WeightsError
from pyramidseg.base.stored_json import parse_stored
from pyramidseg.base.version import __version__
from pyramidseg.model.state_dict_check import check_state_dict
from pyramidseg.model.tensor_files import read_metadata, read_verified, write_tensors
from pyramidseg.training.components import TrainingComponents
from pyramidseg.training.finite_checks import require_finite
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.optim import state_keys
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import MAY_CHANGE, RunFolder

logger = logging.getLogger(__name__)

KIND = "pyramidseg checkpoint"
KEPT = 2


@dataclass(frozen=True)
class Identity:
    """Hashes of the settings in the run's config.yaml and of the data, which a resumed run must have unchanged."""

    settings: str
    data: str


def run_identity(config: Config, saved: Path, data: str) -> Identity:
    """Identity of a run with the given resolved settings, and a fingerprint of its data.

    Only settings that the `saved` config.yaml contains are hashed, so that a setting that was added to pyramidseg
    later, with its default value, does not prevent resuming.
    """
    content = yaml.safe_load(saved.read_text(encoding="utf-8")) or {}
    in_file = {
        section: {key: settings[key] for key in content[section] or {} if f"{section}.{key}" not in MAY_CHANGE}
        for section, settings in config.model_dump(mode="json").items()
        if section in content
    }
    return Identity(hashlib.sha256(json.dumps(in_file, sort_keys=True).encode()).hexdigest(), data)


class Checkpoints:
    """Decides when a checkpoint of a run is due, by steps or by time, and saves it.

    Args:
        now: monotonic time in seconds.
    """

    def __init__(
        self, run: RunFolder, identity: Identity, config: Config, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._identity, self._config, self._now = run.checkpoints, identity, config.train, now
        self._saved_at = now()

    def is_due(self, steps_done: int) -> bool:
        """Whether a checkpoint is due after so many steps of the run."""
        steps, seconds = self._config.checkpoint_steps, 60 * self._config.checkpoint_minutes
        is_time = seconds > 0 and self._now() - self._saved_at >= seconds
        return is_time or (steps > 0 and steps_done % steps == 0)

    def save(self, components: TrainingComponents, progress: TrainingProgress, counts: Tensor) -> None:
        """Write `step-N.safetensors`, then delete all but the last two; called on all processes, the first one writes.

        Args:
            counts: of the current epoch and this process.

        Raises:
            TrainingError: the weights are not finite.
        """
        require_finite(components, progress)
        total = sum_over_ranks(counts)
        if rank() == 0:
            tensors = {
                f"{prefix}{name}": tensor
                for prefix, module in _modules(components).items()
                for name, tensor in module.state_dict().items()
            }
            metadata = {
                "format": KIND,
                "settings": self._identity.settings,
                "data": self._identity.data,
                "origin": components.task.initial_weights.to_json(),
                "processes": str(world_size()),
                "position": json.dumps(asdict(progress)),
            }
            steps_done = progress.epoch * components.loader.plan.steps + progress.step
            path = self._folder / f"step-{steps_done:09d}.safetensors"
            write_tensors(path, {**tensors, **_optimizer_tensors(components.optimizer), "tally": total}, metadata)
            for old in _checkpoints(self._folder)[:-KEPT]:
                old.unlink()
        self._saved_at = self._now()


def restore_checkpoint(
    run: RunFolder, components: TrainingComponents, identity: Identity
) -> tuple[TrainingProgress, Tensor]:
    """Restore the newest intact checkpoint, or start from scratch with a message if there is none yet.

    Returns:
        The progress of the run, and the counts of its current epoch and this process.

    Raises:
        WeightsError: see `load_checkpoint`; or the tensors are not those of this model and optimizer.
    """
    found = load_checkpoint(run.checkpoints, identity=identity)
    empty = components.task.empty_counts()
    if found is None:
        logger.info(f"{run.path}: no checkpoint yet; training starts from scratch")
        return TrainingProgress.start(components.task.accelerator.precision), empty
    tensors, progress, path = found
    try:
        counts = _restore(tensors, components)
    except ValueError as error:
        raise unreadable(path, error) from None
    logger.info(f"{run.path}: resumed at epoch {progress.epoch + 1}, step {progress.step}")
    # The stored counts are the sum over all processes: the first one continues them.
    return progress, counts.to(empty.device) if rank() == 0 else empty


def stored_initial_weights(folder: Path) -> InitialWeights | None:
    """The initial weights that the newest readable checkpoint records; None if no checkpoint records them."""
    for path in reversed(_checkpoints(folder)):
        with suppress(WeightsError, KeyError, ValueError):  # those of a checkpoint that is read are checked again
            return InitialWeights.from_json(read_metadata(path, kind=KIND)["origin"])
    return None


def load_checkpoint(folder: Path, *, identity: Identity) -> tuple[dict[str, Tensor], TrainingProgress, Path] | None:
    """Tensors, progress and path of the newest intact checkpoint; None if there is no checkpoint.

    A damaged checkpoint is skipped with a warning if there is an older one.

    Raises:
        WeightsError: all checkpoints are damaged, this version cannot read one, or they belong to other settings, other
            data or another number of processes.
    """
    stored = _checkpoints(folder)
    for path in reversed(stored):
        try:
            tensors, metadata = read_verified(path, kind=KIND)
        except WeightsError as error:
            if path != stored[0]:
                logger.warning(f"{error}; using the checkpoint before it")
            continue
        progress = _parse_metadata(path, metadata)
        if metadata["data"] != identity.data:
            raise WeightsError(f"{path}: the run was started with other data; resume it with the same dataset")
        if metadata["settings"] != identity.settings:
            raise WeightsError(
                f"{path}: the run was started with other settings than config.yaml has now; undo the changes there, or "
                "start a new run from its weights with `weights=RUN/last.safetensors`"
            )
        if metadata["processes"] != str(world_size()):
            raise WeightsError(
                f"{path}: the run was started with {metadata['processes']} processes and cannot continue with "
                f"{world_size()}; resume it with the same number (torchrun --nproc-per-node {metadata['processes']})"
            )
        return tensors, progress, path
    if stored:
        raise WeightsError(
            f"{folder}: all {len(stored)} checkpoints are damaged; `overwrite=True` starts again from scratch"
        )
    return None


def _parse_metadata(path: Path, metadata: Mapping[str, str]) -> TrainingProgress:
    """The state of the run in a checkpoint's metadata.

    Raises:
        WeightsError: this version cannot read the metadata.
    """
    try:
        if missing := {"settings", "data", "processes"} - metadata.keys():
            raise ValueError(f"no {', '.join(sorted(missing))}")
        if "origin" in metadata:
            InitialWeights.from_json(metadata["origin"])
        progress = parse_stored(TrainingProgress, metadata["position"])
        progress.check()
    except (KeyError, ValueError) as error:
        raise unreadable(path, error) from None
    return progress


def unreadable(path: Path, reason: Exception | str) -> WeightsError:
    """The error for an intact checkpoint whose content this version cannot use."""
    return WeightsError(
        f"{path}: a checkpoint that this version ({__version__}) cannot read: {' '.join(str(reason).split())[:300]}; "
        "resume it with the version that wrote it, or `overwrite=True` starts again from scratch"
    )


def _restore(tensors: Mapping[str, Tensor], components: TrainingComponents) -> Tensor:
    """Restore model, EMA and optimizer from a checkpoint's tensors, all or nothing; returns the epoch's counts.

    Raises:
        ValueError: the tensors are not those of this model and optimizer.
    """
    modules, optimizer, counts = _modules(components), components.optimizer, components.task.empty_counts()
    for prefix, module in modules.items():
        check_state_dict(module.state_dict(), _with_prefix(prefix, tensors), what=prefix.removesuffix("/"))
    state = _optimizer_state(_with_prefix("optimizer/", tensors), optimizer)
    tally = tensors.get("tally", torch.empty(0))
    if (tally.shape, tally.dtype) != (counts.shape, counts.dtype) or tally.min() < 0:
        raise ValueError(f"counts {list(tally.shape)} of {tally.dtype} instead of {list(counts.shape)}, or negative")
    for prefix, module in modules.items():
        module.load_state_dict(_with_prefix(prefix, tensors))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return tally


def _modules(components: TrainingComponents) -> dict[str, nn.Module]:
    """The model, and the EMA if it is on, by the prefix of their tensors' names in a checkpoint."""
    averaged = {"average/": components.ema.model} if components.ema else {}
    return {"model/": components.model, **averaged}


def _optimizer_state(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The stored state by the number of the parameter.

    Raises:
        ValueError: it is of other parameters, or not of the optimizer's kind.
    """
    parameters = [
        (parameter, state_keys(optimizer, group)) for group in optimizer.param_groups for parameter in group["params"]
    ]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise ValueError(f"optimizer/{name}: the optimizer has {len(parameters)} parameters")
        parameter, _ = parameters[int(index)]
        shape = torch.Size() if key == "step" else parameter.shape
        if not tensor.is_floating_point() or tensor.shape != shape:
            raise ValueError(f"optimizer/{name}: {list(tensor.shape)} of {tensor.dtype} instead of {list(shape)}")
        if not tensor.isfinite().all() or (key in ("step", "exp_avg_sq") and tensor.min() < 0):
            raise ValueError(f"optimizer/{name}: holds values that are not finite, or negative")
        # Files store tensors contiguously, but fused optimizers iterate over a channels-last parameter and its moments
        # in memory order.
        same_layout = tensor if key == "step" else torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[key] = same_layout
    for number, own in state.items():
        if own.keys() != (expected := parameters[number][1]):
            raise ValueError(f"optimizer/{number}: {sorted(own)} instead of {sorted(expected)}")
    return state


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer/{index}/{key}": value
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))
