import base64
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import Config
from pyramidseg.base.errors import OutputError
from pyramidseg.evaluation.evaluation_report import write_report
from pyramidseg.evaluation.example_images import make_example
from pyramidseg.evaluation.metrics import ImageScore, Scores, compute_metrics

HOSTILE = "<script>alert('x')</script>\" onerror=\"alert(1)"
VOID = {"meta", "img", "br", "link", "input"}

pytestmark = pytest.mark.usefixtures("figures")


class Page(HTMLParser):
    """Tags with their attributes; refuses tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def written(tmp_path, *, names=("sky", "road"), title="A run", record_id="image 1", **more):
    classes = Classes.from_names(names)
    confusion = torch.arange(len(names) ** 2).view(len(names), -1)
    per_image = tuple(ImageScore(f"{record_id}{index}", index / 10, 0.5, 400) for index in range(4))
    scores = Scores(compute_metrics(confusion, classes, images=4), confusion, per_image, more.pop("loss", None))
    picture, labels = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8)
    examples = [make_example(picture, labels, labels, classes, entry) for entry in per_image]
    path = tmp_path / "report.html"
    write_report(path, title=title, scores=scores, classes=classes, examples=examples, **more)
    return path.read_text(encoding="utf-8")


def full(tmp_path, **more):
    history = [{"epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "val_miou": 0.5} for epoch in (1, 2)]
    settings = Config().model_dump(mode="json")
    facts = {"source": "a folder", "images": 4}
    return written(tmp_path, history=history, settings=settings, facts=facts, notes=["255 is ignored"], **more)


def test_is_well_formed_and_loads_nothing_from_elsewhere(tmp_path):
    text = full(tmp_path)
    page = Page(text)
    sources = [attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes]
    assert len(sources) == 1 + 2 + 4 * 4
    assert all(source.startswith("data:image/") for source in sources)
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text


def test_every_picture_has_alternative_text(tmp_path):
    assert all(picture.get("alt") for picture in Page(full(tmp_path)).all("img"))


def test_figures_are_valid_svg_without_scripts(tmp_path):
    prefix = "data:image/svg+xml;base64,"
    figures = [
        base64.b64decode(picture["src"].removeprefix(prefix))
        for picture in Page(full(tmp_path, names=(HOSTILE, "road"))).all("img")
        if picture["src"].startswith(prefix)
    ]
    assert len(figures) == 3
    for figure in figures:
        assert "{http://www.w3.org/2000/svg}script" not in {node.tag for node in ElementTree.fromstring(figure).iter()}


def test_names_chosen_by_users_are_escaped(tmp_path):
    plain = Page(full(tmp_path))
    hostile = Page(
        written(
            tmp_path,
            names=(HOSTILE, "road"),
            title=HOSTILE,
            record_id=HOSTILE,
            history=[{"epoch": 1, "val_loss": 1.0}],
            settings={HOSTILE: {HOSTILE: HOSTILE}},
            facts={HOSTILE: HOSTILE},
            notes=[HOSTILE],
        )
    )
    assert len(hostile.all("script")) == len(plain.all("script")) == 1
    assert not any("onerror" in attributes for _, attributes in hostile.tags)
    assert hostile.text.count(HOSTILE) >= 8


def test_headline_and_table_show_the_metrics(tmp_path):
    text = Page(written(tmp_path, loss=0.25)).text
    metrics = compute_metrics(torch.arange(4).view(2, 2), Classes.from_names(["sky", "road"]), images=4)
    for figure in (metrics.miou, metrics.pixel_accuracy, metrics.mean_dice, metrics.classes[1].iou, 0.25):
        assert f"{figure:.3f}" in text


def test_nan_is_shown_as_a_dash_and_sorts_last(tmp_path):
    page = Page(written(tmp_path, names=("sky", "road", "car"), loss=math.nan))
    assert "–" in page.text
    text = Page(written(tmp_path, names=("only",))).tags  # a single class without a pixel: nothing but NaN
    assert ("td", {"data-value": "nan"}) in text


def test_worst_images_come_before_the_best(tmp_path):
    text = Page(written(tmp_path)).text
    shown = [entry for entry in text if entry.startswith("image 1")]
    assert shown == ["image 10", "image 11", "image 13", "image 12"]


def test_without_history_settings_facts_and_examples_their_sections_are_absent(tmp_path):
    headings = {"Training", "Data", "Settings"}
    assert headings & set(Page(written(tmp_path)).text) == set()
    assert headings <= set(Page(full(tmp_path)).text)


def test_settings_are_formatted_as_in_yaml(tmp_path):
    text = Page(
        written(
            tmp_path,
            settings={"train": {"seed": 3}, "model": {"smoothing": True, "encoder_depth": None, "crop": [320, 240]}},
        )
    ).text
    assert {"seed", "3", "model", "true", "–", "320, 240"} <= set(text)


def test_equal_input_gives_equal_bytes(tmp_path):
    assert full(tmp_path) == full(tmp_path)


def test_unwritable_path_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        written(tmp_path / "file" / "below")
