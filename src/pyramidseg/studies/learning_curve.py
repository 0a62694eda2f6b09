"""What more labels are worth: equal runs on 10, 25, 50 and 100 % of the labels.

OUT/curve.yaml has the study, OUT/runs/NUMBER-seedS an ordinary run each, OUT/curve.json the results.
"""

import logging
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import Config
from pyramidseg.base.errors import DataError
from pyramidseg.base.files import write_json, write_text
from pyramidseg.base.output_lock import locks_out
from pyramidseg.base.overrides import given_settings, load_config, resolve_config
from pyramidseg.base.seeds import position_seed
from pyramidseg.data.records import Dataset, MaskSource, Record
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.report.figures import BLUE, ORANGE, STYLE, new_figure, render_figure
from pyramidseg.report.page import PageFigure, render_page, svg_uri
from pyramidseg.studies.bootstrap import ROUNDING, Counts, miou, percentile_interval, resample
from pyramidseg.studies.compare_encoders import (
    affordable_epochs,
    check_budget,
    named_dataset,
    refuse_occupied,
    refuse_study_settings,
    resumed_run,
)
from pyramidseg.studies.compare_report import caveats
from pyramidseg.studies.compare_results import score_by_image
from pyramidseg.studies.cross_validation import continued_settings, settings_once_opened, write_plan

logger = logging.getLogger(__name__)

SHARES, NEXT, PLAN = (0.1, 0.25, 0.5, 1.0), 100, "curve.yaml"


@dataclass(frozen=True)
class Repeated:
    """The masks of records whose ids end in `#` and a number, so that an image can be listed several times."""

    masks: MaskSource

    def read(self, record: Record) -> NDArray[np.uint8]:
        """The labels (H, W)."""
        return self.masks.read(replace(record, id=record.id.rpartition("#")[0]))


@dataclass(frozen=True)
class LabelCurve:
    """Result of `label_curve`; values are mean IoU, and each is followed by the ends of its interval.

    Attributes:
        points: number of labels, and the value.
        more: `NEXT`, or as many labels as there are: no estimate beyond twice the labels.
        next_labels: what so many more labels add if each doubling adds as much as the last one.
    """

    report: Path
    points: tuple[tuple[int, float, float, float], ...]
    more: int
    next_labels: tuple[float, float, float]
    verdict: tuple[str, ...]


@locks_out
def label_curve(
    dataset: str | Path,
    *,
    out: str | Path,
    seeds: int = 1,
    epochs: int | None = None,
    minutes: float | None = None,
    config: Config | str | Path | None = None,
) -> LabelCurve:
    """Train on parts of the labels with equal steps; an interrupted study in `out` is continued, also with more seeds.

    Each part contains the smaller ones; every seed draws other parts.

    Args:
        epochs: budget of each run, in epochs of all labels; give either this or `minutes`.
        minutes: budget of each run in minutes of training.
        config: settings that all runs share: a `Config`, or a YAML file.

    Raises:
        PyramidSegError: the input cannot be used.
    """
    config, folder, source = resolve_config(config), Path(out), named_dataset(dataset, command="curve")
    check_budget("curve", seeds, epochs, minutes)
    refuse_study_settings(config, {"train.epochs", "train.seed", "train.patience"}, command="curve", study="curve")
    study = {"dataset": source, "seeds": seeds, "epochs": epochs, "minutes": minutes}
    opened = open_dataset(dataset, config.data)
    records, val = opened.split("train"), opened.split("val")
    if len(records) < 1 / SHARES[0]:
        raise DataError(f"{opened.source}: {len(records)} training images are too few to train on a tenth of them")
    if (folder / PLAN).is_file():
        config = continued_settings(folder / PLAN, config, study)
    else:
        refuse_occupied(folder, "a curve")
        given = given_settings(config)
        count = epochs or affordable_epochs(given, minutes or 0, source, command="curve")
        config = load_config(None, given | {"train.epochs": count})
    write_plan(folder / PLAN, config, study)
    counts: dict[int, list[Counts]] = {round(share * len(records)): [] for share in SHARES}
    for seed in range(seeds):
        order = _drawn(opened, seed, smallest=min(counts))
        for size in counts:
            logger.info(f"{size} of {len(records)} labels, seed {seed}")
            train = (replace(order[at % size], id=f"{order[at % size].id}#{at // size}") for at in range(len(records)))
            others = {name: tuple(replace(it, id=f"{it.id}#") for it in opened.splits[name]) for name in opened.splits}
            splits = {**others, "train": tuple(train)}
            divided = replace(opened, splits=splits, masks=Repeated(opened.masks), description={})
            settings = load_config(None, given_settings(settings_once_opened(config)) | {"train.seed": seed})
            run = resumed_run(settings, divided, folder / "runs" / f"{size}-seed{seed}")
            counts[size].append(score_by_image(run.last, opened, config.train.device))
    curve = _evaluated(counts, folder / "report.html")
    write_json(folder / "curve.json", {**asdict(curve), "report": curve.report.name})
    page = render_page(
        "studies/curve_report.html.j2",
        title=f"What labels are worth on {Path(dataset).name}",
        curve=curve,
        figure=PageFigure(svg_uri(curve_figure(curve)), "Mean IoU by number of labels", "Bars are 95 % intervals."),
        **{"facts": {**study, "validation images": len(val)}, "notes": (), "settings": {}},
    )
    write_text(curve.report, page)
    return curve


def _drawn(opened: Dataset, seed: int, *, smallest: int) -> list[Record]:
    """The training images in random order, in which the `smallest` first ones show two classes, too."""
    order = sorted(opened.split("train"), key=lambda record: position_seed("label curve", seed, record.id))
    seen: set[int] = set()
    first: list[Record] = []
    for place, record in enumerate(order):
        own = {*np.unique(opened.masks.read(record)).tolist()} - {IGNORE}
        seen |= own
        if len(seen) > 1 and (len(own) > 1 or smallest > 1):
            front = [] if place < smallest else [*first[: smallest - 1], record]
            return [*front, *(other for other in order if other not in front)]
        first = first or [record] * bool(own)
    return order


def _evaluated(counts: dict[int, list[Counts]], report: Path) -> LabelCurve:
    drawn, (half, labels) = resample(counts), list(counts)[-2:]
    means = {size: float(np.mean([miou(run.sum(axis=0)) for run in runs])) for size, runs in counts.items()}
    mean, low, high = means[labels] - means[half], *percentile_interval(drawn[labels] - drawn[half])
    more = min(NEXT, labels)
    doublings = math.log((labels + more) / labels) / math.log(labels / half)
    worth = (doublings * mean, doublings * low, doublings * high)
    shown = low > 0 and high - low > ROUNDING
    verdict = (
        f"With {labels} labels mean IoU is {means[labels]:.3f}, with {half} of them {means[half]:.3f}: "
        f"{100 * abs(mean):.1f} points {'more' if mean >= 0 else 'less'} "
        f"(95 % interval of the gain {100 * low:.1f} to {100 * high:.1f}).",
        f"If each doubling adds as much, the next {more} labels are worth {100 * worth[0]:.1f} points "
        f"({100 * worth[1]:.1f} to {100 * worth[2]:.1f}){'.' if shown else ': not shown to be more than nothing.'}",
        *caveats(len(counts[labels]))[::2],
    )
    points = tuple((size, means[size], *percentile_interval(drawn[size])) for size in counts)
    return LabelCurve(report, points, more, worth, verdict)


def curve_figure(curve: LabelCurve) -> bytes:
    """Plot of mean IoU by number of labels, and of what the next ones may add."""
    sizes, means, lows, highs = (np.array(column) for column in zip(*curve.points, strict=True))
    ahead = [sizes[-1], sizes[-1] + curve.more]
    added, low, high = (means[-1] + np.array([0, value]) for value in curve.next_labels)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8, 4)
        axes = figure.subplots()
        spread = np.maximum([means - lows, highs - means], 0)
        axes.errorbar(sizes, means, yerr=spread, fmt="-o", color=BLUE, capsize=3, label="measured")
        axes.plot(ahead, added, "--", color=ORANGE, label=f"next {curve.more} labels, if each doubling adds as much")
        axes.fill_between(ahead, low, high, color=ORANGE, alpha=0.2, linewidth=0)
        axes.set(xscale="log", xlabel="labelled images", ylabel="mean IoU")
        axes.set_xticks([*sizes, ahead[1]], [str(size) for size in (*sizes, ahead[1])])
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.legend(loc="lower right")
        return render_figure(figure, "svg")
