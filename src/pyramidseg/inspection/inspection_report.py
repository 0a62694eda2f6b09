"""What an inspection leaves: inspection.html to look at, inspection.json for programs, and its proposal as files."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from pyramidseg.base.defects import DESCRIPTIONS, Defect, DefectKind
from pyramidseg.base.errors import OutputError
from pyramidseg.base.files import write_json, write_text
from pyramidseg.base.version import __version__
from pyramidseg.inspection.inspect_dataset import Inspection
from pyramidseg.report.page import css, render, template_of

# Figures of the page as SVG: outlines and points in plain numbers, drawn in the page's own colours.

SCATTER_PX = (320, 240)
"""Width and height of the plot of image sizes."""

MOST_POINTS = 400


class Histogram(NamedTuple):
    """The outline of a histogram in a field 256 wide and 100 high."""

    outline: str
    color: str


class Point(NamedTuple):
    """Images of one size."""

    x: float
    y: float
    radius: float
    label: str


class Scatter(NamedTuple):
    """Image sizes: width to the right, height upwards, area of a point as the number of its images.

    Attributes:
        ticks: pixels and their place, on both axes.
    """

    width: int
    height: int
    points: list[Point]
    x_ticks: list[tuple[int, float]]
    y_ticks: list[tuple[int, float]]


def histogram(counts: Sequence[int], color: str) -> Histogram:
    """Square roots of counts; black and white, which many images are full of, may reach beyond the field."""
    heights = np.sqrt(np.asarray(counts, np.float64))
    heights = np.minimum(heights * 95 / max(heights[1:-1].max(), 1e-12), 100)
    steps = [f"L{index} {100 - height:.1f}L{index + 1} {100 - height:.1f}" for index, height in enumerate(heights)]
    return Histogram(f"M0 100{''.join(steps)}L{len(heights)} 100Z", color)


def scatter(sizes: Mapping[tuple[int, int], int]) -> Scatter:
    """A point for each (height, width); of very many sizes, the most frequent."""
    width, height = SCATTER_PX
    frequent = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MOST_POINTS]
    tallest, widest = (1.05 * max(size[axis] for size, _ in frequent) for axis in (0, 1))
    most = frequent[0][1]
    points = [
        Point(
            x=round(width * w / widest, 1),
            y=round(height * (1 - h / tallest), 1),
            radius=round(2.5 + 7.5 * (images / most) ** 0.5, 1),
            label=f"{h} x {w}: {images} image{'' if images == 1 else 's'}",
        )
        for (h, w), images in frequent
    ]
    x_ticks = [(tick, round(width * tick / widest, 1)) for tick in _ticks(widest)]
    y_ticks = [(tick, round(height * (1 - tick / tallest), 1)) for tick in _ticks(tallest)]
    return Scatter(width, height, points, x_ticks, y_ticks)


def _ticks(end: float) -> list[int]:
    """Two to five round numbers up to an end, from 0."""
    step = 10 ** int(np.log10(max(end / 2, 1)))
    step = next((step * factor for factor in (1, 2, 5) if end / (step * factor) < 5), 10 * step)
    return list(range(0, int(end) + 1, step))


PAGE, TABLE, DATASET, SETTINGS = "inspection.html", "inspection.json", "dataset.yaml", "settings.yaml"

SHOWN = 100
"""Defects of one kind on the page; all of them are in inspection.json."""


def check_out(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write over anything but an earlier inspection, and over that only if told so.

    Raises:
        OutputError: says what is in the way. A dataset.yaml that somebody has edited always is.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, and a folder is needed; choose another --out")
    taken = [name for name in (PAGE, TABLE, DATASET, SETTINGS) if (folder / name).exists()]
    if not taken:
        return
    earlier = (folder / TABLE).is_file()
    if not (overwrite and earlier):
        way_on = "--overwrite discards an earlier inspection" if earlier else "it is left as it is"
        raise OutputError(f"{folder}: already holds {taken[0]}; {way_on}, or choose another --out")
    if DATASET in taken and _digest((folder / DATASET).read_bytes()) != _digest_written(folder):
        raise OutputError(f"{folder / DATASET}: was changed after it was proposed; move it, or choose another --out")


def write_inspection(folder: Path, inspection: Inspection) -> None:
    """Write all files; each as a whole or not at all.

    Raises:
        OutputError: they cannot be written.
    """
    proposal = inspection.proposal
    proposed = {
        DATASET: proposal.dataset_yaml() if proposal.dataset else "",
        SETTINGS: _settings_yaml(inspection) if proposal.settings else "",
    }
    for name, text in proposed.items():
        if text:
            write_text(folder / name, text)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier inspection
    write_text(folder / PAGE, page(inspection, folder))
    content = {**to_json(inspection), "proposed_dataset_sha256": _digest(proposed[DATASET].encode())}
    write_json(folder / TABLE, content)


def to_json(inspection: Inspection) -> dict[str, Any]:
    """Everything but the pictures, in plain numbers and lists; NaN as null."""
    dataset = inspection.dataset
    content = {
        "pyramidseg": __version__,
        "source": dataset.source,
        "layout": dataset.layout,
        "notes": list(dataset.notes),
        "defects": [
            {"kind": str(defect.kind), "file": str(defect.file), "detail": defect.detail}
            for defect in inspection.defects
        ],
        "remarks": list(inspection.remarks),
        "doubtful_turns": list(map(str, inspection.doubtful_turns)),
        "classes": [
            {
                "id": index,
                "name": name,
                "color": list(color),
                "splits": {
                    split: {"pixels": summary.pixels[index], "images": summary.presence[index]}
                    for split, summary in inspection.summaries.items()
                },
            }
            for index, (name, color) in enumerate(zip(dataset.classes.names, dataset.classes.colors, strict=True))
        ],
        "classes_are_a_proposal": inspection.unclear,
        "splits": {
            split: {
                "images": len(dataset.splits[split]),
                "counted": summary.images,
                "labelled_pixels": sum(summary.pixels),
                "ignored_pixels": summary.ignored,
            }
            for split, summary in inspection.summaries.items()
        },
        "unknown_values": [asdict(stray) for stray in inspection.strays],
        "sizes": [
            {"height": height, "width": width, "images": images}
            for (height, width), images in sorted(inspection.sizes.items())
        ],
        "channels": [asdict(group) for group in inspection.channel_groups],
        "proposal": {
            "dataset": dict(inspection.proposal.dataset),
            "remarks": list(inspection.proposal.remarks),
            "settings": dict(inspection.proposal.settings),
            "class_weights": list(inspection.proposal.class_weights),
        },
    }
    return {key: _without_nan(value) for key, value in content.items()}


def page(inspection: Inspection, folder: Path) -> str:
    """inspection.html, for files that are written to `folder`."""
    dataset, proposal = inspection.dataset, inspection.proposal
    classes = zip(dataset.classes.names, dataset.classes.colors, strict=True)
    train = f"pyramidseg train {folder / DATASET if proposal.dataset else dataset.source}"
    with_settings = f" --config {folder / SETTINGS}" if proposal.settings else ""
    return render(
        template_of(__package__, "inspection_report.html.j2"),
        title=f"Inspection of {Path(dataset.source).resolve().name}",
        inspection=inspection,
        images=sum(len(records) for records in dataset.splits.values()),
        groups=_groups(inspection.defects, Path(dataset.source)),
        table=TABLE,
        colors=[(name, css(color)) for name, color in classes],
        rows=_rows(inspection),
        scatter=_scatter(inspection.sizes),
        histograms=[_histograms(group.channels) for group in inspection.channel_groups],
        facts={
            "source": dataset.source,
            "layout": dataset.layout,
            **{f"{split} images": len(records) for split, records in dataset.splits.items()},
        },
        dataset_yaml=proposal.dataset_yaml() if proposal.dataset else "",
        settings_yaml=_settings_yaml(inspection) if proposal.settings else "",
        command=f"{train}{with_settings} --out RUN",
    )


class Group(NamedTuple):
    """Defects of one kind, as many as are shown."""

    kind: DefectKind
    meaning: str
    total: int
    shown: list[tuple[str, str]]


class Row(NamedTuple):
    """A class in the table; for each split its share of the labelled pixels, and the images that show it."""

    name: str
    color: str
    pixels: int
    splits: list[tuple[float, int]]
    weight: float


def by_kind(defects: Iterable[Defect]) -> dict[DefectKind, list[Defect]]:
    """Defects in the order of their kinds."""
    found: dict[DefectKind, list[Defect]] = {kind: [] for kind in DefectKind}
    for defect in defects:
        found[defect.kind].append(defect)
    return {kind: some for kind, some in found.items() if some}


def _groups(defects: Iterable[Defect], root: Path) -> list[Group]:
    return [
        Group(
            kind,
            DESCRIPTIONS[kind],
            len(some),
            [(_relative(defect.file, root), defect.detail) for defect in some[:SHOWN]],
        )
        for kind, some in by_kind(defects).items()
    ]


def _rows(inspection: Inspection) -> list[Row]:
    classes, summaries = inspection.dataset.classes, inspection.summaries.values()
    return [
        Row(
            name,
            css(classes.colors[index]),
            sum(summary.pixels[index] for summary in summaries),
            [(summary.pixels[index] / max(1, sum(summary.pixels)), summary.presence[index]) for summary in summaries],
            inspection.proposal.class_weights[index] if inspection.proposal.class_weights else math.nan,
        )
        for index, name in enumerate(classes.names)
    ]


def _scatter(sizes: Mapping[tuple[int, int], int]) -> Scatter | None:
    return scatter(sizes) if len(sizes) > 1 else None


def _histograms(channels: Iterable[Any]) -> list[Histogram]:
    shown = [channel for channel in channels if channel.count and channel.histogram][:3]
    colors = ("#d1495b", "#3a9d5d", "#3d7dca") if len(shown) == 3 else ("var(--accent)",) * len(shown)
    return [histogram(channel.histogram, color) for channel, color in zip(shown, colors, strict=True)]


def _settings_yaml(inspection: Inspection) -> str:
    settings = {section: dict(entries) for section, entries in inspection.proposal.settings.items()}
    return yaml.safe_dump(settings, sort_keys=False, default_flow_style=None)


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file != root and file.is_relative_to(root) else str(file)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_written(folder: Path) -> str | None:
    """Of the dataset.yaml that the earlier inspection proposed."""
    try:
        content = json.loads((folder / TABLE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("proposed_dataset_sha256") if isinstance(content, dict) else None


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
