"""Any label map is written and read back equal, in every format that can hold it."""

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import DataConfig
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.writers import LABEL_WRITERS

NAMES = np.array(["background", "b", "c d", "É"])
HOLDS_IGNORED = ("masks", "color-masks", "voc", "cvat-masks", "coco-panoptic", "huggingface")

label_maps = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, IGNORE]), fill=st.nothing())
)

RING = np.array([[1, 1, 1, 1], [1, 0, 2, 1], [1, 2, 255, 1], [1, 1, 1, 1]], np.uint8)
"""Holes in a hole, which touch diagonally, and an ignored pixel."""


EXAMPLES = [RING, np.eye(3, dtype=np.uint8) + np.eye(3, dtype=np.uint8)[::-1], np.full((1, 1), 3, np.uint8)]


@pytest.mark.parametrize("to", [name for name in LABEL_WRITERS if name != "geojson"])
@settings(max_examples=2, deadline=None, derandomize=True, database=None)
@given(drawn=st.lists(label_maps, min_size=6, max_size=6))
def test_labels_are_read_back_equal(to: str, drawn: list[NDArray[np.uint8]]) -> None:
    maps = dict(enumerate([*EXAMPLES, *drawn]))
    all_classes = np.arange(4, dtype=np.uint8)[None]  # what does not occur, not every format can name
    with tempfile.TemporaryDirectory() as folder, patch("os.fsync"):
        root = Path(folder)
        for name, pixels in (*maps.items(), ("val", all_classes)):
            split = "val" if name == "val" else "train"
            for kind, values in (("images", np.zeros((*pixels.shape, 3), np.uint8)), ("masks", pixels)):
                (root / "in" / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(root / "in" / split / kind / f"{name}.png")
        (root / "in" / "dataset.yaml").write_text(f"classes: {NAMES.tolist()}\nignore: [255]\n", encoding="utf-8")
        conversion = convert_dataset(root / "in", to=to, out=root / "out")
        dataset = open_dataset(root / "out", DataConfig())
        names = np.array([*dataset.classes.names, *["?"] * (IGNORE - len(dataset.classes)), "ignored"])
        found = {int(r.image.stem): names[read_labels(r, dataset.masks)] for r in dataset.splits["train"]}
    assert found.keys() == maps.keys()
    for number, labels in maps.items():
        ignored = labels == IGNORE
        expected = NAMES[np.where(ignored, 0, labels)].astype(object)
        expected[ignored & (to in HOLDS_IGNORED)] = "ignored"
        np.testing.assert_array_equal(found[number], expected.astype(str))
    lost = sum(int((labels == IGNORE).sum()) for labels in maps.values())
    assert sum(conversion.lost.values()) == (0 if to in HOLDS_IGNORED else lost)
