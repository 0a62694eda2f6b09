"""The demo's folder: what is discarded, what is left alone, and that an interrupted demo can be repeated."""

import os
from pathlib import Path

import pytest

from pyramidseg.base.errors import OutputError
from pyramidseg.cli import demo
from pyramidseg.cli.main import main
from pyramidseg.demo import scenes as scenes_module
from pyramidseg.demo.scenes import draw_scene, write_scenes


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def earlier_demo(out: Path) -> Path:
    """What a demo leaves, in small."""
    write_scenes(out / "scenes", train=1, val=1, height=32, width=32)
    for name in ("run/best.safetensors", "run/plots/iou.png", "new/new_0.png", "predictions/new_0.png"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"earlier")
    return out


@pytest.mark.parametrize("drawn", range(3))
def test_a_demo_that_was_interrupted_while_it_drew_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: int
) -> None:
    out, left = tmp_path / "demo", drawn

    def interrupted(*arguments: object, **options: object) -> object:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return draw_scene(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scenes_module, "draw_scene", interrupted)
    assert main(["demo", "--out", str(out), "--overwrite"]) == 130
    assert len(files_in(out)) == 1 + 2 * drawn
    with pytest.raises(OutputError, match="exists already; delete an earlier demo with --overwrite"):
        demo.delete_earlier_demo(out, overwrite=False)
    demo.delete_earlier_demo(out, overwrite=True)
    assert not files_in(out)


@pytest.mark.parametrize("deleted", range(9))
def test_discarding_that_was_interrupted_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    out, left = earlier_demo(tmp_path / "demo"), deleted

    def interrupted(path: object, **options: object) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        unlink(path, **options)  # type: ignore[arg-type]

    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", interrupted)
    assert deleted < len(files_in(out))
    with pytest.raises(KeyboardInterrupt):
        demo.delete_earlier_demo(out, overwrite=True)
    monkeypatch.undo()
    demo.delete_earlier_demo(out, overwrite=True)
    assert not files_in(out)


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--scenes", "0"], ["--scenes", "-1"]])
def test_an_earlier_demo_outlives_settings_that_are_not_possible(tmp_path: Path, arguments: list[str]) -> None:
    out = earlier_demo(tmp_path / "demo")
    before = files_in(out)
    assert main(["demo", "--out", str(out), "--overwrite", *arguments]) == 2
    assert files_in(out) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "thesis.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path), "--overwrite"]) == 2
    assert "is not an earlier demo" in capsys.readouterr().err
    assert main(["demo", "--out", str(tmp_path / "scenes" / "thesis.txt"), "--overwrite"]) == 2
    assert (tmp_path / "scenes" / "thesis.txt").read_text() == "mine"


def test_empty_folders_are_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "scenes" / "train").mkdir(parents=True)  # as an interruption at the very beginning or end leaves
    demo.delete_earlier_demo(tmp_path, overwrite=False)
    demo.delete_earlier_demo(tmp_path / "nowhere", overwrite=False)


def test_links_are_deleted_and_not_what_they_lead_to(tmp_path: Path) -> None:
    out = earlier_demo(tmp_path / "demo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    (out / "run" / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "elsewhere").symlink_to(out)
    demo.delete_earlier_demo(tmp_path / "elsewhere", overwrite=True)
    assert not files_in(out)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_and_not_taken_for_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "new_0.png").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"new_0\.png: cannot be written: the disk is full"):
        demo.write_new_scenes(tmp_path, first=0)
