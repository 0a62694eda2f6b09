import pytest

from pyramidseg.base.errors import OutputError
from pyramidseg.export.staging import staging


def test_the_folder_is_removed(tmp_path):
    target = tmp_path / "out" / "best.onnx"
    target.parent.mkdir()
    with staging(target) as staged:
        assert staged.name == "best.onnx"
        assert staged.parent.parent == target.parent  # the same file system
        staged.write_bytes(b"unchecked")
    assert list(target.parent.iterdir()) == []


def test_a_published_file_and_its_folder_stay(tmp_path):
    target = tmp_path / "out" / "best.onnx"
    target.parent.mkdir()
    with staging(target) as staged:
        staged.write_bytes(b"checked")
        staged.replace(target)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["best.onnx"]


def test_concurrent_exports_of_one_name_have_folders_of_their_own(tmp_path):
    target = tmp_path / "best.onnx"
    with staging(target) as first:
        first.write_bytes(b"unchecked")
        with staging(target) as second:
            assert second != first
        assert first.read_bytes() == b"unchecked"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_removes_the_folder(tmp_path, error):
    def fail():
        with staging(tmp_path / "best.onnx") as staged:
            staged.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), staging(tmp_path / "file" / "best.onnx"):
        pass
