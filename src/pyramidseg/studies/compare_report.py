"""Report of a comparison: conclusions in sentences, plots, one HTML page, and all results as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyramidseg.base.files import write_json, write_text
from pyramidseg.report.figures import STYLE, new_figure, render_figure
from pyramidseg.report.page import MUTED, PageFigure, render_page, svg_uri
from pyramidseg.studies.bootstrap import WIDE, Difference
from pyramidseg.studies.compare_results import COSTS, LATENCY, EncoderResult, Results, Study, error_of, pareto_front


def conclusions(results: Sequence[EncoderResult], differences: Sequence[Difference]) -> tuple[str, ...]:
    """Sentences on the best encoder, how each other one compares with it, and which to choose."""
    ranked = sorted(results, key=lambda result: -result.miou)
    best = ranked[0]
    against_best = {difference.second: difference for difference in differences if difference.first == best.name}
    compared = [_compared_with_best(best, result, against_best[result.name]) for result in ranked[1:]]
    equal = [result for result in ranked[1:] if against_best[result.name].is_equivalent]
    chosen = min([best, *equal], key=lambda result: result.cost.latency_ms)
    first = f"{best.name} has the highest mean IoU, {_with_range(best)}."
    return (first, *compared, _recommendation(best, chosen), *caveats(len(best.mious)))


def caveats(seeds: int) -> tuple[str, ...]:
    """What the intervals cover, and what they do not."""
    cover = (
        "One seed each: the intervals cover the choice of images, not the variation between trainings; use more "
        "seeds, such as 3, before deciding on small differences."
        if seeds == 1
        else f"The intervals cover other images like these and other trainings; {seeds} seeds show roughly how much "
        "trainings differ: use more seeds if an interval nearly includes 0."
    )
    return (
        cover,
        "Each 95 % interval is for its pair alone, and the best encoder was chosen on the same images: the more "
        "encoders are compared, the more differences are significant by chance.",
        "Images are resampled as if they were independent; if they are frames of one sequence, the intervals are too "
        "narrow.",
    )


def _compared_with_best(best: EncoderResult, other: EncoderResult, difference: Difference) -> str:
    speed = _times(best.cost.latency_ms / other.cost.latency_ms)
    interval = f"95 % interval {100 * difference.low:.1f} to {100 * difference.high:.1f}"
    behind = f"{100 * difference.mean:.1f} points behind"
    if difference.is_significant:
        return f"{other.name} is {behind} {best.name} ({interval}), and {speed}."
    if difference.is_equivalent:
        return f"{other.name} is as good as {best.name} within noise ({behind}, {interval}), and {speed}."
    return (
        f"The difference between {other.name} and {best.name} is not significant ({behind}, {interval}); {other.name} "
        f"is {speed}."
    )


def _recommendation(best: EncoderResult, chosen: EncoderResult) -> str:
    if chosen is best:
        return f"Choose {best.name}: it has the highest mean IoU, and no encoder equal within noise is faster."
    return f"Choose {chosen.name}: the fastest encoder that is as good as {best.name} within noise."


def _with_range(result: EncoderResult) -> str:
    if len(result.mious) == 1:
        return f"{result.miou:.3f}"
    return f"{result.miou:.3f} ({min(result.mious):.3f} to {max(result.mious):.3f} over {len(result.mious)} seeds)"


def _times(speed: float) -> str:
    if 0.95 < speed < 1.05:
        return "equally fast"
    return f"{speed:.1f} times as fast" if speed > 1 else f"{1 / speed:.1f} times as slow"


PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6e7781", "#000000")
"""Colours of Okabe and Ito (2008); repeated after eight encoders, with other dashes."""

DASHES = ("-", "--", ":", "-.")


def error_curves(results: Results) -> bytes:
    """Plot of 1 - mIoU and validation loss by epoch: mean and range over the seeds."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(10, 4)
        left, right = figure.subplots(1, 2)
        _draw_curves(left, results.encoders, "error, 1 - mean IoU", error_of)
        _draw_curves(right, results.encoders, "validation loss", lambda row: row["val_loss"])
        names, labels = right.get_legend_handles_labels()
        figure.legend(names, labels, loc="outside lower center", ncols=min(4, len(labels)))
        return render_figure(figure, "svg")


def cost_scatter(results: Results) -> bytes:
    """Plot of mean IoU against each cost, with a line along the Pareto front."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(12, 6.4)
        for axes, (title, cost_of) in zip(figure.subplots(2, 3).flat, COSTS.items(), strict=False):
            _draw_costs(axes, results.encoders, title, cost_of)
        for axes in figure.axes[len(COSTS) :]:
            axes.set_axis_off()
        return render_figure(figure, "svg")


def _draw_curves(
    axes: Axes, encoders: Sequence[EncoderResult], title: str, value_of: Callable[[Mapping[str, Any]], float | None]
) -> None:
    longest, top = 1, 0.0
    for index, result in enumerate(encoders):
        values = _by_seed(result, value_of)
        epochs = np.arange(1, values.shape[1] + 1)
        longest, top = max(longest, len(epochs)), max(top, np.nanmax(values, initial=0.0))
        color, dash = PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]
        marker = "o" if len(epochs) < 3 else ""
        axes.plot(epochs, values.mean(axis=0), dash, color=color, label=result.name, marker=marker, markersize=5)
        if len(values) > 1:
            axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)
    axes.set_title(title)
    axes.set(xlabel="epoch", xlim=(0, 1.03 * longest + 0.1), ylim=(0, 1.1 * top or 1))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="y")


def _draw_costs(
    axes: Axes, encoders: Sequence[EncoderResult], title: str, cost_of: Callable[[EncoderResult], float]
) -> None:
    front = sorted((result for result in encoders if result.name in pareto_front(encoders, cost_of)), key=cost_of)
    axes.plot([cost_of(result) for result in front], [result.miou for result in front], color=MUTED, linewidth=1)
    for index, result in enumerate(encoders):
        color = PALETTE[index % len(PALETTE)]
        spread = [[result.miou - min(result.mious)], [max(result.mious) - result.miou]]
        axes.errorbar(cost_of(result), result.miou, yerr=spread, fmt="o", color=color, capsize=3, markersize=6)
        axes.annotate(
            result.name, (cost_of(result), result.miou), xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axes.set_title(title)
    axes.set(xlim=(0, 1.35 * max(cost_of(result) for result in encoders) or 1), ylabel="mean IoU")
    axes.margins(y=0.25)
    axes.grid()


def _by_seed(result: EncoderResult, value_of: Callable[[Mapping[str, Any]], float | None]) -> NDArray[np.float64]:
    """(S, epochs) values; cut to the shortest run, so that every epoch has all seeds."""
    shortest = min(len(history) for history in result.histories)
    values = [[value_of(row) for row in history[:shortest]] for history in result.histories]
    return np.array(values, dtype=np.float64)  # None becomes NaN


def write_report(out: Path, study: Study, results: Results) -> tuple[str, ...]:
    """Write all files of the report into `out`; returns the conclusions."""
    sentences = conclusions(results.encoders, results.differences)
    write_json(out / "comparison.json", _as_json(study, results, sentences))
    ranked = sorted(results.encoders, key=lambda result: -result.miou)
    page = render_page(
        "studies/compare_report.html.j2",
        title=f"{len(ranked)} encoders on {Path(study.dataset).name}",
        conclusions=sentences,
        wide=100 * WIDE,
        seeds=study.seeds,
        ranked=ranked,
        front=pareto_front(results.encoders, COSTS[LATENCY]),
        results=results,
        size=f"{results.height}x{results.width}",
        curves=PageFigure(
            svg_uri(error_curves(results)),
            "Error and validation loss by epoch for every encoder",
            "Mean over the seeds; the band is their range.",
        ),
        costs=PageFigure(
            svg_uri(cost_scatter(results)),
            "Mean IoU against parameters, arithmetic, latency, memory and training time",
            "The grey line is the Pareto front; bars are the range over the seeds.",
        ),
        facts={
            "dataset": study.dataset,
            "validation images": results.images,
            "seeds": study.seeds,
            "epochs": ", ".join(f"{name} {count}" for name, count in study.epochs.items()),
            **({"minutes a run": study.minutes} if study.minutes else {}),
        },
        settings={"given": study.settings} if study.settings else {},
        notes=(),
    )
    write_text(out / "report.html", page)
    return sentences


def _as_json(study: Study, results: Results, sentences: Sequence[str]) -> dict[str, Any]:
    front = pareto_front(results.encoders, COSTS[LATENCY])
    return {
        "study": asdict(study),
        "images": results.images,
        "size": [results.height, results.width],
        "encoders": [
            {
                "name": result.name,
                "miou": result.miou,
                "mious": list(result.mious),
                "error": result.error,
                "errors_by_epoch": [[error_of(row) for row in history] for history in result.histories],
                "iou_by_class": dict(zip(results.classes.names, result.iou_by_class, strict=True)),
                **asdict(result.cost),
                "pareto": result.name in front,
            }
            for result in results.encoders
        ],
        "pairs": [{**asdict(pair), "is_significant": pair.is_significant} for pair in results.differences],
        "verdict": list(sentences),
    }
