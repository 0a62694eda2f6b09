"""ray-train: train in several processes on a Ray cluster, as torchrun does, and start again where one is lost."""

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from pyramidseg.base.errors import ConfigError, PyramidSegError, import_extra
from pyramidseg.cli import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    train.add_arguments(parser)
    for action in parser._actions:
        if action.dest in ("overwrite", "folds", "auto", "minutes"):  # refused, with a line that says so
            action.help = argparse.SUPPRESS
    add("--processes", type=int, required=True, metavar="N", help="number of processes, whose batches form one step")
    add("--threads", type=int, default=1, metavar="N", help="processors of each process")
    add("--ray-address", metavar="ADDRESS", help="of a cluster: auto, HOST:PORT (default: this machine)")
    add("--max-failures", type=int, default=3, metavar="N", help="how often all processes start again")


def run(arguments: argparse.Namespace) -> int:
    """Check everything here, then train there; a lost process costs the steps since the last checkpoint."""
    given = vars(arguments)
    if arguments.overwrite or arguments.folds is not None or arguments.auto or arguments.out is None:
        raise ConfigError("ray-train: needs --out, and takes no --overwrite, --folds or --auto; train has these")
    if min(arguments.processes, arguments.threads) < 1:
        raise ConfigError("ray-train: --processes and --threads must be at least 1")
    train.run(argparse.Namespace(**{**given, "dry_run": True}))
    if arguments.dry_run:
        return 0
    from pyramidseg.predict.ray_engine import connect

    logs = Path(arguments.out).absolute().parent / f".ray-{Path(arguments.out).name}"
    processors = arguments.processes * arguments.threads
    with connect(arguments.ray_address, processors=processors, purpose="ray-train", logs=True) as ray:
        trainer = import_extra("ray.train.torch", extra="ray", purpose="ray-train").TorchTrainer(
            _train,
            train_loop_config={**given, "resume": True, "folder": str(Path.cwd())},
            scaling_config=ray.train.ScalingConfig(
                num_workers=arguments.processes,
                use_gpu=given["train.device"] != "cpu" and ray.cluster_resources().get("GPU", 0) > 0,
                resources_per_worker={"CPU": arguments.threads},
            ),
            run_config=ray.train.RunConfig(
                name="run",
                storage_path=str(logs),
                failure_config=ray.train.FailureConfig(max_failures=arguments.max_failures),
            ),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {}).values()
            causes = [getattr(failure, "_base_exc", failure) for failure in failures]
            raise next((cause for cause in causes if isinstance(cause, PyramidSegError)), error) from None
        finally:
            shutil.rmtree(logs, ignore_errors=True)
    return 0


def _train(given: dict[str, Any]) -> None:
    """One process; Ray Train has set its rank and formed the group."""
    import torch

    from pyramidseg.base.log import configure_logging

    os.chdir(given["folder"])
    torch.set_num_threads(given["threads"])
    configure_logging()
    train.run(argparse.Namespace(**given))
