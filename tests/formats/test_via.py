"""VGG Image Annotator: projects and exports of VIA 1 to 3, shapes, attributes, and files that cannot be read."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_files import all_ids, has_note, image, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectError
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 40, 50


def box(left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    return {
        "name": "polygon",
        "all_points_x": [left, right, right, left],
        "all_points_y": [top, top, bottom, bottom],
    }


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def entry(root: Path, name: str, *regions: Any) -> dict[str, Any]:
    image(root / name, height=HEIGHT, width=WIDTH)
    return {"filename": name, "size": 71410, "regions": list(regions), "file_attributes": {}}


def export(root: Path, *entries: dict[str, Any]) -> Path:
    content = {f"{value['filename']}{value['size']}": value for value in entries}
    return write(root / "via_region_data.json", json.dumps(content))


def counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Pixels of each class but the background, by image."""
    found = {}
    for record in [record for records in dataset.splits.values() for record in records]:
        pixels = np.bincount(dataset.masks.read(record).ravel(), minlength=len(dataset.classes.names))
        named = zip(dataset.classes.names, pixels.tolist(), strict=True)
        found[record.id] = {name: count for name, count in named if count and name != "background"}
    return found


def test_every_shape_with_an_area_is_drawn_and_the_later_is_on_top(tmp_path: Path) -> None:
    rect = {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 5}
    circle = {"name": "circle", "cx": 25, "cy": 20, "r": 10}
    flat = {"name": "ellipse", "cx": 25, "cy": 20, "rx": 12, "ry": 3, "theta": math.pi / 2}
    export(
        tmp_path,
        entry(tmp_path, "a.jpg", region(rect, kind="fig"), region(box(2, 3, 4, 5), kind="leaf")),
        entry(tmp_path, "b.jpg", region(circle, kind="fig")),
        entry(tmp_path, "c.jpg", region(flat, kind="leaf")),
        entry(tmp_path, "d.jpg", region({"name": "point", "cx": 1, "cy": 1}, kind="stone")),
        entry(tmp_path, "e.jpg"),
    )
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "fig", "leaf")
    found = counts(dataset)
    assert found["a"] == {"fig": 46, "leaf": 4}
    assert found["b"]["fig"] == pytest.approx(math.pi * 100, rel=0.02)
    assert found["c"]["leaf"] == pytest.approx(math.pi * 36, rel=0.05)
    assert found["d"] == found["e"] == {}
    assert has_note(dataset, "objects without an outline are not drawn (1 point)")
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == "c"]
    rows = np.flatnonzero(dataset.masks.read(record).any(axis=1))
    assert rows.min() == 8 and rows.max() == 31  # turned by a quarter, as VIA draws it


def test_project_export_version_1_and_table_give_the_same_masks(tmp_path: Path) -> None:
    found = {}
    regions = [region(box(0, 0, 10, 10), kind="fig"), region(box(20, 20, 24, 25), kind="leaf")]
    for form in ("export", "project", "version 1", "table"):
        root = tmp_path / form
        entries = [entry(root, "a.jpg", *regions), entry(root, "b c.jpg")]
        if form == "export":
            export(root, *entries)
        elif form == "project":
            content = {"_via_settings": {}, "_via_img_metadata": {str(at): it for at, it in enumerate(entries)}}
            write(
                root / "project.json", json.dumps({**content, "_via_attributes": {}, "_via_data_format_version": "2"})
            )
        elif form == "version 1":
            entries = [{**it, "regions": {str(at): one for at, one in enumerate(it["regions"])}} for it in entries]
            export(root, *entries)
        else:
            stream = io.StringIO()
            table = csv.writer(stream)
            names = "#filename,file_size,file_attributes,region_count,region_id"
            table.writerow([*names.split(","), "region_shape_attributes", "region_attributes"])
            for at, it in enumerate(regions):
                shape, attributes = (json.dumps(it[key]) for key in ("shape_attributes", "region_attributes"))
                table.writerow(["a.jpg", 71410, "{}", 2, at, shape, attributes])
            table.writerow(["b c.jpg", 71410, "{}", 0, 0, "{}", "{}"])
            write(root / "via_export_csv.csv", stream.getvalue())
        found[form] = counts(opened(root))
    assert found.pop("export") == {"a": {"fig": 100, "leaf": 20}, "b c": {}}
    assert all(value == {"a": {"fig": 100, "leaf": 20}, "b c": {}} for value in found.values())


def test_set_of_points_alone_is_refused(tmp_path: Path) -> None:
    export(tmp_path, *(entry(tmp_path, f"{name}.jpg", region({"name": "point", "cx": 1, "cy": 1})) for name in "ab"))
    with pytest.raises(DefectError, match="has no outlined object with a label, but 2 point, which are not masks"):
        opened(tmp_path)


def test_an_image_in_two_files_is_a_defect_that_names_both(tmp_path: Path) -> None:
    regions = [entry(tmp_path, f"{name}.jpg", region(box(0, 0, 4, 4))) for name in "ab"]
    export(tmp_path, *regions)
    shape = json.dumps(box(0, 0, 4, 4)).replace('"', '""')
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    write(tmp_path / "via.csv", f'{header}\na.jpg,1,{{}},1,0,"{shape}",{{}}\n')
    with pytest.raises(DefectError, match=r"via.csv: 'a.jpg': a is described in via_region_data.json, too; keep one"):
        opened(tmp_path)


def version_3(root: Path, **changes: Any) -> Path:
    for name in ("a.jpg", "b.jpg"):
        image(root / name, height=HEIGHT, width=WIDTH)
    content = {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "figs"},
        "config": {"file": {"loc_prefix": {"1": ""}}},
        "attribute": {"1": {"aname": "kind", "type": 4, "options": {"0": "fig", "1": "leaf"}, "default_option_id": ""}},
        "file": {
            fid: {"fid": fid, "fname": name, "type": 2, "loc": 1} for fid, name in (("1", "a.jpg"), ("2", "b.jpg"))
        },
        "metadata": {
            "1_x": {"vid": "1", "flg": 0, "z": [], "xy": [7, 0, 0, 10, 0, 10, 10, 0, 10], "av": {"1": "0"}},
            "1_y": {"vid": "1", "flg": 0, "z": [], "xy": [2, 20, 20, 4, 5], "av": {"1": "1"}},
            "1_z": {"vid": "1", "flg": 0, "z": [], "xy": [1, 5, 5], "av": {"1": "1"}},
        },
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        **changes,
    }
    return write(root / "project.json", json.dumps(content))


def test_numbers_of_version_3_become_shapes_and_names(tmp_path: Path) -> None:
    version_3(tmp_path)
    dataset = opened(tmp_path)
    assert counts(dataset) == {"a": {"fig": 100, "leaf": 20}, "b": {}}
    assert has_note(dataset, "1 point")


def test_extreme_shapes_of_version_3_are_the_rectangle_and_the_circle_of_their_points(tmp_path: Path) -> None:
    points = [round(20 + 12 * f(angle), 6) for angle in (0.3, 1.9, 4.4) for f in (math.cos, math.sin)]
    shapes = {"1": [8, 12, 2, 4, 9, 20, 7, 11, 13], "2": [9, *points]}
    version_3(tmp_path, metadata={f"{view}_x": {"vid": view, "xy": xy, "av": {}} for view, xy in shapes.items()})
    found = {id: sum(labels.values()) for id, labels in counts(opened(tmp_path)).items()}
    root = tmp_path / "plain"
    shapes = {"1": [2, 4, 2, 16, 11], "2": [3, 20, 20, 12]}
    version_3(root, metadata={f"{view}_x": {"vid": view, "xy": xy, "av": {}} for view, xy in shapes.items()})
    assert found == {id: sum(labels.values()) for id, labels in counts(opened(root)).items()}
    assert found["a"] == 16 * 11 and found["b"] == pytest.approx(math.pi * 144, rel=0.02)


def test_video_of_version_3_is_refused_by_name(tmp_path: Path) -> None:
    version_3(
        tmp_path, file={"1": {"fid": "1", "fname": "a.mp4", "type": 4}, "2": {"fid": "2", "fname": "b", "type": 2}}
    )
    with pytest.raises(DataError, match="views of videos or of several files; annotate single images"):
        opened(tmp_path)


def test_several_attributes_are_asked_and_each_pasted_line_decides(tmp_path: Path) -> None:
    both = region(box(0, 0, 10, 10), kind="fig", state="ripe")
    export(tmp_path, entry(tmp_path, "a.jpg", both), entry(tmp_path, "b.jpg", region(box(0, 0, 2, 2), kind="leaf")))
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    lines = [line.removeprefix("# ") for line in str(caught.value).splitlines() if "class_property:" in line]
    assert lines == ["class_property: kind", "class_property: state"]
    write(tmp_path / "dataset.yaml", lines[0])
    assert counts(opened(tmp_path)) == {"a": {"fig": 100}, "b": {"leaf": 4}}
    write(tmp_path / "dataset.yaml", lines[1])
    assert counts(opened(tmp_path)) == {"a": {"ripe": 100}, "b": {"foreground": 4}}
    write(tmp_path / "dataset.yaml", "class_property: colour")
    with pytest.raises(DataError, match=r"no region has the attribute 'colour'.*known: kind, state"):
        opened(tmp_path)


def test_equal_attributes_choices_and_regions_without_one_have_one_reading(tmp_path: Path) -> None:
    export(
        tmp_path,
        entry(tmp_path, "a.jpg", region(box(0, 0, 10, 10), inseto="kudzu", insect="kudzu", note="")),
        entry(tmp_path, "b.jpg", region(box(0, 0, 2, 2), insect={"kudzu": True, "ladybird": False})),
        entry(tmp_path, "c.jpg", region(box(0, 0, 3, 3))),
    )
    assert counts(opened(tmp_path)) == {"a": {"kudzu": 100}, "b": {"kudzu": 4}, "c": {"foreground": 9}}


BROKEN = {
    "points": ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "as many all_points_x"),
    "two points": ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "at least 3 points"),
    "text": ({"name": "circle", "cx": "one", "cy": 1, "r": 3}, "a circle needs the numbers cx, cy, r"),
    "infinite": ({"name": "rect", "x": 1, "y": 1, "width": math.inf, "height": 3}, "a rect needs the numbers"),
    "too large": ({"name": "ellipse", "cx": 1, "cy": 1, "rx": 10**400, "ry": 3}, "a ellipse needs the numbers"),
    "turned too far": ({"name": "ellipse", "cx": 1, "cy": 1, "rx": 2, "ry": 3, "theta": 10**400}, "have to be finite"),
    "far outside": (box(0, 0, 400, 10), "outside"),
    "unknown": ({"name": "cuboid"}, "has the shape 'cuboid'; allowed are polygon"),
    "nothing": ({}, "has the shape None"),
    "a list as name": ({"name": ["polygon"]}, "has the shape None"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_shape_is_a_defect_of_its_image(tmp_path: Path, name: str) -> None:
    shape, expected = BROKEN[name]
    good = [entry(tmp_path, f"{letter}.jpg", region(box(0, 0, 4, 4), kind="fig")) for letter in "abc"]
    export(tmp_path, *good, entry(tmp_path, "d.jpg", region(shape, kind="fig")))
    with pytest.raises(DataError, match=expected) as caught:
        check_dataset(opened(tmp_path))
    assert "of d" in str(caught.value)


@pytest.mark.parametrize(
    "regions", [None, 3, "x", [None], [3], {"0": []}, [{"shape_attributes": 3, "region_attributes": {}}]]
)
def test_what_is_not_a_list_of_regions_is_a_defect_of_its_image(tmp_path: Path, regions: Any) -> None:
    good = [entry(tmp_path, f"{letter}.jpg", region(box(0, 0, 4, 4), kind="fig")) for letter in "abc"]
    export(tmp_path, *good, {**entry(tmp_path, "d.jpg"), "regions": regions})
    found = inspect_dataset(tmp_path).defects
    assert any(defect.detail.startswith("object 1 of d: has the shape None; allowed are polygon") for defect in found)


def test_images_that_are_missing_and_rows_that_are_damaged_are_named(tmp_path: Path) -> None:
    file = export(tmp_path, *(entry(tmp_path, f"{letter}.jpg", region(box(0, 0, 4, 4))) for letter in "abc"))
    (tmp_path / "b.jpg").unlink()
    dataset, defects = open_with_defects(tmp_path, DataConfig())
    assert all_ids(dataset) == ["a", "c"]
    assert [defect.file for defect in defects] == [file] and "'b.jpg', which is not in the dataset" in defects[0].detail
    table = tmp_path / "table"
    image(table / "a.jpg", height=HEIGHT, width=WIDTH)
    write(table / "via.csv", "filename,x,x,x,x,region_shape_attributes,region_attributes\na.jpg,1,{},1,0,{oops,{}\n")
    with pytest.raises(DataError, match="line 2: not readable as a row of VIA 2"):
        opened(table)


@pytest.mark.parametrize("value", [None, 3, "x", [], [3], [["a"]], {"1": 3}, {"1": {"fid_list": 3}}, {"1": []}])
@pytest.mark.parametrize("key", ["file", "view", "attribute", "metadata"])
def test_tables_of_another_kind_are_refused_in_one_line_or_empty(tmp_path: Path, key: str, value: Any) -> None:
    version_3(tmp_path, **{key: value})
    good = {"1_x": {"vid": "1", "xy": [7, 0, 0, 4, 0, 4, 4, 0, 4], "av": {}}}
    if key != "metadata":
        version_3(tmp_path, **{key: value, "metadata": good})
    try:
        found = [defect.detail for defect in inspect_dataset(tmp_path, data=DataConfig(format="via")).defects]
    except DataError as error:
        found = [str(error)]
    assert all(found)


BROKEN_EXTREMES = (
    *([8, 1, 2, 3], [8, *"abcdefgh"], [8, *8 * [None]], [8, 10**400, *7 * [1]], [8, math.inf, *7 * [1]]),
    *(
        [9, 1, 1, 2, 2, 3, 3],
        [9, 1, 1, 2, 2],
        [9, math.nan, 1, 2, 3, 4, 9],
        [9, 1e308, 1, -1e308, 2, 3, 3],
        [9, [1], 2],
    ),
)


@pytest.mark.parametrize("xy", [None, 3, [], [7.0, 1, 2], [True], ["7"], [99], [[7]], [7, 1, 2, 3], *BROKEN_EXTREMES])
def test_shapes_of_version_3_that_cannot_be_read_are_defects_of_their_image(tmp_path: Path, xy: Any) -> None:
    version_3(tmp_path, metadata={"1_x": {"vid": "1", "xy": xy, "av": {"1": "0"}}})
    defects = inspect_dataset(tmp_path, data=DataConfig(format="via")).defects
    assert any("object 1 of a" in defect.detail for defect in defects)
