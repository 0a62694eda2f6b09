"""The inspection: everything in a dataset is read once, everything that is wrong is found, and the rest is counted.

Exact are all defects, pixel and image counts, channel statistics and duplicates; what looks the same is found by hash.
At any time a few images lie in memory; what is kept grows by 40 bytes an image, and by each defect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.log import track
from pyramidseg.base.parallel import in_threads
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.channel_survey import ChannelGroup, Survey
from pyramidseg.inspection.check import find_clashes, find_outliers
from pyramidseg.inspection.class_statistics import SplitSummary
from pyramidseg.inspection.contact_sheet import Sample, draw
from pyramidseg.inspection.duplicates import find_copies
from pyramidseg.inspection.image_table import PixelIndex
from pyramidseg.inspection.pair_inspection import areas_elsewhere, examine
from pyramidseg.inspection.suggested_config import Proposal, StrayValue, propose

_LOSES_LABELS = {
    DefectKind.BAD_ANNOTATION,
    DefectKind.RIVAL_ANNOTATION,
    DefectKind.MISSING_IMAGE,
    DefectKind.ABSENT,
    DefectKind.OUTSIDE,
}
"""Of files that belong to no record: labels that might have shown a class."""

USUAL_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Inspection:
    """All that is known of a dataset.

    Attributes:
        remarks: what is worth knowing and no defect.
        doubtful_turns: files that an EXIF tag turns, while nothing shows whether it should.
        unclear: whether nobody has said which class the masks' values are: classes are a proposal then.
        summaries: of the pairs without a defect of their own.
        sizes: images by height and width.
    """

    dataset: Dataset
    defects: tuple[Defect, ...]
    remarks: tuple[str, ...]
    doubtful_turns: tuple[Path, ...]
    unclear: bool
    summaries: Mapping[str, SplitSummary]
    sizes: Mapping[tuple[int, int], int]
    channel_groups: tuple[ChannelGroup, ...]
    strays: tuple[StrayValue, ...]
    samples: tuple[Sample, ...]
    proposal: Proposal


def inspect_dataset(
    source: str | Path | Dataset, *, data: DataConfig | None = None, workers: int | None = None
) -> Inspection:
    """Inspect a dataset: a folder, a YAML file, or a dataset made in Python.

    Args:
        data: how it is to be read, as for training.
        workers: threads; default: one for each processor, up to 8.

    Raises:
        DataError: it is not recognised as a dataset.
        ConfigError: settings or the YAML file say what is not possible.
    """
    found: list[Defect] = []
    dataset = open_dataset(source, data or DataConfig(), defects=found)
    labels_lost = any(defect.kind in _LOSES_LABELS for defect in found)
    dataset = replace(dataset, splits=_in_order(dataset.splits))
    survey = Survey(PixelIndex.of(dataset.splits), len(dataset.classes))
    records = [record for some in dataset.splits.values() for record in some]
    look = partial(examine, masks=dataset.masks, num_classes=len(dataset.classes), bands=dataset.bands)
    examined = in_threads(look, records, workers=workers)
    for place, examination in enumerate(track(examined, total=len(survey.places), task="inspecting images and masks")):
        survey.add(place, examination)
    found += [
        *find_clashes(dataset.splits),
        *dict.fromkeys(survey.defects),
        *survey.turns.defects(),
        *find_outliers(survey.table),
    ]
    found += find_copies(survey.table, dataset.masks)
    if contradiction := survey.palettes.contradiction():
        found.append(Defect(DefectKind.UNCLEAR_CLASSES, Path(dataset.source), contradiction))
    remarks = [*survey.remarks(), *areas_elsewhere(records, dataset.masks)]
    unclear = any(defect.kind is DefectKind.UNCLEAR_CLASSES for defect in found)
    if not unclear:
        empty, unsure = _empty_classes(dataset, survey, labels_lost=labels_lost)
        found += empty
        remarks += unsure
    strays = survey.strays()
    return Inspection(
        dataset=dataset,
        defects=tuple(found),
        remarks=tuple(remarks),
        doubtful_turns=survey.turns.doubtful(),
        unclear=unclear,
        summaries={split: tally.summary() for split, tally in survey.tallies.items()},
        sizes=survey.sizes,
        channel_groups=survey.channel_groups(),
        strays=strays,
        samples=draw(dataset, survey.places, survey.showcase.choice()),
        proposal=propose(dataset, survey.table, survey.tallies, found, strays),
    )


def _empty_classes(dataset: Dataset, survey: Survey, *, labels_lost: bool) -> tuple[list[Defect], list[str]]:
    """Classes without a pixel, a defect for each split; a remark where labels that were not counted might show them.

    Args:
        labels_lost: whether labels are in no record.
    """
    defects: list[Defect] = []
    remarks: list[str] = []
    for split, tally in survey.tallies.items():
        empty = zip(dataset.classes.names, tally.pixels.tolist(), strict=True)
        names = [repr(name) for name, pixels in empty if not pixels]
        if not names or not tally.images:
            continue
        total = len(dataset.splits[split])
        found = f"{'class' if len(names) == 1 else 'classes'} without a pixel in split {split}: {', '.join(names)}"
        if labels_lost or tally.images < total:
            remarks.append(
                f"{found}; but {tally.images} of {total} masks were counted, and labels with defects were not"
            )
        else:
            detail = f"{found}; add images that show what is missing, split otherwise, or leave it out of the classes"
            defects.append(Defect(DefectKind.EMPTY_CLASS, Path(dataset.source), detail))
    return defects, remarks


def _in_order(splits: Mapping[str, tuple[Record, ...]]) -> dict[str, tuple[Record, ...]]:
    """Train first: what is in two splits is told of the later one."""
    names = sorted(splits, key=lambda name: USUAL_ORDER.index(name) if name in USUAL_ORDER else len(USUAL_ORDER))
    return {name: splits[name] for name in names}
