"""One image-mask pair, with and without decoding the image."""

from collections import Counter
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from made_files import HEIGHT, WIDTH, image, mask, palette_mask
from made_geo import write_image
from planting import FORMATS, write_dataset
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.safe_paths import open_regular
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Record
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.images import open_image
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


def made_pair(folder: Path, kind: str) -> Record:
    """Two files of one size."""
    if kind == "GeoTIFF":
        pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint16).reshape(HEIGHT, WIDTH, 3)
        return Record("a", write_image(folder / "a.tif", pixels), write_image(folder / "b.tif", pixels[..., :1] % 2))
    palette = [(0, 0, 0), (90, 0, 0)]
    labels = mask(folder / "b.png") if kind == "grey mask" else palette_mask(folder / "b.png", palette, 0, 1)
    return Record("a", image(folder / "a.jpg"), labels)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("kind", ["grey mask", "palette mask", "GeoTIFF"])
def test_an_image_is_opened_once_and_a_mask_for_its_labels_and_its_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, decode: bool
) -> None:
    record, opened = made_pair(tmp_path, kind), Counter[str]()

    def counted(path: Path) -> IO[bytes]:
        opened[path.stem] += 1
        return open_regular(path)

    monkeypatch.setattr(open_image, "open_regular", counted)
    found = inspect_pair(record, ClassMasks.identity(2), num_classes=2, decode_image=decode)
    assert found.label_counts is not None and found.label_counts[:2].min() > 0
    assert opened == {"a": 1, "b": 2}
    assert len(found.palette) == (2 if kind == "palette mask" else 0)
