"""Prediction on the machines of a Ray cluster: a pool of actors of Ray Data over the paths of the images.

Actors read, predict and write by themselves, and append to ledger files of their own: only paths and scores pass
through Ray, which repeats what was lost with an actor. The `JobBoard`, an actor too, knows what that was.
"""

import json
import logging
import math
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pyramidseg.backends.factory import EXPORTED, accepted_model
from pyramidseg.base.errors import ConfigError, OutputError, PyramidSegError, import_extra
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.log import ProgressTask, duration, report_progress
from pyramidseg.base.machine import available_processors, keep_freed_memory
from pyramidseg.base.output_lock import is_lock
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.text import first_few, first_line
from pyramidseg.predict.job_board import TRIES, BoardStatus, JobBoard, Watchdog
from pyramidseg.predict.output_folder import LEDGER_FOLDER, OutputFolder, RemoteOutputFolder
from pyramidseg.predict.predict_files import predict_jobs, record
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.resumption import Job, PredictionTask
from pyramidseg.predict.sources import Source

logger = logging.getLogger(__name__)

CPUS_PER_WORKER, MAX_THREADS = 4, 16
"""Threads of a worker without a GPU by default, and the most of any."""


class Workers(NamedTuple):
    """Least and most workers, the threads and GPUs of each, and how many of them share a machine."""

    number: tuple[int, int]
    threads: int
    gpus: float
    a_node: int


def plan_workers(nodes: Sequence[Mapping[str, float]], workers: tuple[int, int] | None, gpus: float) -> Workers:
    """As many workers as were asked for, or fit on machines of so many `CPU` and `GPU`, each with the most threads."""

    def room(threads: int) -> list[int]:
        places = ((node.get("CPU", 0) // threads, node.get("GPU", 0) // gpus if gpus else 1e9) for node in nodes)
        return [int(min(place)) for place in places]

    possible = sum(room(1))
    number = workers or (max(1, possible if gpus else sum(room(CPUS_PER_WORKER))),) * 2
    enough = (n for n in range(MAX_THREADS, 0, -1) if possible and sum(room(n)) >= min(number[1], possible))
    threads = next(enough, 1)
    return Workers(number, threads, gpus, max(1, *room(threads), 1))


@dataclass(frozen=True)
class RayEngine:
    """An `Engine` for `predict_files`, whose predictor has to be made from a file.

    Attributes:
        ray_address: of a cluster, `auto` for that of this machine; None: RAY_ADDRESS, or only this machine.
        workers: least and most; None: one for each GPU, or for four processors.
        gpus_per_worker: None: 1 if there are GPUs and the predictor's device is not the CPU.
        ray_timeout: minutes without any event after which the prediction is ended.

    Raises:
        ConfigError: a number is out of range.
    """

    ray_address: str | None = None
    workers: tuple[int, int] | None = None
    gpus_per_worker: float | None = None
    ray_timeout: float = 30

    def __post_init__(self) -> None:
        gpus = self.gpus_per_worker or 0
        if not (0 <= gpus <= 1 or (1 < gpus < math.inf and gpus == int(gpus))):
            raise ConfigError(f"`gpus_per_worker={gpus:g}`: must be a whole number, or a part of a GPU such as 0.5")
        if not 0 < self.ray_timeout < math.inf:
            raise ConfigError(f"`ray_timeout={self.ray_timeout:g}`: must be minutes, more than 0")

    def __call__(self, predictor: Predictor, jobs: Sequence[Job], task: PredictionTask) -> None:
        """Predict all jobs.

        Raises:
            ConfigError: the model is in memory, no cluster answers at the address, or this machine has no GPU.
            PyramidSegError: of a worker; or none can be started, or nothing has happened for too long.
        """
        files = _model_files(predictor)
        with connect(self.ray_address, processors=(self.workers or [1])[0], purpose="prediction on Ray") as ray:
            data = import_extra("ray.data", extra="ray", purpose="prediction on Ray")
            plan = self._plan(ray, predictor)
            logger.info(f"Ray: up to {plan.number[1]} workers, with {plan.threads} threads and {plan.gpus:g} GPUs each")
            board = ray.remote(num_cpus=0)(JobBoard).remote(len(jobs))
            given = {"files": ray.put(files), "arguments": predictor.arguments, "folder": str(Path.cwd())}
            data.DataContext.get_current().enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
            size = max(1, min(128, len(jobs) // (8 * plan.number[1])))
            rows = [json.dumps([n, job.source.location, job.source.stem, *job[1:]]) for n, job in enumerate(jobs)]
            results = data.from_items(rows, override_num_blocks=-(-len(jobs) // size)).map_batches(
                RayWorker,
                fn_constructor_kwargs={**given, "task": task, "plan": plan, "board": board},
                batch_size=size,
                num_cpus=plan.threads,
                num_gpus=plan.gpus or None,
                compute=data.ActorPoolStrategy(min_size=plan.number[0], max_size=plan.number[1]),
            )
            self._follow(ray, results, board, jobs, plan)
            ray.kill(board)

    def _plan(self, ray: Any, predictor: Predictor) -> Workers:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        found, gpus = sum(node.get("GPU", 0) for node in nodes), self.gpus_per_worker
        if gpus is None:
            gpus = 1 if found and str(predictor.arguments["device"]) != "cpu" else 0
        if found < gpus and not (self.ray_address or os.environ.get("RAY_ADDRESS")):  # clusters may grow
            raise ConfigError(f"`gpus_per_worker={gpus:g}`: this machine has {found:g}; give 0, or a `ray_address`")
        return plan_workers(nodes, self.workers, gpus)

    def _follow(self, ray: Any, results: Any, board: Any, jobs: Sequence[Job], plan: Workers) -> None:
        """Run the prediction in a thread, report its progress, and end it if it hangs."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                list(results.iter_batches(batch_size=None))
            except BaseException as error:
                raised.append(error)

        watchdog, finished = Watchdog(60 * self.ray_timeout), 0
        (thread := threading.Thread(target=run, daemon=True)).start()
        with ProgressTask("predicting", total=len(jobs)) as bar:
            while thread.is_alive():
                thread.join(0.5)
                status: BoardStatus = ray.get(board.status.remote())
                bar.advance(status.finished - finished)
                finished = status.finished
                if status.failure or watchdog.is_hung(status):
                    raise PyramidSegError(status.failure or hang_message(status, jobs, plan, 60 * self.ray_timeout))
        if raised:
            raise raised[0]


@contextmanager
def connect(address: str | None, *, processors: int, purpose: str, logs: bool = False) -> Iterator[Any]:
    """The module of Ray, connected to the cluster at an address, or to one of this machine, unless it is connected.

    Args:
        logs: show what the processes print.

    Raises:
        MissingExtra: Ray is not installed.
        ConfigError: no cluster answers.
    """
    # Or Ray would zip the working folder, and start a cluster to end what a lost one did.
    os.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_ENABLE_AUTO_CONNECT": "0", **os.environ}
    ray = import_extra("ray", extra="ray", purpose=purpose)
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": address or os.environ.get("RAY_ADDRESS") or "local"}
    if options["address"] == "local":
        # Ray's default niceness is 15, with which a busy machine gives no time to the workers.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", **os.environ}
        options |= {"num_cpus": max(available_processors(), processors), "include_dashboard": False}
    try:
        ray.init(log_to_driver=logs, logging_level=logging.CRITICAL, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        advice = "start a cluster with `ray start --head`, or leave the address out to use only this machine"
        raise ConfigError(f"`ray_address={options['address']}`: {first_line(error)}; {advice}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def hang_message(status: BoardStatus, jobs: Sequence[Job], plan: Workers, patience_s: float) -> str:
    """What was in flight when a prediction hung, and what to do."""
    since = f"Ray: nothing has happened for {duration(patience_s)}"
    if not status.workers:
        return f"{since}, and no worker has started: each needs {plan.threads} processors and {plan.gpus:g} GPUs"
    names = first_few(jobs[number].source.location for number in status.in_flight)
    return (
        f"{since}; in flight: {names}; {status.finished} of {len(jobs)} images are done, and the same command goes on "
        "from there: leave out the images in flight, or raise `ray_timeout`"
    )


def _model_files(predictor: Predictor) -> dict[str, bytes]:
    """The content of the model's file by its name, and then of the exports next to it that may be used instead."""
    path = accepted_model(predictor.arguments["model"])
    if not isinstance(path, Path):
        raise ConfigError("Ray: the model is in memory; save it, and give the path of the bundle")
    stems, suffixes = (path.stem, f"{path.stem}-int8"), {*EXPORTED, ".bin"}
    others = [file for file in path.parent.iterdir() if file.stem in stems and file.suffix in suffixes and file != path]
    return {file.name: file.read_bytes() for file in (path, *others)}


class RayWorker:
    """An actor of Ray Data, called with batches of jobs; relative paths start from `folder`."""

    def __init__(
        self, *, files: Any, arguments: Mapping[str, Any], folder: str, task: PredictionTask, plan: Workers, board: Any
    ) -> None:
        self._ray = import_extra("ray", extra="ray", purpose="prediction on Ray")
        self._board, self._task = board, task
        name = self._ray.get_runtime_context().get_actor_id()
        if reason := self._call("start", name):
            raise RuntimeError(reason)
        keep_freed_memory()
        torch.set_num_threads(plan.threads)  # Ray may have given it one
        with suppress(OSError):  # absolute paths do without
            os.chdir(folder)
        try:
            self._predictor = _load(self._ray.get(files), arguments, plan)
            self._folder = join_folder(task.out)
        except Exception as error:
            self._call("explain", first_line(error))
            os._exit(1)  # Ray starts another process, and never again one whose constructor raises
        self._ledger = Ledger(self._folder.folder / LEDGER_FOLDER, publish=self._folder.publish)
        self._call("ready", name)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Predict what is not done; returns names of images, and as a score the share of the most frequent class."""
        rows = map(json.loads, batch["item"])
        jobs = {number: Job(Source(location, stem), *state) for number, location, stem, *state in rows}
        numbers = {job.source.key: number for number, job in jobs.items()}
        done: dict[str, float] = {}
        fresh, alone, given_up = self._call("claim", list(jobs))
        predicted = (
            predict_jobs(
                *(self._predictor, [jobs[number] for number in group], self._folder, self._task),
                begin=lambda job: self._call("begin", numbers[job.source.key]),
            )
            for group in (fresh, *([number] for number in alone))
        )
        entries = chain((_given_up(jobs[number]) for number in given_up), *predicted)
        try:
            with report_progress(lambda _: self._board.touch.remote()):  # of an image in many windows
                for job, entry in record(entries, self._ledger, self._predictor, self._task.digests, self._folder):
                    self._board.finish.remote(numbers[job.source.key])
                    done[job.source.key] = max(entry.get("classes", {}).values(), default=0.0)
            if self._folder.publish:
                self._ledger.close()  # the next batch begins another file
        except PyramidSegError as error:  # such as a full disk
            self._call("fail", str(error))
            raise
        return {"path": [*done], "score": [*done.values()]}

    def _call(self, name: str, argument: object) -> Any:
        return self._ray.get(getattr(self._board, name).remote(argument))


def join_folder(out: str) -> OutputFolder:
    """The output folder, which the command holds locked."""
    if is_url(out):
        return RemoteOutputFolder(out, Path(tempfile.mkdtemp()))
    if not any(is_lock(path) for path in Path(out).glob(".*")):
        raise OutputError(f"{out}: is another folder on {socket.gethostname()}; all machines have to share `out`")
    return OutputFolder(out, Path(out), alone=False)


def _given_up(job: Job) -> tuple[Job, dict[str, Any], dict[str, Any]]:
    where = job.source.location
    return job, {"image": where, "error": f"{where}: given up, as {TRIES} processes ended while they predicted it"}, {}


def _load(files: Mapping[str, bytes], arguments: Mapping[str, Any], plan: Workers) -> Predictor:
    device = str(arguments["device"]).partition(":")[0]  # Ray shows a process only its own GPU
    device = "cpu" if device == "auto" and not plan.gpus else device
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        predictor = Predictor(**{**arguments, "model": Path(folder) / next(iter(files)), "device": device})
    predictor.tile_planner.shared_by = plan.a_node
    return predictor
