"""One image-mask pair, with and without decoding the image."""

from pathlib import Path

import pytest

from planting import FORMATS, write_dataset
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.inspection.inspect_pair import inspect_pair

NEED_DECODING = {DefectKind.DAMAGED, DefectKind.BLANK_IMAGE}


@pytest.mark.parametrize("format", FORMATS)
def test_check_without_decoding_reports_the_same_defects(tmp_path: Path, format: str) -> None:
    layout = FORMATS[format](tmp_path / "data")
    write_dataset(layout, seed=3, good=60, times=1)
    dataset, _ = open_with_defects(layout.source, DataConfig())
    found = 0
    for records in dataset.splits.values():
        for record in records:
            by_header, by_pixels = (
                inspect_pair(record, dataset.masks, num_classes=len(dataset.classes), decode_image=decode)
                for decode in (False, True)
            )
            missed = set(by_pixels.defects) - set(by_header.defects)
            assert set(by_header.defects) <= set(by_pixels.defects)
            assert all(defect.kind in NEED_DECODING and defect.file == record.image for defect in missed)
            assert by_header.exif == by_pixels.exif or missed
            found += len(by_header.defects)
    assert found >= 5
