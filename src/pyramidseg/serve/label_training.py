"""Training again when people have labelled more, in a subprocess; the new bundle is served if it is not worse.

`state.json`, in a folder that the user names, has all that a restart needs. Each training has a folder `round_N` next
to it; one runs at a time, and is continued after a restart. It fetches the annotated tasks of all projects with their
images, stores them as masks of the served bundle's classes, and starts from that bundle. Every fifth task is held out,
by its number, so that no round trains on it; both bundles are compared there.
"""

import asyncio
import json
import logging
import os
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.config import Config, DataConfig
from pyramidseg.base.errors import ConfigError, OutputError, PyramidSegError
from pyramidseg.base.files import file_sha256, make_folder, write_bytes, write_json, write_text
from pyramidseg.base.log import configure_logging
from pyramidseg.base.overrides import load_config
from pyramidseg.base.stored_json import parse_stored
from pyramidseg.base.text import show
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.paired_writer import MASKS, png
from pyramidseg.model.bundle import read_description
from pyramidseg.serve.label_studio_backend import ADDED, START, LabelEvent, read_controls
from pyramidseg.serve.label_studio_images import LabelStudioImages
from pyramidseg.serve.limits import Limits, Refused
from pyramidseg.serve.service import Service
from pyramidseg.studies.bootstrap import compare_pairs, miou
from pyramidseg.studies.compare_results import score_by_image
from pyramidseg.training.segmentation_training import train_segmentation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingState:
    """The content of `state.json`.

    Attributes:
        given: SHA-256 of the bundle that the server was started with; `bundle` is the one that is served.
        round: number of trainings that have begun; `running` is whether the last one has not ended.
        annotations: that are new since it began, and all `projects`, by Label Studio's numbers.
    """

    given: str
    bundle: str
    round: int = 0
    running: bool = False
    projects: tuple[int, ...] = ()
    annotations: tuple[int, ...] = ()


class LabelTraining:
    """Counts annotations, and trains when there are `after` new ones.

    Args:
        model: the bundle that the server was started with. If the folder was begun with it, the bundle that a training
            has replaced it by is served.
    """

    def __init__(self, folder: Path, *, after: int, model: str) -> None:
        self.folder, self.after, self._wanted = folder, after, asyncio.Event()
        file, given = folder / "state.json", file_sha256(Path(model))
        self.state = TrainingState(given, model)
        try:
            if file.exists():
                self.state = parse_stored(TrainingState, file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read ({error}); choose another `train_in`") from None
        if self.state.given != given or not Path(self.state.bundle).is_file():
            self.state = replace(self.state, given=given, bundle=model, running=False)
        if self.state.bundle != model:
            logger.info(f"{folder}: {self.state.bundle} has replaced {model}, and is served")
        make_folder(folder)
        write_json(file, asdict(self.state))
        self._change()

    def _change(self, **values: Any) -> None:
        self.state = replace(self.state, **values)
        try:
            write_json(self.folder / "state.json", asdict(self.state))
        except OutputError as error:  # a full disk: counting and training go on
            logger.error(f"{error}; a restart would not know of the latest annotations")
        if len(self.state.annotations) >= self.after:
            self._wanted.set()

    def receive(self, event: LabelEvent) -> None:
        """Count annotations that were made or changed, each once until the next training, or begin it."""
        new, projects = set(self.state.annotations), {*self.state.projects, event.project.id or 0} - {0}
        new = new | event.ids() if event.action in ADDED else new - event.ids()
        self._change(annotations=(*sorted(new),), projects=(*sorted(projects),))
        if event.action == START:
            self._wanted.set()

    async def run(self, service: Service, name: str) -> None:
        """Train whenever it is wanted, for ever; one that the server before began is continued first."""
        while True:
            if not self.state.running:
                await self._wanted.wait()
                self._wanted.clear()
                self._change(round=self.state.round + 1, running=True, annotations=())
            served = self.state.bundle
            try:
                verdict = await self._train(self.folder / f"round_{self.state.round}")
                if verdict["accepted"]:
                    await service.reload(name, verdict["bundle"])
                    served = verdict["bundle"]
                logger.info(f"training {self.state.round}: {verdict['reason']}")
            except Exception as error:  # so that the next one begins
                message = f"training {self.state.round}: {error}; {served} stays"
                logger.error(message, exc_info=not isinstance(error, PyramidSegError))
            self._change(running=False, bundle=served)

    async def _train(self, place: Path) -> dict[str, Any]:
        """The verdict of the subprocess, which ends when this process does: its standard input is closed then."""
        make_folder(place)
        messages = place / "log.txt"
        logger.info(f"training {self.state.round}: begins; {messages} has its messages")
        command = (sys.executable, "-m", "pyramidseg.serve.label_training", place, self.state.bundle)
        projects = map(str, self.state.projects)
        with messages.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, *projects, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
            )
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
        if status:
            last = messages.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[2]
            raise ConfigError(f"status {status}: {last[:500]} ({messages})")
        verdict: dict[str, Any] = json.loads((place / "verdict.json").read_text(encoding="utf-8"))
        return verdict


def train_round(place: Path, served: str, projects: list[str]) -> int:
    """What the subprocess does: fetch, train, compare, write the verdict. Returns the exit status."""
    configure_logging()
    try:
        file = place.parent / "config.yaml"
        config = load_config(file if file.is_file() else None, {"model.weights": served})
        if not (place / "data" / "dataset.yaml").is_file():
            fetch_annotations(place / "data", projects, read_description(served).classes, config.data.annotator)
        data = config.data.model_copy(update={"annotator": None})
        write_json(place / "verdict.json", train_and_compare(config.model_copy(update={"data": data}), place, served))
    except (PyramidSegError, Refused) as error:
        show(f"error: {error.message if isinstance(error, Refused) else error}")
        return 2
    return 0


def train_and_compare(config: Config, place: Path, served: str) -> dict[str, Any]:
    """The verdict on the last bundle of a run that starts from the one that is served.

    It is accepted if its mIoU on the validation split is at least as high, or lower by no more than noise: the interval
    of the difference includes 0 and is narrow (`Difference.is_equivalent`).
    """
    run = train_segmentation(config, place / "data", out=place / "run", resume=True, overwrite=False)
    dataset = open_dataset(place / "data", config.data)
    bundles = {"new": run.last, "served": Path(served)}
    counts = {name: [score_by_image(path, dataset, config.train.device)] for name, path in bundles.items()}
    (difference,) = compare_pairs(counts)
    scores = {name: float(miou(runs[0].sum(axis=0))) for name, runs in counts.items()}
    accepted = difference.first == "new" or difference.is_equivalent
    reason = (
        f"mIoU {scores['new']:.4f}, that of the served bundle {scores['served']:.4f}, on {len(counts['new'][0])} "
        f"held-out images; 95 % interval of the difference {difference.low:.4f} to {difference.high:.4f}: "
        f"{'served from now on' if accepted else 'not served'}"
    )
    return {"bundle": str(run.last), "accepted": accepted, "reason": reason, "miou": scores} | asdict(difference)


def fetch_annotations(data: Path, projects: list[str], classes: Classes, annotator: str | None) -> None:
    """Write images and masks; `dataset.yaml` comes last. Pixels without a class are ignored.

    Raises:
        Refused: something cannot be fetched.
        PyramidSegError: the annotations cannot be read, or a label stands for several classes.
    """
    url, key = (os.environ.get(f"LABEL_STUDIO_{name}", "") for name in ("URL", "API_KEY"))
    studio = LabelStudioImages(url, key, Limits(max_body_mb=2048, body_timeout_s=600))
    splits: dict[str, list[Any]] = {"train": [], "val": []}
    class_of = {"background": "background"}
    for project in projects:
        controls = read_controls(json.loads(studio.fetch(f"/api/projects/{project}"))["label_config"], classes)
        for index, label in (pair for control in controls for pair in control.labels.items()):
            if (first := class_of.setdefault(label, classes.names[index])) != classes.names[index]:
                both = f"{first} and {classes.names[index]}"
                raise ConfigError(f"label {label!r} stands for {both}: give each class a label of its own")
        for task in json.loads(studio.fetch(f"/api/projects/{project}/export?exportType=JSON")):
            split, place = "train" if task["id"] % 5 else "val", str(task["data"].get(controls[0].key, ""))
            name = f"images/{task['id']}{PurePosixPath(unquote(place)).suffix}"
            make_folder(data / split / "images")
            write_bytes(data / split / name, studio.fetch(place))
            splits[split].append({"id": task["id"], "data": {"image": name}, "annotations": task["annotations"]})
    for split in filter(splits.get, splits):
        write_text(data / split / "export.json", json.dumps(splits[split]))
    found = open_dataset(data, DataConfig(format="label_studio", annotator=annotator))
    ids = {name: index for index, name in enumerate(classes.names)}
    table = np.full(256, IGNORE, np.uint8)
    table[: len(found.classes)] = [ids.get(class_of.get(label, ""), IGNORE) for label in found.classes.names]
    for record in (record for records in found.splits.values() for record in records):
        masks = record.image.parents[1] / "masks"
        make_folder(masks)
        write_bytes(masks / f"{record.image.stem}.png", png(table[read_labels(record, found.masks)]))
    for path, content in MASKS.assemble({}, classes):
        write_bytes(data / path, b"".join(content))


if __name__ == "__main__":
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(130)), daemon=True).start()
    sys.exit(train_round(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
