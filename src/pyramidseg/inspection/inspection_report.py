"""Files of an inspection: inspection.html, inspection.json, and the proposed dataset.yaml and settings.yaml."""

import hashlib
import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import OutputError
from pyramidseg.base.files import file_sha256, write_json, write_text
from pyramidseg.base.version import __version__
from pyramidseg.inspection.inspect_dataset import Inspection
from pyramidseg.inspection.proposal import Proposal
from pyramidseg.report.page import css_color, render_page

PAGE, TABLE, DATASET, SETTINGS = "inspection.html", "inspection.json", "dataset.yaml", "settings.yaml"

MAX_SHOWN = 100
"""Defects of one kind on the page; inspection.json has all of them."""

SIZES_SHOWN = 12
"""Different image sizes on the page; of more, the most frequent."""


def check_output_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that nothing is overwritten except, with `overwrite`, the files of an earlier inspection.

    Raises:
        OutputError: names the existing file; with `overwrite` too if it is a dataset.yaml that was edited.
    """
    taken = [name for name in (PAGE, TABLE, DATASET, SETTINGS) if (folder / name).exists()]
    if not taken:
        return
    earlier = (folder / TABLE).is_file()
    if not (overwrite and earlier):
        way_out = "use `overwrite` to replace this inspection" if earlier else "it is not from an inspection"
        raise OutputError(f"{folder}: already contains {taken[0]}; {way_out}, or choose another `out`")
    if DATASET in taken and file_sha256(folder / DATASET) != _proposed_digest(folder):
        raise OutputError(f"{folder / DATASET}: was edited since it was proposed; move it, or choose another `out`")


def write_inspection(folder: Path, inspection: Inspection) -> None:
    """Write all files, each atomically.

    Raises:
        OutputError: they cannot be written.
    """
    proposed = proposed_files(inspection.proposal)
    for name, text in proposed.items():
        if text:
            write_text(folder / name, text)
        else:
            (folder / name).unlink(missing_ok=True)  # left by an earlier inspection
    write_text(folder / PAGE, render_inspection(inspection, folder))
    digest = hashlib.sha256(proposed[DATASET].encode()).hexdigest()
    write_json(folder / TABLE, {**to_json(inspection), "proposed_dataset_sha256": digest})


def proposed_files(proposal: Proposal) -> dict[str, str]:
    """The content of the proposed files; empty for a file that is not proposed."""
    settings = {section: dict(entries) for section, entries in proposal.settings.items()}
    return {
        DATASET: proposal.dataset_yaml() if proposal.dataset else "",
        SETTINGS: yaml.safe_dump(settings, sort_keys=False, default_flow_style=None) if settings else "",
    }


def to_json(inspection: Inspection) -> dict[str, Any]:
    """The content of inspection.json: everything except the pictures."""
    dataset = inspection.dataset
    return {
        "pyramidseg": __version__,
        "source": dataset.source,
        "layout": dataset.layout,
        "notes": list(dataset.notes),
        "defects": [{**asdict(defect), "file": str(defect.file)} for defect in inspection.defects],
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
        "classes_are_a_proposal": inspection.classes_unclear,
        "splits": {
            split: {
                "images": len(dataset.splits[split]),
                "counted": summary.images,
                "labelled_pixels": sum(summary.pixels),
                "ignored_pixels": summary.ignored,
            }
            for split, summary in inspection.summaries.items()
        },
        "unknown_values": [asdict(value) for value in inspection.unknown_values],
        "sizes": [
            {"height": height, "width": width, "images": images}
            for (height, width), images in sorted(inspection.sizes.items())
        ],
        "channels": [asdict(group) for group in inspection.channel_groups],
        "proposal": asdict(inspection.proposal),
    }


def render_inspection(inspection: Inspection, folder: Path) -> str:
    """The content of inspection.html, for files that are written to `folder`."""
    dataset, root = inspection.dataset, Path(inspection.dataset.source)
    classes = zip(dataset.classes.names, dataset.classes.colors, strict=True)
    proposed = proposed_files(inspection.proposal)
    train = ["pyramidseg", "train", str(folder / DATASET if proposed[DATASET] else dataset.source)]
    with_settings = ["--config", str(folder / SETTINGS)] if proposed[SETTINGS] else []
    return render_page(
        "inspection/inspection_report.html.j2",
        title=f"Inspection of {root.resolve().name}",
        inspection=inspection,
        groups=by_kind(inspection.defects),
        relative=lambda file: file.relative_to(root) if file != root and file.is_relative_to(root) else file,
        max_shown=MAX_SHOWN,
        table=TABLE,
        colors=[(name, css_color(color)) for name, color in classes],
        sizes=inspection.sizes.most_common(SIZES_SHOWN),
        facts={
            "source": dataset.source,
            "layout": dataset.layout,
            **{f"{split} images": len(records) for split, records in dataset.splits.items()},
        },
        dataset_yaml=proposed[DATASET],
        settings_yaml=proposed[SETTINGS],
        command=shlex.join([*train, *with_settings, "--out", "RUN"]),
    )


def by_kind(defects: Iterable[Defect]) -> dict[DefectKind, list[Defect]]:
    """Defects grouped by kind, in the order of `DefectKind`."""
    found: dict[DefectKind, list[Defect]] = {kind: [] for kind in DefectKind}
    for defect in defects:
        found[defect.kind].append(defect)
    return {kind: some for kind, some in found.items() if some}


def _proposed_digest(folder: Path) -> str | None:
    """SHA-256 of the dataset.yaml that the earlier inspection proposed."""
    try:
        content = json.loads((folder / TABLE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("proposed_dataset_sha256") if isinstance(content, dict) else None
