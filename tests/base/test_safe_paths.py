from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.safe_paths import is_file, resolve_inside


def named(name: object, root: str = "set", folder: str = "set/train") -> Path:
    return resolve_inside(name, folder=Path(folder), root=Path(root), where=Path("set/a.json"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "set/train/a.jpg"),
        ("deep/a.jpg", "set/train/deep/a.jpg"),
        ("deep\\a.jpg", "set/train/deep/a.jpg"),
        ("../images/a.jpg", "set/images/a.jpg"),
        ("..\\images\\a.jpg", "set/images/a.jpg"),
        ("./a.jpg", "set/train/a.jpg"),
        ("Bildschirmfoto 9.41\u202fam.png", "set/train/Bildschirmfoto 9.41\u202fam.png"),
    ],
)
def test_names_are_relative_to_the_folder(name: str, expected: str) -> None:
    assert named(name) == Path(expected)


@pytest.mark.parametrize(
    "name",
    [
        "../../a.jpg",
        "..\\..\\a.jpg",
        "/etc/passwd",
        "C:\\images\\a.jpg",
        "c:a.jpg",
        "\\\\server\\share\\a.jpg",
        "\\a.jpg",
        "x/../../../a.jpg",
        "../../set2/a.jpg",
    ],
)
@pytest.mark.parametrize("root", ["set", "."])
def test_names_that_lead_out_are_refused(name: str, root: str) -> None:
    with pytest.raises(DefectError, match=r"^set/a\.json: .* is outside the dataset") as caught:
        named(name, root, "set/train" if root == "set" else ".")
    assert caught.value.defect.kind == DefectKind.OUTSIDE


def test_absolute_paths_that_lead_into_the_dataset_are_inside(tmp_path: Path) -> None:
    root, link = tmp_path / "set", tmp_path / "link"
    root.mkdir()
    link.symlink_to(root)
    for there in (root, link):
        for written in (root, link):
            path = resolve_inside(f"{written}/x/../a.jpg", folder=there / "train", root=there, where=there / "a.json")
            assert path == there / "a.jpg"


@pytest.mark.parametrize("name", ["set2/a.jpg", "set/../a.jpg", "link/a.jpg"])
def test_absolute_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(DefectError, match="is outside the dataset"):
        resolve_inside(
            f"{tmp_path}/{name}", folder=tmp_path / "set", root=tmp_path / "set", where=tmp_path / "set/a.json"
        )


@pytest.mark.parametrize("name", [None, 7, "", "  ", "a\0.jpg", "a\nb.jpg", "\ud800.jpg", ["a.jpg"]])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(DefectError, match="is not a file name") as caught:
        named(name)
    assert caught.value.defect.kind == DefectKind.BAD_ANNOTATION


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "c:", "~"]), max_size=8), st.sampled_from(["/", "\\"]))
def test_whatever_is_returned_lies_inside(parts: list[str], slash: str) -> None:
    try:
        path = named(slash.join(parts))
    except DefectError:
        return
    assert path.parts[0] == "set"
    assert ".." not in path.parts


def test_names_that_no_file_system_takes_are_no_files() -> None:
    assert not is_file(Path("a" * 5000))
    assert not is_file(Path("a\0"))
