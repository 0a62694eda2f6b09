import io
import math
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
from PIL import Image

from pyramidseg.report.figures import STYLE, _draw_curve, new_figure, training_curves

KEYS = ("train_loss", "val_loss", "train_error", "val_error", "train_miou", "val_miou")


def history(epochs):
    return [{"epoch": epoch, **dict.fromkeys(KEYS, 1 / epoch)} for epoch in range(1, epochs + 1)]


def texts(svg):
    return [node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def size_of(png):
    return Image.open(io.BytesIO(png)).size


def test_curves_mark_the_best_validation_epoch():
    rows = history(4)
    rows[2]["val_loss"] = 0.125
    rows[1]["val_miou"] = 0.75
    labels = [text for text in texts(training_curves(rows, format="svg")) if text.startswith("validation")]
    assert labels == ["validation, best 0.125", "validation, best 0.250", "validation, best 1.000"]


@pytest.mark.parametrize("quantity", ["loss", "error", "miou"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_legend_does_not_cover_the_curves(quantity, epochs):
    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.4, 3.1)
        axes = figure.subplots()
        _draw_curve(axes, history(epochs), quantity, "title")
        figure.draw_without_rendering()
        legend = axes.get_legend().get_window_extent()
        assert legend.y1 <= axes.xaxis.label.get_window_extent().y0
        assert legend.y0 >= 0


@pytest.mark.parametrize("gap", [None, "", math.nan, "nan", math.inf])
def test_missing_values_are_gaps_in_the_curves(gap):
    rows = history(5)
    rows[1] |= dict.fromkeys(KEYS, gap)
    del rows[3]["train_loss"]
    assert size_of(training_curves(rows))[0] > 1000


def test_curves_of_one_epoch_and_without_any_value():
    assert training_curves(history(1))
    assert training_curves([{"epoch": 1}])


def test_numbers_from_a_csv_file_are_parsed():
    rows = [{name: str(value) for name, value in row.items()} for row in history(3)]
    assert training_curves(rows, format="svg") == training_curves(history(3), format="svg")
