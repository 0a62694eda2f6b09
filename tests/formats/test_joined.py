"""Several datasets as one: names, what is ignored, what is asked, and that it opens again as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from followed import alternatives, counted, message, paste
from made_files import color_mask, ids, image, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.cli.main import main
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_dataset

IMAGES = {"train": "ab", "val": "c"}
"""Each mask has 12 pixels, equally divided among its values: of two classes each has 18 in all, of three 12."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(name: str, classes: list[Any] | dict[str, Any], *values: int, splits: Mapping[str, str] = IMAGES) -> str:
    """A folder of index masks; the values repeat in rows."""
    for split, stems in splits.items():
        pairs(Path(name, split, "images"), Path(name, split, "masks"), stems, *(values or range(len(classes))))
    content = classes if isinstance(classes, dict) else {"classes": classes}
    write(Path(name, "dataset.yaml"), yaml.safe_dump(content))
    return name


def joined(*entries: Mapping[str, Any] | str, **more: Any) -> Dataset:
    return opened(write(Path("all.yaml"), yaml.safe_dump({"sources": list(entries), **more})))


def together(*names: str, **settings: Any) -> Dataset:
    return open_dataset(names, DataConfig(**settings))


def test_classes_are_joined_by_name_in_whatever_order_each_set_has_them() -> None:
    dataset = together(made("a", ["road", "car", "tree"]), made("b", ["tree", "road"]))
    assert dataset.classes.names == ("road", "car", "tree")
    assert counted(dataset) == {"road": 12 + 18, "car": 12, "tree": 12 + 18}
    assert ids(dataset) == {"train": ["a/a", "a/b", "b/a", "b/b"], "val": ["a/c", "b/c"]}
    assert len({*dataset.classes.colors}) == 3
    assert "classes of b: tree, road" in dataset.notes


def test_background_is_ignored_where_a_class_was_not_labelled() -> None:
    made("a", ["background", "car"])
    dataset = together("a", made("b", ["background", "car", "tree"]))
    assert counted(dataset) == {"background": 12, "car": 18 + 12, "tree": 12, "ignored": 18}
    (note,) = [note for note in dataset.notes if "ignored" in note]
    assert "a: background, car; 'background' is ignored, as the set was not labelled for 'tree'" in note
    assert counted(joined({"path": "a", "complete": True}, "b")) == {"background": 30, "car": 30, "tree": 12}


@pytest.mark.parametrize("name", ["other", "Rest", "_background_", "clutter"])
def test_a_class_of_everything_else_has_several_names(name: str) -> None:
    dataset = together(made("a", ["car", name]), made("b", ["car", "tree", name]))
    assert counted(dataset) == {"car": 30, name: 12, "tree": 12, "ignored": 18}


def test_the_class_that_takes_all_other_values_is_one() -> None:
    made("a", {"classes": [{"name": "car", "value": 0}, {"name": "anything", "from": "*"}]}, 0, 7)
    dataset = together("a", made("b", ["car", "tree", "anything"]))
    assert counted(dataset) == {"car": 30, "anything": 12, "tree": 12, "ignored": 18}


def test_a_lacking_background_alone_makes_nothing_unknown() -> None:
    dataset = together(made("a", ["other", "car"]), made("b", ["background", "car"]))
    assert counted(dataset) == {"other": 18, "car": 36, "background": 18}


def test_other_formats_and_masks_of_colours_join(tmp_path: Path) -> None:
    for name in "ab":
        image(Path("c", "images", f"{name}.png"))
        color_mask(Path("c", "masks", f"{name}.png"), (255, 0, 0), (0, 0, 255))
    colors = [{"name": "sky", "color": [255, 0, 0]}, {"name": "car", "color": [0, 0, 255]}]
    write(Path("c", "dataset.yaml"), yaml.safe_dump({"classes": colors, "val_share": 0.5}))
    dataset = together(made("a", ["road", "car"]), "c")
    assert counted(dataset) == {"road": 18, "car": 18 + 12, "sky": 12}
    assert ids(dataset)["train"] == ["a/a", "a/b", "c/a"]


def test_a_source_states_how_it_is_read_and_what_its_classes_are_called() -> None:
    made("a", ["road", "crack"])
    made("b", {"ignore": [3]}, 0, 255, 3)
    rename = {"background": "road", "foreground": "crack"}
    dataset = joined("a", {"path": "b", "binary": True, "rename": rename, "name": "bridges"})
    assert counted(dataset) == {"road": 18 + 12, "crack": 18 + 12, "ignored": 12}
    assert ids(dataset)["val"] == ["a/c", "bridges/c"]


def test_it_opens_again_from_its_description() -> None:
    made("a", ["background", "car"])
    made("b", {"binary": True}, 0, 255)
    one = {"path": "b", "rename": {"foreground": "tree"}, "share": 2}
    dataset = joined({"path": "a", "complete": True, "share": 1}, one, classes=["tree", "background", "car"])
    again = opened(write(Path("elsewhere", "run.yaml"), yaml.safe_dump(dict(dataset.description))))
    assert again.classes == dataset.classes
    assert again.classes.names == ("tree", "background", "car")
    assert ids(again) == ids(dataset)
    assert again.sets == dataset.sets == {"a": 1, "b": 2}
    assert counted(again) == counted(dataset) == {"tree": 18, "background": 18, "car": 18, "ignored": 18}


def test_folders_of_one_name_are_numbered() -> None:
    made("x/data", ["road", "car"])
    made("y/data", ["road", "car"])
    assert [*together("x/data", "y/data").sets] == ["data", "data-2"]
    assert [*joined({"path": "x/data"}, {"path": "y/data", "name": "b"}).sets] == ["data", "b"]


def test_settings_apply_to_every_source() -> None:
    made("a", {}, 0, 255)
    made("b", {}, 0, 255)
    both = {"background": 36, "foreground": 36}
    assert counted(together("a", "b", binary=True, classes=["background", "foreground"])) == both
    with pytest.raises(ConfigError, match=r"a: val_share=0.3: the dataset already has a val split"):
        together("a", "b", binary=True, val_share=0.3)


# What is asked: every alternative is pasted into the file that the message names.


@pytest.mark.parametrize(
    ("a", "b", "verdict", "found"),
    [
        (
            ["road", "car"],
            ["Road ", "tree"],
            "classes are named almost as in other sets: b {'Road ': road}",
            [{"road": 36, "car": 18, "tree": 18}, {"road": 18, "car": 18, "Road ": 18, "tree": 18}],
        ),
        (
            ["road", "car"],
            ["crack", "plain"],
            "no class name is shared with a: b {crack: road}",
            [{"road": 18, "car": 18, "crack": 18, "plain": 18}, {"road": 36, "car": 18, "plain": 18}],
        ),
        (
            ["background", "cell"],
            ["background", "crack"],
            "'background' would have no label, as it may hide classes of the other sets",
            [{"background": 36, "cell": 18, "crack": 18}, {"cell": 18, "crack": 18, "ignored": 36}],
        ),
        (
            ["background", "car"],
            ["road", "car"],
            "'background' would have no label",
            [{"car": 36, "road": 18, "ignored": 18}, {"background": 18, "car": 36, "road": 18}],
        ),
    ],
)
@pytest.mark.parametrize("from_file", [False, True])
def test_what_has_two_readings_is_asked(
    a: list[str], b: list[str], verdict: str, found: list[dict[str, int]], from_file: bool
) -> None:
    made("a", a)
    made("b", b)
    text = message(lambda: joined("a", "b") if from_file else together("a", "b"))
    assert verdict in text.splitlines()[0]
    assert len(alternatives(text)) == len(found)
    for choice, counts in enumerate(found):
        file = paste(text, choice)
        assert file == Path("all.yaml" if from_file else "joined.yaml")
        assert counted(opened(file)) == counts
        file.unlink()
        if from_file:
            write(file, yaml.safe_dump({"sources": ["a", "b"]}))


def test_numbers_are_no_names() -> None:
    made("a", {}, 0, 1)
    text = message(lambda: together("a", made("b", {}, 0, 1, 2)))
    assert (
        "classes have numbers for names, by which nothing can be joined: a {class 0: class 0, class 1: class 1}" in text
    )
    assert counted(opened(paste(text))) == {"class 0": 30, "class 1": 30, "class 2": 12}
    named = Path("joined.yaml").read_text().replace(": class 0", ": road")
    assert counted(opened(write(Path("joined.yaml"), named))) == {"road": 30, "class 1": 30, "class 2": 12}


def test_foregrounds_are_not_the_same_unasked() -> None:
    made("cracks", {"binary": True}, 0, 255)
    made("cells", {"binary": True}, 0, 255)
    text = message(lambda: together("cracks", "cells"))
    assert "need not be the same: cracks {foreground: cracks}, cells {foreground: cells}" in text
    file = paste(text)
    text = message(lambda: opened(file))
    assert "'background' would have no label" in text
    assert counted(opened(paste(text))) == {"background": 36, "cracks": 18, "cells": 18}
    file.unlink()
    text = message(lambda: together("cracks", "cells"))
    assert counted(opened(paste(text, 1))) == {"background": 36, "foreground": 36}


def test_names_of_sets_are_those_of_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("camvid.v2", "x/up", "x/.hidden"):
        made(name, ["road", "car"])
    write(Path("x", "up", "here", "one.yaml"), "path: ..\nclasses: [road, car]")
    write(Path("x", "up", "here", "all.yaml"), "sources: [.., ../../.hidden, ../../../camvid.v2, one.yaml]")
    assert [*opened(Path("x/up/here/all.yaml")).sets] == ["up", "_hidden", "camvid.v2", "one"]
    monkeypatch.chdir("x/up/here")
    assert [*together("..", "../../../camvid.v2").sets] == ["up", "camvid.v2"]


@pytest.mark.parametrize("words", [["curve"], ["compare", "--encoders", "resnet18,resnet34"]])
def test_commands_of_one_dataset_show_the_file_that_joins(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    made("a", ["road", "car"])
    made("b", ["road", "car"])
    assert main([*words, "a", "b", "--out", "out", "--epochs", "1"]) == 2
    text = capsys.readouterr().err
    assert f"{words[0]} takes one dataset" in text
    assert counted(opened(paste(text))) == {"road": 36, "car": 36}


def test_the_reason_of_an_unreadable_source_is_its_own() -> None:
    made("a", ["road", "car"])
    made("b", {}, 0, 255)
    Path("b", "dataset.yaml").unlink()
    text = message(lambda: together("a", "b"))
    assert paste(text) == Path("b/dataset.yaml")
    assert opened(Path("b")).classes.names == ("background", "foreground")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"sources": ["a", {"path": "b", "rename": {"raod": "x"}}]}, "'raod' is not a class of it; did you mean"),
        ({"sources": ["a", {"path": "b", "rename": {"car": "road"}}]}, "two classes would be 'road'"),
        ({"sources": ["a", {"path": "b", "shares": 1}]}, "unknown key 'shares' in sources.1; did you mean 'share'"),
        ({"sources": [{"path": "a", "share": 1}, "b"]}, "only some sources have a share"),
        ({"sources": ["a", {"path": "b", "share": 0}]}, "sources.1.share=0"),
        ({"sources": ["a", {"path": "b", "bands": [1, 2]}]}, "the bands differ: all of a and (1, 2) of b"),
        ({"sources": ["a", "b"], "binary": True}, "binary: cannot be stated next to sources"),
        ({"sources": ["a", "b"], "classes": {"road": 0}}, "value and from of class 'road': cannot be stated next to"),
        ({"sources": ["a", "b"], "classes": ["road", "sky"]}, "no source has labels of: sky; not listed"),
        ({"sources": ["a", "inner.yaml"]}, "inner.yaml has sources itself"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(content: dict[str, Any], expected: str) -> None:
    made("a", ["road", "car"])
    made("b", ["road", "car"])
    write(Path("inner.yaml"), "sources: [a, b]")
    with pytest.raises(ConfigError) as caught:
        opened(write(Path("all.yaml"), yaml.safe_dump(content)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_comes_with_a_folder_joins_what_is_inside() -> None:
    made("data/a", ["road", "car"])
    made("b", ["road", "car"])
    file = write(Path("data", "dataset.yaml"), "sources: [a, ../b]")
    with pytest.raises(DataError, match=r"sources.1.path: '../b' is outside of data"):
        opened(Path("data"))
    assert counted(opened(file)) == {"road": 36, "car": 36}


def test_palettes_of_two_sets_do_not_contradict_each_other(tmp_path: Path) -> None:
    from made_files import palette_mask
    from pyramidseg.inspection.training_check import check_dataset

    for name, colors in (("a", [(0, 0, 0), (9, 9, 9)]), ("b", [(1, 1, 1), (2, 2, 2)])):
        for split in IMAGES:
            image(Path(name, split, "images", "x.png"))
            palette_mask(Path(name, split, "masks", "x.png"), colors, 0, 1)
        write(Path(name, "dataset.yaml"), "classes: [road, car]")
    summary = check_dataset(together("a", "b"))
    assert summary.splits["train"].pixels == (12, 12)
    palette_mask(Path("b", "train", "masks", "x.png"), [(1, 1, 1), (3, 3, 3)], 0, 1)
    with pytest.raises(DataError, match="palettes contradict each other: index 1"):
        check_dataset(together("a", "b"))


def test_labels_are_those_of_the_set_alone() -> None:
    made("a", ["car", "road"])
    alone, dataset = opened(Path("a")), together("a", made("b", ["road", "sky", "car"]))
    (own,), (record, _) = alone.splits["val"], dataset.splits["val"]
    names, others = np.array(alone.classes.names), np.array(dataset.classes.names)
    assert (names[alone.masks.read(own)] == others[dataset.masks.read(record)]).all()
