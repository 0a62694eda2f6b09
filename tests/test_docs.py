"""The documentation's Python is run as it is written, its links lead somewhere, and its settings exist."""

import json
import logging
import re
import shutil
import warnings
from pathlib import Path

import pytest

from pyramidseg.base.overrides import SETTINGS
from pyramidseg.demo.scenes import draw_scene, write_scenes
from pyramidseg.formats.open_dataset import FORMATS
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.model.encoder import DEPTHS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])


LARGE, SMALL = 'encoder="resnet18"', 'encoder="test_resnet", pyramid_channels=32, segmentation_channels=32'
"""The network of the pages, and one that executes the same statements in a fraction of the time."""


def blocks_of(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps an epoch; not to be changed."""
    return write_scenes(tmp_path_factory.mktemp("street"), train=8, val=2, height=72, width=96).parent


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_python_runs_as_written(
    page: Path, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    monkeypatch.chdir(tmp_path)
    shutil.copytree(street, "street")
    for name in ("photo.png", "photo.jpg"):
        cv2.imwrite(name, draw_scene(99, height=72, width=96).image[:, :, ::-1])
    space: dict[str, object] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        for block in blocks_of(page):
            exec(compile(block.replace(LARGE, SMALL), f"{page.name}", "exec"), space)


def test_the_quick_start_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    logger = logging.getLogger("pyramidseg")
    before = logger.level, logger.propagate, list(logger.handlers)
    space: dict[str, object] = {}
    try:
        for number, cell in enumerate(notebook["cells"]):
            if cell["cell_type"] == "code":
                # Two epochs of 16 scenes execute the same statements in a tenth of the time.
                source = (
                    "".join(cell["source"])
                    .replace("train=120", "train=16")
                    .replace("epochs=4", "epochs=2")
                    .replace(LARGE, 'encoder="test_resnet"')
                )
                exec(compile(source, f"cell {number}", "exec"), space)
    finally:  # the notebook calls configure_logging
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1], before[2]
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http", "mailto")):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_named_in_the_documentation_exist(page: Path) -> None:
    known = set(SETTINGS)
    sections = "|".join(sorted({name.partition(".")[0] for name in known}))
    for name in re.findall(rf"`(?:[^`]*\s)?((?:{sections})\.[a-z_]+)=", page.read_text(encoding="utf-8")):
        assert name in known, name


FORMAT_PAGES = {
    page.stem: page.read_text(encoding="utf-8")
    for page in PAGES
    if page.parent.name == "formats" and page.stem not in ("dataset_yaml", "outlines")
}


def section(page: str, heading: str) -> str:
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", FORMAT_PAGES)
def test_a_page_of_a_format_has_its_files_both_directions_and_what_is_lost(page: str) -> None:
    text = FORMAT_PAGES[page]
    assert "```" in section(text, "Files") and section(text, "What is read") and section(text, "What is refused")
    assert "pyramidseg convert" in section(text, "Written") and "**Lost**" in section(text, "Written")


def test_every_format_that_is_read_or_written_has_a_page() -> None:
    headings = " ".join(text.partition("\n")[0] for text in FORMAT_PAGES.values())
    assert [name for name in FORMATS if f"`{name}`" not in headings] == []
    written = " ".join(section(text, "Written") for text in FORMAT_PAGES.values())
    assert [name for name in LABEL_WRITERS if not re.search(rf"(--to |`){name}[` ]", written)] == []
    known = (ROOT / "docs" / "formats" / "dataset_yaml.md").read_text(encoding="utf-8").partition("`format` |")[2]
    assert [name for name in FORMATS if f"`{name}`" not in known.partition("\n")[0]] == []


def test_the_readme_names_every_depth() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert ", ".join(map(str, DEPTHS["resnet"])) in text
