"""The folder in which copies of remote models are kept."""

from pathlib import Path

import pytest

from pyramidseg.base.remote_files import cache_folder


def test_variable_moves_the_folder_or_switches_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("PYRAMIDSEG_CACHE", "OFF")
    assert cache_folder() is None


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".cache/pyramidseg"),
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/pyramidseg"),
        ("darwin", {}, "Library/Caches/pyramidseg"),
        ("win32", {"LOCALAPPDATA": "{home}/local"}, "local/pyramidseg/Cache"),
        ("win32", {}, "AppData/Local/pyramidseg/Cache"),
    ],
)
def test_folder_follows_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("PYRAMIDSEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / expected
