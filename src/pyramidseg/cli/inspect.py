"""inspect: find all defects of a dataset: write a report and a proposed dataset.yaml to DIR."""

import argparse
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.text import show
from pyramidseg.cli.flags import FINDINGS, add_reading_settings

SHOWN = 10
"""Printed defects of one kind."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a folder in a known layout or a YAML file, or several")
    add_reading_settings(parser)
    text = "also show crops as training sees them, with settings such as data.augment=aerial"
    add("--augmented", action="store_true", help=text)
    add("--out", metavar="DIR", default="inspection", help="folder for the report")
    add("--overwrite", action="store_true", help="delete an earlier inspection in DIR")


def run(arguments: argparse.Namespace) -> int:
    """Inspect a dataset; status 3 if it has defects."""
    from pyramidseg.base.output_lock import locked
    from pyramidseg.formats.dataset_statements import reading_config
    from pyramidseg.inspection.inspect_dataset import draw_augmented, inspect_dataset
    from pyramidseg.inspection.inspection_report import PAGE, TABLE, by_kind, check_output_folder, write_inspection

    out = Path(arguments.out)
    data = reading_config(arguments.settings, augmented=arguments.augmented)
    with locked(out):
        check_output_folder(out, overwrite=arguments.overwrite)
        inspection = inspect_dataset(arguments.dataset, data=data)
        if arguments.augmented:
            inspection = replace(inspection, augmented=draw_augmented(inspection, data))
        check_output_folder(out, overwrite=arguments.overwrite)  # others may have written there in the meantime
        write_inspection(out, inspection)
    dataset, found = inspection.dataset, len(inspection.defects)
    show(f"{dataset.source}: {dataset.layout}")
    for note in (*dataset.notes, *inspection.remarks):
        show(f"  {note}")
    for split, records in dataset.splits.items():
        show(f"  {split}: {len(records)} images")
    for kind, defects in by_kind(inspection.defects).items():
        show(f"{kind} ({len(defects)}): {kind.description}")
        for defect in defects[:SHOWN]:
            show(f"  {defect.file}: {defect.detail}")
        if len(defects) > SHOWN:
            show(f"  ... and {len(defects) - SHOWN} more, in {TABLE}")
    show(f"{found} defect{'' if found == 1 else 's'} found" if found else "no defects found")
    show(f"report: {out / PAGE}")
    return FINDINGS if inspection.defects else 0
