import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyramidseg.base.classes import Classes
from pyramidseg.base.text import is_printable
from pyramidseg.evaluation.metrics import Scores, compute_metrics
from pyramidseg.evaluation.score_plots import confusion_heatmap, iou_bars, save_plots


def made_scores(names):
    size = len(names)
    confusion = torch.from_numpy(np.random.default_rng(0).integers(0, 100, (size, size)))
    confusion[-1], confusion[:, -1] = 0, 0
    return Scores(compute_metrics(confusion, Classes.from_names(names), images=1), confusion, (), None)


def texts(svg):
    return [node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def size_of(png):
    return Image.open(io.BytesIO(png)).size


@pytest.mark.parametrize("count", [1, 2, 30, 60])
def test_png_size_is_bounded_for_any_number_of_classes(count):
    scores = made_scores([f"class {index}" for index in range(count)])
    for png in (iou_bars(scores.metrics), confusion_heatmap(scores.confusion, Classes.unnamed(count).names)):
        assert max(size_of(png)) < 3000


@given(st.lists(st.text(min_size=1, max_size=8).filter(is_printable), min_size=1, max_size=3, unique=True))
@settings(max_examples=6, deadline=None)
def test_any_class_name_can_be_drawn(names):
    scores = made_scores(names)
    for format in ("png", "svg"):
        assert iou_bars(scores.metrics, format=format)
        assert confusion_heatmap(scores.confusion, names, format=format)


@pytest.mark.parametrize("name", ["$\\frac$", "<script>alert(1)</script>", "道路", "-->", "&amp;", "_"])
def test_names_are_drawn_unchanged(name):
    names = [name, "other"]
    drawn = texts(confusion_heatmap(made_scores(names).confusion, names, format="svg"))
    shown = name if len(name) <= 22 else f"{name[:21]}…"
    assert drawn.count(shown) == 2


def test_absent_class_is_labelled_not_present():
    assert "not present" in texts(iou_bars(made_scores(["a", "b"]).metrics, format="svg"))


def test_heatmap_shows_shares_of_each_true_class():
    confusion = torch.tensor([[3, 1], [0, 0]])
    drawn = texts(confusion_heatmap(confusion, ["a", "b"], format="svg"))
    assert [text for text in drawn if text.isdigit()] == ["75", "25"]


def test_equal_plots_are_equal_bytes():
    scores = made_scores(["a", "b"])
    assert iou_bars(scores.metrics, format="svg") == iou_bars(scores.metrics, format="svg")


@pytest.mark.usefixtures("figures")
def test_save_plots_writes_pngs(tmp_path):
    save_plots(tmp_path / "plots", made_scores(["a", "b"]), history=[{"epoch": 1, "val_loss": 0.5}])
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"iou.png", "confusion.png", "curves.png"}
