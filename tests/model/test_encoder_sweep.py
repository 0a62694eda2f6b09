"""The sweep of benchmarks/encoders in its reduced form: encoders that are built and read in different ways."""

import os
import re
import time
from pathlib import Path

import pytest
from benchmarks.encoders.__main__ import main
from benchmarks.encoders.checks import check_encoder
from benchmarks.encoders.families import FAMILIES
from benchmarks.encoders.isolation import IsolatedFailure, call_isolated
from benchmarks.encoders.steps import checked
from benchmarks.encoders.table import Row, read_rows, write_page, write_rows
from timm.models import is_model

DOCS = Path(__file__).parents[2] / "docs"

DIFFERENT = {
    "test_resnet": "five levels",
    "test_convnext": "no stride 2",
    "test_mambaout": "channels last",
    "swin_tiny_patch4_window7_224": "channels last, and built for one size unless told otherwise",
    "test_maxvit": "windows of one size",
    "mobilevitv2_050": "patches that need even maps",
    "mobilenetv2_050": "EfficientNetFeatures",
    "mobilenetv3_small_050": "MobileNetV3Features",
    "cspnext_tiny": "FeatureGetterNet",
    "hrnet_w18_small": "HighResolutionNetFeatures, whose branches run side by side",
    "test_nfnet": "standardised weights, no norms",
    "ghostnet_050": "maps that are concatenations",
}


@pytest.mark.parametrize("encoder", DIFFERENT, ids=str)
def test_encoders_take_any_size_and_channels_train_and_survive_a_bundle(encoder):
    facts = check_encoder(encoder)
    assert facts.parameters > 0
    assert facts.macs > 0


def test_refusals_enter_the_table_with_the_errors_text():
    row = checked(Row("levit_128s", "LeViT", latency_ms=3.0))
    assert (row.status, row.latency_ms) == ("refused", 0.0)
    assert row.reason.startswith("encoder=levit_128s: its feature maps have strides [16, 32, 64]")


class TestPage:
    rows = read_rows(DOCS / "encoders.csv")

    def test_has_every_encoder_of_the_sweep(self):
        names = [name for family in FAMILIES.values() for name in family]
        assert len(names) == len(set(names))
        assert all(is_model(name) for name in names)
        assert list(self.rows) == names

    def test_has_none_that_fails(self):
        assert {row.status for row in self.rows.values()} <= {"works", "refused"}

    def test_has_forty_families_beside_the_two_that_work(self):
        assert len({row.family for row in self.rows.values() if row.status == "works"}) >= 42

    def test_is_what_the_figures_say(self, tmp_path):
        page = (DOCS / "encoders.md").read_text(encoding="utf-8")
        versions = re.search(r"measured them with (.*?)\. ", page)
        write_page(tmp_path / "encoders.md", list(self.rows.values()), versions=versions[1])
        assert (tmp_path / "encoders.md").read_text(encoding="utf-8") == page

    @pytest.mark.parametrize("encoder", ["levit_128s", "inception_v3"])
    def test_has_the_reasons_that_errors_give_now(self, encoder):
        assert checked(Row(encoder, "")).reason == self.rows[encoder].reason


def test_rows_survive_the_file(tmp_path):
    rows = [
        Row("a", "A", "works", "", 12, 0.125, 512, 32, "2 8 16", "x_in1k y_in1k", "x_in1k", 3.5, 1.25, "any CPU"),
        Row("b", "B", "refused", 'encoder=b: "no, never"\nat all'),
    ]
    write_rows(tmp_path / "rows.csv", rows)
    assert list(read_rows(tmp_path / "rows.csv").values()) == rows
    assert read_rows(tmp_path / "none.csv") == {}


class TestCommand:
    def test_renews_a_part_and_keeps_the_rest(self, tmp_path, capsys):
        known = Row("resnet18", "ResNet", "works", "", 12, 0.5, 512, 32, "2 8 16", "", "", 3.5, 1.0, "any CPU")
        write_rows(tmp_path / "encoders.csv", [known])
        assert main(["--only", "LeV*", "--no-latency", "--out", str(tmp_path)]) == 0
        rows = read_rows(tmp_path / "encoders.csv")
        assert rows["resnet18"] == known
        assert (rows["levit_128s"].status, rows["resnet34"].status) == ("refused", "unchecked")
        assert rows["levit_128s"].reason in (tmp_path / "encoders.md").read_text(encoding="utf-8")
        assert "[1/1] levit_128s: refused" in capsys.readouterr().out

    def test_refuses_a_pattern_that_matches_nothing(self, tmp_path, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(["--only", "nothing*", "--out", str(tmp_path)])
        assert "--only nothing*: no encoder" in capsys.readouterr().err


class TestIsolation:
    def test_hands_results_over(self):
        assert call_isolated(divmod, 17, 5, seconds=60, memory_gb=2) == (3, 2)

    def test_names_how_a_process_died(self):
        with pytest.raises(IsolatedFailure, match="died with status 7"):
            call_isolated(os._exit, 7, seconds=60, memory_gb=2)

    def test_bounds_memory(self):
        with pytest.raises(IsolatedFailure, match="died with status 1"):
            call_isolated(bytearray, 2**30, seconds=60, memory_gb=0.5)

    def test_ends_what_hangs(self):
        with pytest.raises(IsolatedFailure, match="no result after 1 s"):
            call_isolated(time.sleep, 1000, seconds=1, memory_gb=2)
