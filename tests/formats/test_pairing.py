from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_files import pairs
from pyramidseg.base.defects import DefectKind
from pyramidseg.formats.pairing import Side, key_of, pair, pair_folders

KEYS = st.lists(st.text("abAB", min_size=1, max_size=3), max_size=8)


@pytest.mark.parametrize("folder", ["images", ".", "/data/my.images", "deep/er"])
@pytest.mark.parametrize("name", ["a.jpg", "a.b.jpg", "sub/a.JPG", "sub.d/a", "a_jpg.rf.12.png"])
def test_key_is_the_path_below_the_folder_without_extension(folder: str, name: str) -> None:
    file = Path(folder, name)
    assert key_of(file, Path(folder)) == file.relative_to(folder).with_suffix("").as_posix()


@given(KEYS, KEYS)
def test_pairs_and_defects_account_for_every_file(image_keys: list[str], mask_keys: list[str]) -> None:
    images = Side(Path("i"), tuple(Path(f"i/{number}.jpg") for number in range(len(image_keys))), tuple(image_keys))
    masks = Side(Path("m"), tuple(Path(f"m/{number}.png") for number in range(len(mask_keys))), tuple(mask_keys))
    found = pair(images, masks)
    paired = {record.image for record in found.records} | {record.mask for record in found.records}
    defective = {defect.file for defect in found.defects}
    assert paired | defective == {*images.files, *masks.files}
    keys = dict(zip((*images.files, *masks.files), (*image_keys, *mask_keys), strict=True))
    for record in found.records:
        assert record.mask is not None
        assert keys[record.image].casefold() == keys[record.mask].casefold()
        if not found.notes:
            assert keys[record.image] == keys[record.mask] == record.id
    for defect in found.defects:
        alone = {DefectKind.MISSING_MASK: mask_keys, DefectKind.MISSING_IMAGE: image_keys}.get(defect.kind)
        assert alone is None or keys[defect.file] not in alone


def test_relative_folders_are_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs(tmp_path, tmp_path / "masks", ["a", "deep/b"])
    monkeypatch.chdir(tmp_path / "masks")
    found = pair_folders(Path(), Path())
    assert [record.id for record in found.records] == ["a", "deep/b"]
