import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planted_pairs import scene, write_pair
from planting import FORMATS, paired, write_dataset
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import OutputError
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Record
from pyramidseg.inspection.inspect_dataset import Inspection, inspect_dataset
from pyramidseg.inspection.inspection_report import (
    MAX_SHOWN,
    check_output_folder,
    render_inspection,
    to_json,
    write_inspection,
)

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open) and data.strip():
            self.text.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    layout = paired(tmp_path_factory.mktemp("made") / "data")
    write_dataset(layout, seed=1, good=150, times=3)
    return inspect_dataset(layout.source)


class TestPage:
    def test_is_well_formed_and_loads_nothing_from_elsewhere(self, found: Inspection, tmp_path: Path) -> None:
        text = render_inspection(found, tmp_path)
        made = Page(text)
        sources = [attributes[name] for _, attributes in made.tags for name in ("src", "href") if name in attributes]
        assert len(sources) == 2 * len(found.samples)
        assert found.samples
        assert all(source.startswith("data:image/") for source in sources)
        assert "http://" not in text
        assert "https://" not in text
        assert "url(" not in text

    def test_every_defect_is_named_with_its_file(self, found: Inspection, tmp_path: Path) -> None:
        text = Page(render_inspection(found, tmp_path)).text
        root = Path(found.dataset.source)
        for defect in found.defects:
            assert str(defect.file.relative_to(root)) in text
            assert defect.detail in text

    def test_every_picture_has_alternative_text(self, found: Inspection, tmp_path: Path) -> None:
        made = Page(render_inspection(found, tmp_path))
        assert all(attributes["alt"] for tag, attributes in made.tags if tag == "img")

    def test_names_are_escaped(self, tmp_path: Path) -> None:
        hostile = "<script>alert('x')<br>\" onerror=\"alert(1)"
        records = []
        for index in range(2):
            image, labels = scene(np.random.default_rng(index))
            record = Record(f"{index}{hostile}", tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png")
            layout = dataset_from_records(classes=[hostile, "b", "c"])
            write_pair(_one(record), "", "", image, labels)
            records.append(record)
        made = dataset_from_records(train=records[:1], val=records[1:], classes=[hostile, "b", "c"])
        text = render_inspection(inspect_dataset(made), tmp_path)
        assert hostile not in text
        assert sum(tag == "script" for tag, _ in Page(text).tags) == 1
        assert layout.classes.names[0] == hostile

    def test_number_of_defects_not_shown_is_stated(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=2, good=8)
        for index in range(MAX_SHOWN + 7):
            layout.mask("train", "good_000").with_name(f"alone_{index:03}.png").write_bytes(b"")
        text = Page(render_inspection(inspect_dataset(layout.source), tmp_path)).text
        assert "7 more of this kind are listed in inspection.json." in text


class TestJson:
    def test_holds_every_defect(self, found: Inspection) -> None:
        content = json.loads(json.dumps(to_json(found), allow_nan=False))
        assert [(DefectKind(entry["kind"]), entry["file"], entry["detail"]) for entry in content["defects"]] == [
            (defect.kind, str(defect.file), defect.detail) for defect in found.defects
        ]
        assert set(content["defects"][0]) == {"kind", "file", "detail"}

    def test_holds_the_statistics(self, found: Inspection) -> None:
        content = to_json(found)
        for split, summary in found.summaries.items():
            assert [entry["splits"][split]["pixels"] for entry in content["classes"]] == list(summary.pixels)
            assert content["splits"][split]["images"] == len(found.dataset.splits[split])
        assert {(size["height"], size["width"]): size["images"] for size in content["sizes"]} == found.sizes


class TestOut:
    @pytest.fixture
    def inspection(self, tmp_path: Path) -> Inspection:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=3, good=8)
        return inspect_dataset(layout.source)

    def test_writes_page_json_and_proposals(self, inspection: Inspection, tmp_path: Path) -> None:
        write_inspection(tmp_path / "out", inspection)
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"inspection.html", "inspection.json", "dataset.yaml", "settings.yaml"}

    def test_earlier_inspection_is_replaced_only_with_overwrite(self, inspection: Inspection, tmp_path: Path) -> None:
        check_output_folder(tmp_path / "out", overwrite=False)
        write_inspection(tmp_path / "out", inspection)
        with pytest.raises(
            OutputError, match=r"already contains inspection\.html; use `overwrite` to replace this inspection"
        ):
            check_output_folder(tmp_path / "out", overwrite=False)
        check_output_folder(tmp_path / "out", overwrite=True)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_edited_dataset_file_is_never_overwritten(
        self, inspection: Inspection, tmp_path: Path, overwrite: bool
    ) -> None:
        write_inspection(tmp_path / "out", inspection)
        file = tmp_path / "out" / "dataset.yaml"
        file.write_text(file.read_text().replace("ground", "soil"))
        with pytest.raises(OutputError, match=r"dataset\.yaml: was edited|already contains"):
            check_output_folder(tmp_path / "out", overwrite=overwrite)

    def test_other_files_are_never_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.yaml").write_text("classes: [a, b]")
        with pytest.raises(OutputError, match=r"already contains dataset\.yaml; it is not from an inspection"):
            check_output_folder(tmp_path, overwrite=True)
        (tmp_path / "thesis.txt").write_text("mine")
        check_output_folder(tmp_path / "other", overwrite=False)

    def test_outdated_proposal_is_removed(self, inspection: Inspection, tmp_path: Path) -> None:
        write_inspection(tmp_path, inspection)
        splits = inspection.dataset.splits
        made = dataset_from_records(train=splits["train"], val=splits["val"], classes=["a", "b", "c"])
        write_inspection(tmp_path, inspect_dataset(made, data=DataConfig()))
        assert not (tmp_path / "dataset.yaml").exists()
        check_output_folder(tmp_path, overwrite=True)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_a_well_formed_page(tmp_path: Path, format: str) -> None:
    layout = FORMATS[format](tmp_path / "data")
    write_dataset(layout, seed=4, good=8)
    Page(render_inspection(inspect_dataset(layout.source), tmp_path))


def _one(record: Record) -> Any:
    """A layout of one pair."""
    assert record.mask is not None
    layout = paired(record.image.parent / f"{record.image.stem}_unused")
    layout.image = lambda split, name: record.image
    layout.mask = lambda split, name: record.mask or Path()
    return layout
