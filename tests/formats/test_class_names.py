"""Class names that a format cannot hold are refused before anything is written; all others are read back."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from made_geo import write_image
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.pairs import read_labels
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.writers import LABEL_WRITERS

MARKED = ("masks", "color-masks", "voc", "cvat-masks", "coco-panoptic", "huggingface", "geojson")
"""Formats that hold ignored pixels."""

OUTLINED = tuple(name for name in LABEL_WRITERS if name not in MARKED)

ODD = (
    *("a:b", "#k", "#a0b0c0", "a,b", "a;b", "a\\b", "a/b", "'a'", 'a"b', "<&>", "{split}", "%s", "=1", "- a", "[a]"),
    *("1", "255", "true", "null", "~", "yes", "none", "foreground", "other", "*", "nodata", "class 1", "b", "B"),
    *("void", "Void", "unknown", "Unlabelled", "ignore", "__ignore__", "background", "Background", "_background_"),
    *(" lead", "trail ", "\u00a0", "\u3000wide", "a\u00a0b", "\u00e9", "e\u0301", "\ufeffa", "x (crowd)"),
)

NAMES = st.lists(st.sampled_from(ODD) | st.text(min_size=1, max_size=8), min_size=2, max_size=6, unique=True)


def dataset_of(classes: Classes, folder: Path) -> Dataset:
    """Every class and ignored pixels in an image of each split."""
    splits = {}
    labels = np.array([[*range(len(classes)), IGNORE]] * 4, np.uint8)
    for split in ("train", "val"):
        write_image(folder / f"{split}.tif", np.zeros((*labels.shape, 3), np.uint8))
        Image.fromarray(labels).save(folder / f"{split}.png")
        splits[split] = (Record(split, folder / f"{split}.tif", folder / f"{split}.png"),)
    values = ClassMasks.from_values({index: index for index in range(len(classes))})
    return Dataset("made", "made", classes, values, splits)


def names_in(folder: Path) -> list[str]:
    """The class of each column in val, `-` where it is ignored."""
    found = open_dataset(folder, DataConfig())
    names = np.array([*found.classes.names, *["-"] * (256 - len(found.classes))], object)
    (record,) = found.splits["val"]
    return [str(name) for name in names[read_labels(record, found.masks)[0]]]


def refused_by(to: str, names: list[str]) -> bool:
    try:
        LABEL_WRITERS[to].check_names(Classes.from_names(names), to=to)
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize("to", LABEL_WRITERS)
@settings(max_examples=12, deadline=None)
@given(names=NAMES)
def test_names_are_read_back_or_refused_before_anything_is_written(to: str, names: list[str]) -> None:
    try:
        classes = Classes.from_names(names)
    except DataError:  # control characters
        return
    with TemporaryDirectory() as temporary:
        source, out = Path(temporary), Path(temporary) / "out"
        dataset = dataset_of(classes, source)
        if refused_by(to, names):
            with pytest.raises(ConfigError, match=f"{to} cannot hold this name"):
                convert_dataset(dataset, to=to, out=out)
            assert not out.exists()
            return
        convert_dataset(dataset, to=to, out=out)
        kept = [name if name.lower() != "background" or to in MARKED[:-1] else "background" for name in names]
        assert names_in(out) == [*kept, "-" if to in MARKED else "background"]


@pytest.mark.parametrize("to", LABEL_WRITERS)
def test_no_more_is_refused_than_has_to_be(to: str) -> None:
    refused = {name for name in ODD if refused_by(to, ["street", name])}
    blanks = {" lead", "trail ", "\u00a0", "\u3000wide"}
    ignored = {"void", "Void", "unknown", "Unlabelled", "ignore", "__ignore__"}
    expected = {
        **{outlined: {*blanks, "__ignore__", "_background_"} for outlined in OUTLINED},
        "masks": set(),
        "color-masks": set(),
        **{voc: {*blanks, *ignored, "a:b", "#k", "#a0b0c0"} for voc in ("voc", "cvat-masks")},
        "huggingface": {*blanks, *ignored},
        "coco-panoptic": {*blanks, "void"},
        "geojson": {*blanks, "__ignore__", "_background_", "none"},
    }
    assert refused == expected[to]


def test_the_message_says_what_the_name_would_become(tmp_path: Path) -> None:
    def message(to: str, *names: str) -> str:
        with pytest.raises(ConfigError) as error:
            LABEL_WRITERS[to].check_names(Classes.from_names(names), to=to)
        return str(error.value)

    step = "; rename the class, or write another format, such as masks"
    assert message("voc", "a", "a:b") == (
        f"class 'a:b': voc cannot hold this name, which would be read back as 'a'{step}"
    )
    assert "class 'void': huggingface cannot hold this name, which would be read back as no class" in message(
        "huggingface", "void"
    )
    assert "class 'Background': coco" in message("coco", "background", "Background")
