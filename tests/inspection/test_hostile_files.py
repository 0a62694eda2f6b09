"""Damaged and malicious files are refused in bounded memory, and the rest is still inspected.

A crash of a decoder would end the process, and with it the tests.
"""

import io
import resource
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from planted_defects import chunk, png_of
from planted_pairs import scene
from pyramidseg.base.defects import DefectKind
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Record
from pyramidseg.inspection.inspect_dataset import inspect_dataset

MUTANTS = 150
"""Of each entry of `SAVED`."""

MEMORY_KB = 600_000

SAVED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", "RGB", {}),
    ("PNG", "P", {}),
    ("PNG", "L", {"bits": 4}),
    ("JPEG", "RGB", {"quality": 80}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "L", {"compression": "tiff_adobe_deflate"}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("WEBP", "RGB", {"quality": 60}),
    ("WEBP", "RGB", {"lossless": True}),
)


def mutants(content: bytes, rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """The content with bytes changed, removed, repeated, overwritten or cut off."""
    for number in range(count):
        damaged = bytearray(content)
        place = int(rng.integers(len(damaged)))
        length = int(rng.integers(1, 12))
        match number % 6:
            case 0:  # anywhere
                for other in rng.integers(0, len(damaged), length):
                    damaged[other] = rng.integers(256)
            case 1:  # in the header, where sizes and tables are
                for other in rng.integers(0, min(120, len(damaged)), length):
                    damaged[other] ^= 1 << int(rng.integers(8))
            case 2:
                del damaged[place : place + length]
            case 3:
                damaged[place:place] = damaged[place : place + 4 * length]
            case 4:
                damaged[place : place + length] = rng.choice([b"\0", b"\xff", b"\x7f"]) * length
            case _:
                del damaged[place:]
        yield bytes(damaged)


def saved(format: str, mode: str, options: dict[str, Any], rng: np.random.Generator) -> bytes:
    data = io.BytesIO()
    Image.fromarray(scene(rng)[0]).convert(mode).save(data, format, **options)
    return data.getvalue()


@pytest.mark.filterwarnings("ignore")  # outside of tests, a decoder's warning is not an error
def test_damaged_files_neither_crash_nor_stop_the_inspection(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    good_image, labels = scene(rng)
    mask = tmp_path / "mask.png"
    Image.fromarray(labels).save(mask)
    records: list[Record] = []
    for kind, (format, mode, options) in enumerate(SAVED):
        content = saved(format, mode, options, rng)
        for number, mutant in enumerate(mutants(content, rng, MUTANTS)):
            file = tmp_path / f"{format}_{kind}_{number}"
            file.write_bytes(mutant)
            # As an image with a good mask, and every fourth as the mask of a good image.
            pair = (file, mask) if number % 4 else (tmp_path / "good.png", file)
            records.append(Record(file.name, *pair))
    Image.fromarray(good_image).save(tmp_path / "good.png")
    last = Record("last", tmp_path / "last.png", mask)
    Image.fromarray(scene(rng)[0]).save(last.image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inspection = inspect_dataset(dataset_from_records(train=[*records, last], val=[last], classes=["a", "b", "c"]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KB
    assert len(records) > 2000
    damaged = {defect.file for defect in inspection.defects if defect.kind is DefectKind.DAMAGED}
    assert len(damaged) > len(records) / 4
    assert last.image not in {defect.file for defect in inspection.defects if defect.kind is not DefectKind.LEAK}
    assert inspection.summaries["val"].images == 1


@pytest.mark.parametrize(
    "content",
    [
        png_of(50_000, 50_000),
        png_of(15_000, 15_000),
        png_of(8, 8)[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 10**8)) + chunk(b"IDAT", b""),
        b"GIF89a" + b"\xff" * 4 + b"\0\0\0",
        b"BM" + b"\xff" * 60,
        b"II*\0\x08\0\0\0" + b"\xff" * 40,
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + b"\0" * 20,
        b"RIFF\xff\xff\xff\x7fWEBPVP8L" + b"\xff" * 30,
    ],
)
def test_decompression_bombs_are_reported_as_defects(tmp_path: Path, content: bytes) -> None:
    rng = np.random.default_rng(0)
    records = []
    for name in ("bomb", "good"):
        image, labels = scene(rng)
        records.append(Record(name, tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png"))
        Image.fromarray(image).save(records[-1].image)
        Image.fromarray(labels).save(str(records[-1].mask))
    records[0].image.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inspection = inspect_dataset(dataset_from_records(train=records, val=records[1:], classes=["a", "b", "c"]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KB
    kinds = {defect.file: defect.kind for defect in inspection.defects if defect.kind is not DefectKind.LEAK}
    assert set(kinds) == {records[0].image}
    assert kinds[records[0].image] in (DefectKind.TOO_LARGE, DefectKind.DAMAGED)
    assert inspection.summaries["train"].images == 1
