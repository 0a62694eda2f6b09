import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_files import write
from pyramidseg.base.defects import DefectKind
from pyramidseg.formats.class_lists import PARSERS, find_class_list
from pyramidseg.formats.dataset_format import SourceLabel

BLACK, RED = (0, 0, 0), (255, 0, 0)


def flaws_of(folder: Path, name: str) -> list[str]:
    found = find_class_list(folder)
    assert not found.labels
    assert {(defect.kind, defect.file) for defect in found.defects} == {(DefectKind.BAD_ANNOTATION, folder / name)}
    return [defect.detail for defect in found.defects]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\nripe fig:255,0,0:stem:\n",
            [SourceLabel("background", 0, BLACK), SourceLabel("ripe fig", 1, RED)],
        ),
        (
            "labelmap.txt",
            "background:::\nfig:::\n",
            [SourceLabel("background", 0, BLACK), SourceLabel("fig", 1, (128, 0, 0))],
        ),
        ("class_dict.csv", "name,r,g,b\nfig, 255,0,0\n", [SourceLabel("fig", 0, RED)]),
        ("class_dict.csv", 'r,g,b,name\r\n255,0,0,"fig, ripe"\r\n', [SourceLabel("fig, ripe", 0, RED)]),
        (
            "class_dict_seg.csv",
            "name, r, g, b\nunlabeled, 0, 0, 0\nfig, 255, 0, 0\n",
            [SourceLabel("unlabeled", 0, BLACK, ignored=True), SourceLabel("fig", 1, RED)],
        ),
        (
            "label_colors.txt",
            "255 0 0\tripe fig\n0 0 0\t\tVoid\n",
            [SourceLabel("ripe fig", 0, RED), SourceLabel("Void", 1, BLACK, ignored=True)],
        ),
        (
            "_classes.csv",
            "Pixel Value, Class\n0, background\n3, fig\n",
            [SourceLabel("background", 0), SourceLabel("fig", 3)],
        ),
        ("class_names.txt", "__ignore__\n_background_\nfig\n", [SourceLabel("background", 0), SourceLabel("fig", 1)]),
        ("codes.txt", "Animal\nVoid\n", [SourceLabel("Animal", 0), SourceLabel("Void", 1, ignored=True)]),
        ("Classes.TXT", "\ufefffig\n\n", [SourceLabel("fig", 0)]),
    ],
)
def test_list_is_read(tmp_path: Path, name: str, text: str, expected: list[SourceLabel]) -> None:
    write(tmp_path / name, text)
    found = find_class_list(tmp_path)
    assert list(found.labels) == expected
    assert found.notes == (f"{name} names the classes",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labelmap.txt", "fig:1,2::\n", "line 1: 'fig:1,2::': a colour of three numbers"),
        ("labelmap.txt", "a:0,0,0::\n\n:1,1,1::\n", "line 3: a class without a name"),
        (
            "class_dict.csv",
            "name,red,g,b\nfig,1,2,3\n",
            "the first line has to name the columns name, r, g, b; got 'name, red",
        ),
        ("class_dict.csv", "name,r,g,b\nfig,1,2\n", "line 2: 'fig,1,2': 4 columns are needed"),
        ("class_dict.csv", "name,r,g,b\nfig,1,2,300\n", "three numbers from 0 to 255"),
        (
            "class_dict.csv",
            "name,r,g,b\nfig,1,2,3\ndate,1,2,3\n",
            r"'fig' and 'date' have the same value or colour, \(1, 2, 3\)",
        ),
        ("class_dict.csv", "", "the first line has to name the columns"),
        ("label_colors.txt", "0 0 0\n", "line 1: a class without a name"),
        ("label_colors.txt", "red fig\n", "three numbers from 0 to 255"),
        ("_classes.csv", "Pixel Value,Class\n-1,fig\n", "the pixel value has to be a number from 0 to 65535"),
        ("_classes.csv", "Pixel Value,Class\n1,fig\n1,date\n", "'fig' and 'date' have the same value"),
        ("classes.txt", "\n", "contains no class names"),
        ("classes.txt", "void\nUnlabelled\n", "contains only ignored classes"),
        ("_classes.csv", f"Pixel Value,Class\n{'1' * 5000},fig\n", "line 2: .*a number from 0 to 65535"),
        ("_classes.csv", f"Pixel Value,Class\n1,{'x' * 140_000}\n", "line 2: .* 2 columns are needed"),
        ("labelmap.txt", f"fig:0,0,{'1' * 5000}::\n", "line 1: .*three numbers from 0 to 255"),
    ],
)
def test_damaged_list_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    write(tmp_path / name, text)
    (detail,) = flaws_of(tmp_path, name)
    assert re.search(message, detail)
    assert len(detail) < 300
    assert "\n" not in detail


def test_every_damaged_line_is_named(tmp_path: Path) -> None:
    write(tmp_path / "class_dict.csv", "name,r,g,b\nfig,1,2,300\ndate,1,2\nsloe,4,5,6\n,7,8,9\nplum,4,5,6\n")
    assert [detail.split(":")[0] for detail in flaws_of(tmp_path, "class_dict.csv")] == [
        *("line 2", "line 3", "line 5"),
        "'sloe' and 'plum' have the same value or colour, (4, 5, 6); give each its own",
    ]


def test_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
    assert flaws_of(tmp_path, "classes.txt") == ["is not UTF-8 text (probably UTF-16); save it as UTF-8"]


def test_huge_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"a\n" * 2**20)
    assert flaws_of(tmp_path, "classes.txt") == ["is larger than 1 MB, the limit"]


def test_first_of_several_is_used_with_a_note(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "a\nb\n")
    write(tmp_path / "class_dict.csv", "name,r,g,b\nfig,1,2,3\n")
    found = find_class_list(tmp_path)
    assert [label.name for label in found.labels] == ["fig"]
    assert found.notes == ("class_dict.csv names the classes; classes.txt is not read",)


def test_folder_without_a_list_has_none(tmp_path: Path) -> None:
    for name in PARSERS:
        (tmp_path / name).mkdir()  # folders are not lists
    assert find_class_list(tmp_path) == ((), (), ())


@given(st.sampled_from(sorted(PARSERS)), st.text('aZ0129,:;#" \t\n-é\x00', max_size=60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_list_or_defects(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str, headed: bool
) -> None:
    folder = tmp_path_factory.mktemp("list")
    header = (
        {"_classes.csv": "Pixel Value, Class\n"}.get(name, "name,r,g,b\n") if headed and name.endswith("csv") else ""
    )
    write(folder / name, header + text)
    found = find_class_list(folder)
    is_unread = name == "labels.txt" and any("it has more than a name in a line" in note for note in found.notes)
    assert bool(found.labels) + bool(found.defects) + is_unread == 1
    assert all(label.name.strip() for label in found.labels)
