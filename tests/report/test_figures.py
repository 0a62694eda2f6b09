import io
import math
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyramidseg.base.classes import Classes
from pyramidseg.evaluation.metrics import Scores, metrics_of
from pyramidseg.report.figures import (
    STYLE,
    _draw_curve,
    confusion_heatmap,
    iou_bars,
    new_figure,
    save_plots,
    training_curve,
    training_curves,
)

KEYS = ("train_loss", "val_loss", "train_error", "val_error", "train_miou", "val_miou")


def made_scores(names):
    size = len(names)
    confusion = torch.from_numpy(np.random.default_rng(0).integers(0, 100, (size, size)))
    confusion[-1], confusion[:, -1] = 0, 0
    return Scores(metrics_of(confusion, Classes.named(names), images=1), confusion, (), None)


def history(epochs):
    return [{"epoch": epoch, **dict.fromkeys(KEYS, 1 / epoch)} for epoch in range(1, epochs + 1)]


def texts(svg):
    return [node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def size_of(png):
    return Image.open(io.BytesIO(png)).size


@pytest.mark.parametrize("count", [1, 2, 30, 60])
def test_pngs_of_any_number_of_classes_are_of_a_sensible_size(count):
    scores = made_scores([f"class {index}" for index in range(count)])
    for png in (iou_bars(scores.metrics), confusion_heatmap(scores.confusion, Classes.numbered(count).names)):
        assert max(size_of(png)) < 3000


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3, unique=True))
@settings(max_examples=15, deadline=None)
def test_any_class_name_can_be_drawn(names):
    scores = made_scores(names)
    for format in ("png", "svg"):
        assert iou_bars(scores.metrics, format=format)
        assert confusion_heatmap(scores.confusion, names, format=format)


@pytest.mark.parametrize("name", ["$\\frac$", "<script>alert(1)</script>", "道路", "-->", "&amp;", "_"])
def test_names_are_drawn_as_they_are(name):
    names = [name, "other"]
    drawn = texts(confusion_heatmap(made_scores(names).confusion, names, format="svg"))
    shown = name if len(name) <= 22 else f"{name[:21]}…"
    assert drawn.count(shown) == 2


def test_absent_class_says_so():
    assert "not present" in texts(iou_bars(made_scores(["a", "b"]).metrics, format="svg"))


def test_heatmap_shows_shares_of_each_true_class():
    confusion = torch.tensor([[3, 1], [0, 0]])
    drawn = texts(confusion_heatmap(confusion, ["a", "b"], format="svg"))
    assert [text for text in drawn if text.isdigit()] == ["75", "25"]


def test_curves_mark_the_best_validation_epoch():
    rows = history(4)
    rows[2]["val_loss"] = 0.125
    rows[1]["val_miou"] = 0.75
    assert "validation, best 0.125" in texts(training_curve(rows, "loss", format="svg"))
    assert "validation, best 1.000" in texts(training_curve(rows, "miou", format="svg"))


@pytest.mark.parametrize("quantity", ["loss", "error", "miou"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_legend_covers_no_curve(quantity, epochs):
    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.4, 3.1)
        axes = figure.subplots()
        _draw_curve(axes, history(epochs), quantity)
        figure.draw_without_rendering()
        legend = axes.get_legend().get_window_extent()
        assert legend.y1 <= axes.xaxis.label.get_window_extent().y0
        assert legend.y0 >= 0


@pytest.mark.parametrize("gap", [None, "", math.nan, "nan", math.inf])
def test_curves_leave_gaps_where_figures_are_missing(gap):
    rows = history(5)
    rows[1] |= dict.fromkeys(KEYS, gap)
    del rows[3]["train_loss"]
    assert size_of(training_curves(rows))[0] > 1000


def test_curves_of_one_epoch_and_of_no_figure_at_all():
    assert training_curves(history(1))
    assert training_curves([{"epoch": 1}])


def test_numbers_read_from_a_csv_file_are_numbers():
    rows = [{name: str(value) for name, value in row.items()} for row in history(3)]
    assert training_curves(rows, format="svg") == training_curves(history(3), format="svg")


def test_equal_figures_are_equal_bytes():
    scores = made_scores(["a", "b"])
    assert iou_bars(scores.metrics, format="svg") == iou_bars(scores.metrics, format="svg")


def test_save_plots_writes_pngs(tmp_path):
    save_plots(tmp_path / "plots", made_scores(["a", "b"]), history=history(2))
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"iou.png", "confusion.png", "curves.png"}
