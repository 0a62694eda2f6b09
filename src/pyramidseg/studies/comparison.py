"""Comparing encoders, from the dataset to the report: the function behind `pyramidseg compare`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.output_lock import locks_out
from pyramidseg.base.overrides import resolve_config
from pyramidseg.studies.compare_encoders import named_dataset, open_study, run_study
from pyramidseg.studies.compare_report import write_report
from pyramidseg.studies.compare_results import Results, collect


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        verdict: which differences are significant, in sentences.
    """

    folder: Path
    report: Path
    verdict: tuple[str, ...]
    results: Results


@locks_out
def compare_encoders(
    dataset: str | Path,
    encoders: Sequence[str],
    *,
    out: str | Path,
    seeds: int = 1,
    epochs: int | None = None,
    minutes: float | None = None,
    config: Config | str | Path | None = None,
) -> Comparison:
    """Train several encoders with the same budget, and report which differences are significant.

    An interrupted comparison in `out` is continued.

    Args:
        encoders: at least two names, such as `["resnet18", "resnet50"]`.
        seeds: runs of each encoder.
        epochs: budget of each run in epochs; give either this or `minutes`.
        minutes: budget of each run in minutes of training.
        config: settings that all runs share: a `Config`, or a YAML file.

    Raises:
        PyramidSegError: the input cannot be used; nothing has been trained then.
    """
    if isinstance(encoders, str):
        raise ConfigError(f"compare: encoders={encoders!r}: a list of names is needed, such as ['resnet18']")
    folder, source, resolved = Path(out), named_dataset(dataset, command="compare"), resolve_config(config)
    study = open_study(
        source, tuple(encoders), out=folder, seeds=seeds, epochs=epochs, minutes=minutes, config=resolved
    )
    results = collect(run_study(study, folder), study.dataset)
    return Comparison(folder, folder / "report.html", write_report(folder, study, results), results)
