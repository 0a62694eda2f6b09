"""report.html: one file that opens offline, with everything that one asks first about a trained or evaluated model."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

import pyramidseg
from pyramidseg.classes import Classes
from pyramidseg.evaluation import plots
from pyramidseg.evaluation.examples import IGNORED, WRONG, Example, choose_examples, make_example
from pyramidseg.evaluation.metrics import ClassMetrics, Scores
from pyramidseg.files import write_text

__all__ = ["Example", "choose_examples", "make_example", "write_report"]


def write_report(
    path: Path,
    *,
    title: str,
    scores: Scores,
    classes: Classes,
    examples: Sequence[Example] = (),
    history: plots.History | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report; atomically, so that a half one is never seen.

    Args:
        examples: from `make_example`, in any order; the half with the lower mIoU is shown as the worst.
        history: rows of metrics.csv; without them there are no training curves.
        settings: may be nested by section, as `Config.model_dump()` is.
        facts: what is to be known of the data, by name.
        notes: sentences, such as those of `Dataset.notes`.

    Raises:
        OutputError: the file cannot be written.
    """
    ranked = sorted(examples, key=lambda example: example.score.miou)
    half = (len(ranked) + 1) // 2
    page = _template().render(
        title=title,
        version=pyramidseg.__version__,
        metrics=scores.metrics,
        loss=scores.loss,
        rows=_class_rows(scores, classes),
        has_ignored=any(example.score.pixels < example.total_pixels for example in ranked),
        figures=_figures(scores, history or ()),
        groups=[
            ("Worst images", "The lowest mean IoU over the classes of the image itself.", ranked[:half]),
            ("Best images", "The highest mean IoU over the classes of the image itself.", ranked[half:][::-1]),
        ],
        settings=_sections(settings or {}),
        facts=facts or {},
        notes=notes,
        wrong=_css(WRONG),
        ignored=_css(IGNORED),
    )
    write_text(path, page)


@dataclass(frozen=True)
class _Figure:
    title: str
    image: str
    alt: str
    note: str


@dataclass(frozen=True)
class _ClassRow:
    metrics: ClassMetrics
    color: str
    share: float


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _figure_text
    environment.filters["plain"] = _plain
    return environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))


def _figures(scores: Scores, history: plots.History) -> dict[str, list[_Figure]]:
    metrics = scores.metrics
    known = [entry for entry in metrics.classes if not math.isnan(entry.iou)]
    extremes = ""
    if known:
        low, high = min(known, key=lambda entry: entry.iou), max(known, key=lambda entry: entry.iou)
        extremes = f", from {low.iou:.3f} ({low.name}) to {high.iou:.3f} ({high.name})"
    curves = [
        _Figure(
            title=plots.TITLES[quantity],
            image=_svg_uri(plots.training_curve(history, quantity, format="svg")),
            alt=f"{plots.TITLES[quantity]} of training and validation over {len(history)} epochs",
            note="",
        )
        for quantity in (plots.TITLES if history else ())
    ]
    bars = _Figure(
        title="IoU by class",
        image=_svg_uri(plots.iou_bars(metrics, format="svg")),
        alt=f"Bars of the IoU of {len(metrics.classes)} classes{extremes}; the table below has the numbers",
        note="True positives over true positives, false positives and false negatives. The line is the mean.",
    )
    heatmap = _Figure(
        title="Confusion",
        image=_svg_uri(
            plots.confusion_heatmap(scores.confusion, [entry.name for entry in metrics.classes], format="svg")
        ),
        alt="Heat map of predicted class by true class; the diagonal is each class's recall",
        note="Each row: where the pixels of one true class went, in %; less than half a percent has no number.",
    )
    return {"curves": curves, "classes": [bars, heatmap]}


def _class_rows(scores: Scores, classes: Classes) -> list[_ClassRow]:
    total = max(1, sum(entry.pixels for entry in scores.metrics.classes))
    return [
        _ClassRow(entry, _css(color), entry.pixels / total)
        for entry, color in zip(scores.metrics.classes, classes.colors, strict=True)
    ]


def _sections(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """One level of sections; settings without one come first, under an empty heading."""
    loose = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    nested = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    return ({"": loose} if loose else {}) | nested


def _svg_uri(svg: bytes) -> str:
    """An SVG whose ink turns light where the reader's screen is dark, and whose text has the page's font."""
    style = f"""<style>
text {{ font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif !important }}
@media (prefers-color-scheme: dark) {{
text[style*="{plots.INK}"] {{ fill: #e6edf3 !important }}
text[style*="{plots.MUTED}"] {{ fill: #9198a1 !important }}
[style*="stroke: {plots.GRID}"] {{ stroke: #3d444d !important }}
}}
</style></svg>"""
    text = svg.decode().rpartition("</svg>")[0] + style
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def _figure_text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _plain(value: object) -> str:
    """A setting as one would write it in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value) or "–"
    return str(value)


def _css(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
