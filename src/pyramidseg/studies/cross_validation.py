"""Cross-validation: a model for each part of the data, scored on that part, and one of all data.

OUT/fold1 to OUT/foldK and OUT/all are ordinary runs; OUT/folds.json has the scores, OUT/folds.yaml the settings.
"""

import json
import logging
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from pyramidseg.base.config import Config, DataConfig, LabelConfig
from pyramidseg.base.errors import ConfigError, DataError, OutputError
from pyramidseg.base.files import write_json, write_text
from pyramidseg.base.overrides import given_settings, load_config, resolve_config
from pyramidseg.base.text import first_line
from pyramidseg.data.records import Dataset, DatasetSource
from pyramidseg.evaluation.metrics import Metrics
from pyramidseg.evaluation.scoring import evaluate
from pyramidseg.formats.dataset_statements import read_statements, source_statements
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.splitting import in_folds
from pyramidseg.training.loop import Run
from pyramidseg.training.run_folder import MAY_CHANGE
from pyramidseg.training.segmentation_training import train_segmentation

logger = logging.getLogger(__name__)

RESULT, PLAN = "folds.json", "folds.yaml"

METRICS = {
    "mIoU": "miou",
    "pixel accuracy": "pixel_accuracy",
    "mean class accuracy": "mean_class_accuracy",
    "mean Dice": "mean_dice",
}
CLASS_METRICS = {"IoU": "iou", "Dice": "dice", "precision": "precision", "recall": "recall"}
"""Fields of `Metrics` and `ClassMetrics` by the name that they are shown with."""


@dataclass(frozen=True)
class CrossValidation:
    """Result of `cross_validate`.

    Attributes:
        runs: one for each fold.
        scores: of the last epoch of each, on the images that it was not trained on.
        final: the run on all images. Its own validation scores are of images that it was trained on.
        file: with all scores.
    """

    runs: tuple[Run, ...]
    scores: tuple[Metrics, ...]
    final: Run
    file: Path

    def spread(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the folds, by metric, also of each class; of the folds that show it."""
        values = {name: [getattr(scores, key) for scores in self.scores] for name, key in METRICS.items()}
        for of_class in zip(*(scores.classes for scores in self.scores), strict=True):
            for name, key in CLASS_METRICS.items():
                values[f"{name} of {of_class[0].name}"] = [getattr(entry, key) for entry in of_class]
        known = {name: [value for value in found if value == value] for name, found in values.items()}
        deviation = {name: statistics.stdev(found) if len(found) > 1 else 0.0 for name, found in known.items()}
        return {name: (statistics.fmean(found), deviation[name]) for name, found in known.items() if found}

    def table(self) -> str:
        """As text for a terminal; of each class only its IoU."""
        hidden = tuple(f"{name} of " for name in CLASS_METRICS if name != "IoU")
        shown = {name: values for name, values in self.spread().items() if not name.startswith(hidden)}
        width = max(map(len, shown))
        return "\n".join(f"{name:<{width}}  {mean:.4f} +- {spread:.4f}" for name, (mean, spread) in shown.items())


def cross_validate(
    dataset: DatasetSource,
    *,
    out: str | Path,
    folds: int = 5,
    config: Config | str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> CrossValidation:
    """Train on all folds but one, score on that one, for each; then train on all images.

    The images are those of `train` and `val`; a split `test` is left alone. Images of one sequence (`data.group`) stay
    in one fold. Scores are those of the last epoch, since the best one would be chosen on the images of the score.

    Args:
        out: folder of the runs and of folds.json.
        config: a `Config`, or a YAML file of settings.
        resume: continue runs, and begin those that are missing.

    Raises:
        ConfigError: fewer than two folds, or a setting that the folds replace.
        OutputError: `out` exists, without `resume` or `overwrite`.
        DataError: there are fewer images than folds, or what `train` refuses.
    """
    config, folder = resolve_config(config), Path(out)
    if folds < 2:
        raise ConfigError(f"`folds={folds}`: at least 2 are needed")
    if folder.exists() and any(folder.iterdir()) and not (resume or overwrite):
        raise OutputError(f"{folder}: exists already; `resume=True` continues it, `overwrite=True` discards its runs")
    if resume and (folder / PLAN).is_file():
        config = continued_settings(folder / PLAN, config, {"folds": folds})
    if config.data.val_share is not None:
        raise ConfigError(f"data.val_share={config.data.val_share}: the folds are the validation splits; leave it out")
    stated: LabelConfig = config.data
    if not isinstance(dataset, Dataset):
        named = read_statements(dataset, config.data)
        stated = named.config
        sources = source_statements(named, config.data.model_copy(update={"group": None}))
        for each in (named, *sources):
            if each.config.group and each is not named:
                raise ConfigError(f"{each.source}: group: has no effect with `folds`; state data.group")
            if (share := each.config.val_share) is not None:
                logger.info(f"{each.source}: val_share={share}: not used, as the folds are the validation splits")
    if config.train.patience:
        raise ConfigError(
            f"train.patience={config.train.patience}: would choose an epoch by the images of the score; leave it out"
        )
    if stated.window and stated.group is None:
        raise ConfigError("`folds`: neighbouring windows (data.window) leak; keep scenes whole: data.group='^[^#]+'")
    if stated.window and stated.window_gap:
        raise ConfigError(f"`folds`: data.window_gap={stated.window_gap} has no effect between folds; leave it out")
    whole = {"window_gap": 0} if stated.window else {}
    opened = open_dataset(dataset, config.data.model_copy(update={"group": None, **whole}))
    records = (*opened.splits.get("train", ()), *opened.splits.get("val", ()))
    ids = Counter(record.id for record in records)
    if twice := [id for id, number in ids.items() if number > 1]:
        raise DataError(f"{opened.source}: train and val both have an image {twice[0]}; give one of them another name")
    parts = in_folds(records, folds, group=stated.group, source=opened.source)
    sizes = ", ".join(str(len(part)) for part in parts)
    logger.info(f"{opened.source}: {len(records)} images of train and val in {folds} folds of {sizes}")
    of_fold = settings_once_opened(config)

    if overwrite:
        (folder / RESULT).unlink(missing_ok=True)
    surplus = [path for path in folder.glob("fold[0-9]*") if path.is_dir() and int(path.name[4:] or 0) > folds]
    if surplus:
        raise OutputError(f"{surplus[0]}: is of more folds; delete it, or choose another `out`")
    write_plan(folder / PLAN, config, {"folds": folds})

    def run(name: str, splits: Mapping[str, Any], settings: Config, *notes: str) -> tuple[Run, Dataset]:
        target = folder / name
        logger.info(f"{name}: {len(splits['train'])} images for training, {len(splits['val'])} for validation")
        kept = {**opened.splits, **splits}  # of test only the copies among unlabelled images are looked for
        divided = replace(opened, splits=kept, description={}, notes=notes)
        again = resume and target.exists()
        return train_segmentation(settings, divided, out=target, resume=again, overwrite=overwrite), divided

    runs, scores = [], []
    for number, part in enumerate(parts, start=1):
        held = set(part)
        rest = tuple(record for record in records if record not in held)
        trained, divided = run(f"fold{number}", {"train": rest, "val": part}, of_fold)
        runs.append(trained)
        scores.append(evaluate(trained.last, divided, device=config.train.device).metrics)
        logger.info(f"fold{number}: mIoU {scores[-1].miou:.4f}")
    leaking = of_fold.model_copy(update={"data": of_fold.data.model_copy(update={"allow_leak": True})})
    note = f"val is part of train: {RESULT} has the scores on images that a model was not trained on"
    final, _ = run("all", {"train": records, "val": parts[0]}, leaking, note)
    found = CrossValidation(tuple(runs), tuple(scores), final, folder / RESULT)
    spread = {name: {"mean": mean, "deviation": deviation} for name, (mean, deviation) in found.spread().items()}
    write_json(found.file, {"folds": [metrics.to_dict() for metrics in scores], "over folds": spread})
    return found


def write_plan(file: Path, config: Config, study: Mapping[str, Any]) -> None:
    """Store the arguments of a study and its settings, for `continued_settings`."""
    write_text(file, yaml.safe_dump({**study, "settings": plain_settings(config)}, sort_keys=False))


def read_plan(file: Path, *names: str) -> dict[str, Any]:
    """What `write_plan` stored: arguments of these names, and `settings`."""
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
        return {**{name: stored[name] for name in names}, "settings": {**stored["settings"]}}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise OutputError(f"{file}: cannot be read ({first_line(error)}); choose another `out`") from None


def continued_settings(file: Path, config: Config, study: Mapping[str, Any]) -> Config:
    """The settings of the first call, with those given now; these and the arguments agree, or are more `seeds`.

    Raises:
        ConfigError: one differs, and would change the result.
    """
    stored = read_plan(file, *study)
    before = {**stored, **stored["settings"]}
    for name, value in {**study, **plain_settings(config)}.items():
        more_seeds = name == "seeds" and value > before[name]
        if before.get(name) != value and name not in MAY_CHANGE and not more_seeds:
            was = f"{name} was {before.get(name)!r} and is {value!r} now"
            more = ", or more seeds" if "seeds" in study else ""
            raise ConfigError(f"{file}: {was}; give the same arguments{more}, or another `out`")
    return load_config(None, {**stored["settings"], **given_settings(config)})


def settings_once_opened(config: Config) -> Config:
    """The settings without those of reading: how masks are read is part of an opened dataset."""
    reading = {"format", "classes", *LabelConfig.model_fields}
    own = {name: value for name, value in config.data if name in config.data.model_fields_set - reading}
    return config.model_copy(update={"data": DataConfig.model_validate(own)})


def plain_settings(config: Config) -> dict[str, Any]:
    """The given settings by name, as JSON has them."""
    plain: dict[str, Any] = json.loads(json.dumps(given_settings(config)))
    return plain
