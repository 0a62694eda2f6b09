import pytest

from pyramidseg.errors import OutputError
from pyramidseg.export.staging import staging


def test_nothing_is_left_of_the_place_nor_of_folders_made_for_it(tmp_path):
    target = tmp_path / "deep" / "out" / "best.onnx"
    with staging(target) as staged:
        assert staged.name == "best.onnx"
        staged.write_bytes(b"unchecked")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_goes_with_the_next_one_of_its_name(tmp_path):
    names = (".best.onnx.a_b4x9qz.part", ".other.onnx.a_b4x9qz.part", ".best.onnx.mine.part")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.onnx").write_bytes(b"half")
    with staging(tmp_path / "best.onnx"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_the_place_of_an_export_that_goes_on_stays(tmp_path):
    target = tmp_path / "best.onnx"
    with staging(target) as first:
        first.write_bytes(b"unchecked")
        with staging(target) as second:
            assert second != first
        assert first.read_bytes() == b"unchecked"


def test_a_place_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), staging(tmp_path / "file" / "best.onnx"):
        pass
