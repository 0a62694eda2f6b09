"""Windows of val and of training keep a distance on the map, whatever the scenes; nothing else decides but names."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_files import has_note, opened
from made_geo import UTM, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats import splitting
from pyramidseg.formats.splitting import with_val_blocks
from pyramidseg.images.georeference import parse_crs, read_georeference, reproject
from pyramidseg.images.scene_windows import SceneWindow

WINDOW = 100


def windows(rows: int, columns: int, name: str = "a") -> tuple[Record, ...]:
    return tuple(
        Record(f"{name}#y{top}x{left}", SceneWindow(Path(f"{name}.tif"), top, left, WINDOW, WINDOW).path)
        for top in range(0, rows * WINDOW, WINDOW)
        for left in range(0, columns * WINDOW, WINDOW)
    )


def split(
    monkeypatch: pytest.MonkeyPatch, records: tuple[Record, ...], share: float = 0.2, **settings: object
) -> Dataset:
    monkeypatch.setattr(splitting, "read_georeference", lambda path: None)
    monkeypatch.setattr(splitting, "image_size", lambda path: (WINDOW, WINDOW))
    dataset = Dataset("set", "", None, None, {"train": records})  # type: ignore[arg-type]
    return with_val_blocks(dataset, share, LabelConfig(window=WINDOW, **settings))  # type: ignore[arg-type]


def corner(record: Record) -> np.ndarray:
    top, _, left = record.id.partition("#y")[2].partition("x")
    return np.array([int(top), int(left)])


def distance_px(one: Record, other: Record) -> int:
    return max(0, int(np.abs(corner(one) - corner(other)).max()) - WINDOW)


@given(st.integers(3, 14), st.integers(3, 14), st.sampled_from([None, 0, 1, 100, 150]), st.floats(0.05, 0.4))
@settings(max_examples=25, deadline=None)
def test_every_training_window_is_as_far_from_val_as_the_gap(
    rows: int, columns: int, gap: int | None, share: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        records = windows(rows, columns)
        try:
            found = split(patch, records, share, window_gap=gap)
        except DataError:
            assert gap == 150 and min(rows, columns) < 7
            return
        again = split(patch, records[::-1], share, window_gap=gap)
    val, train = found.splits["val"], found.splits["train"]
    assert {*again.splits["val"]} == {*val} and {*again.splits["train"]} == {*train}
    wanted = WINDOW if gap is None else gap
    assert all(distance_px(one, other) >= wanted for one in val for other in train)
    left_out = {*records} - {*val} - {*train}
    assert all(any(distance_px(one, other) < wanted for other in val) for one in left_out)
    assert has_note(found, f"{len(left_out)} windows less than {wanted} pixels away")
    assert not {*val} & {*train} and len(train) >= (1 - share) * len(records) / 2


@pytest.mark.parametrize(("rows", "share", "gap"), [(8, 0.2, 1 / 3), (20, 0.2, 0.25), (40, 0.1, 0.2)])
def test_val_has_about_the_share_in_several_windows_and_the_gap_is_not_large(
    monkeypatch: pytest.MonkeyPatch, rows: int, share: float, gap: float
) -> None:
    found = split(monkeypatch, windows(rows, rows), share)
    val, train = len(found.splits["val"]), len(found.splits["train"])
    assert 0.7 * share <= val / rows**2 <= 1.5 * share and 1 - (val + train) / rows**2 <= gap
    neighbours = Counter(
        any(0 < np.abs(corner(one) - corner(other)).sum() <= WINDOW for other in found.splits["val"])
        for one in found.splits["val"]
    )
    assert neighbours[True] >= 0.9 * val  # blocks, not single windows


def test_too_few_windows_are_refused_with_settings_that_help(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"set: 4 windows are too few.*data\.window=50 or data\.window_gap=0"):
        split(monkeypatch, windows(2, 2))
    assert len(split(monkeypatch, windows(2, 2), window_gap=0).splits["val"]) == 1


def test_sequences_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    records = tuple(record for name in ("a_1", "a_2", "b_1", "c_1") for record in windows(3, 3, name))
    found = split(monkeypatch, records, 0.25, group=r"^(\w)_")
    of_split = [{record.id[0] for record in found.splits[name]} for name in ("train", "val")]
    assert not of_split[0] & of_split[1] and len(found.splits["train"]) + len(found.splits["val"]) == 36


def test_scenes_that_overlap_on_the_map_do_not_leak(tmp_path: Path) -> None:
    """Two flights over one place: what is near a val window of one is not a training window of the other."""
    shifted = (0.5, 0.0, 733601.0 + 0.5 * 40, 0.0, -0.5, 3725139.0 - 0.5 * 24)
    for name, transform in (("a", None), ("b", shifted)):
        options = {} if transform is None else {"transform": transform}
        write_image(tmp_path / f"{name}.tif", np.ones((256, 256, 3), np.uint8), photometric="RGB", **options)
    write_geojson(tmp_path / "all.geojson", [feature(polygon(on_map(box(0, 0, 200, 200))))])
    dataset = opened(tmp_path, window=32)
    boxes = {}
    for name in ("train", "val"):
        places = [read_georeference(record.image) for record in dataset.splits[name]]
        boxes[name] = [place.bounds(32, 32) for place in places if place is not None]
    assert boxes["val"] and boxes["train"]
    for left, low, right, high in boxes["val"]:
        for box_ in boxes["train"]:
            distance = max(left - box_[2], box_[0] - right, low - box_[3], box_[1] - high)
            assert distance >= 32 * 0.5 - 0.01


@pytest.mark.parametrize(("shift_px", "is_noted"), [(40, True), (256, False)])
def test_joined_datasets_that_overlap_on_the_map_are_noted(shift_px: int, is_noted: bool, tmp_path: Path) -> None:
    """Each set keeps a gap between its own windows; its training windows may show what the other's val shows."""
    for name, left in (("a", 733601.0), ("b", 733601.0 + 0.5 * shift_px)):
        (tmp_path / name).mkdir()
        options = {"photometric": "RGB", "transform": (0.5, 0.0, left, 0.0, -0.5, 3725139.0)}
        write_image(tmp_path / name / f"{name}.tif", np.ones((256, 256, 3), np.uint8), **options)
        write_geojson(tmp_path / name / "all.geojson", [feature(polygon(on_map(box(0, 0, 200, 200))))])
    sources = {"sources": [{"path": name, "rename": {"foreground": "roof"}} for name in "ab"]}
    (tmp_path / "both.yaml").write_text(json.dumps(sources), encoding="utf-8")
    dataset = opened(tmp_path / "both.yaml", window=32)
    assert has_note(dataset, "show places that validation windows show, too") == is_noted


PLACES = {
    "the next zone": ("EPSG:32617", (0.5, 0.0, 177103.0, 0.0, -0.5, 3727719.0)),
    "degrees": ("EPSG:4326", (5.39e-6, 0.0, -84.48109, 0.0, -4.51e-6, 33.64036)),
}


@pytest.mark.parametrize("place", PLACES)
def test_scenes_in_other_coordinate_systems_do_not_leak_either(place: str, tmp_path: Path) -> None:
    crs, transform = PLACES[place]
    values = np.ones((128, 128, 3), np.uint8)
    write_image(tmp_path / "a.tif", values, photometric="RGB")
    write_image(tmp_path / "b.tif", values, photometric="RGB", crs=crs, transform=transform)
    write_image(tmp_path / "c.tif", values[:64, :64], photometric="RGB", crs="EPSG:32756")  # far away
    write_geojson(tmp_path / "all.geojson", [feature(polygon(on_map(box(0, 0, 200, 200))))])
    dataset = opened(tmp_path, window=32, val_share=0.3)
    boxes: dict[str, list[tuple[str, np.ndarray]]] = {"train": [], "val": []}
    for name, of_split in boxes.items():
        for record in dataset.splits[name]:
            own = read_georeference(record.image)
            if own is not None and record.id[0] != "c":
                corners = own.to_map(np.array([(0, 0), (32, 0), (0, 32), (32, 32)], np.float64))
                on_plane = reproject(corners, source=own.crs, target=parse_crs(UTM))
                of_split.append((record.id[0], np.array([on_plane.min(0), on_plane.max(0)])))
    pairs = [(one, other) for one in boxes["val"] for other in boxes["train"]]
    assert any(of_val != of_train for (of_val, _), (of_train, _) in pairs)
    distances = [max((one[0] - other[1]).max(), (other[0] - one[1]).max()) for (_, one), (_, other) in pairs]
    assert min(distances) >= 0.9 * 32 * 0.5
    assert sum(record.id[0] == "c" for name in boxes for record in dataset.splits[name]) == 4
