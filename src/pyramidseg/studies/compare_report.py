"""What a comparison leaves: one page, pictures, CSV and JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyramidseg.base.files import write_bytes, write_json, write_text
from pyramidseg.base.text import csv_text
from pyramidseg.report.figures import STYLE, ImageFormat, new_figure, render_figure
from pyramidseg.report.page import MUTED, PageFigure, read_template, render_page, svg_uri
from pyramidseg.studies.bootstrap import WIDE, Difference
from pyramidseg.studies.compare_encoders import Study
from pyramidseg.studies.compare_results import COSTS, LATENCY, EncoderResult, Results, error_of, pareto_front

# The outcome of a comparison in plain words.

FEW_SEEDS = 10
"""Fewer seeds than this give a rough idea of their spread: the deviation of 10 is known to about a quarter."""


def verdict(results: Sequence[EncoderResult], differences: Sequence[Difference]) -> tuple[str, ...]:
    """What to take, in sentences: the best, what is worse, as good within noise or not to be told from it, and why."""
    ranked = sorted(results, key=lambda result: -result.miou)
    best = ranked[0]
    against_best = {difference.second: difference for difference in differences if difference.first == best.name}
    sentences = [f"{best.name} has the highest mean IoU, {_with_range(best)}."]
    for result in ranked[1:]:
        sentences.append(_against(best, result, against_best[result.name]))
    equal = [result for result in ranked[1:] if against_best[result.name].is_noise]
    taken = min([best, *equal], key=lambda result: result.cost.latency_ms)
    open_ones = [
        result.name
        for result in ranked[1:]
        if _is_open(against_best[result.name]) and result.cost.latency_ms < taken.cost.latency_ms
    ]
    return (*sentences, _recommendation(best, taken, open_ones), *caveats(len(best.mious)))


def caveats(seeds: int) -> tuple[str, ...]:
    """What the intervals tell, and what they do not."""
    return (
        _of_seeds(seeds),
        "Each interval is of 95 % for its pair alone, and the best was chosen by the same images: the more encoders "
        "are compared, the more differences look real by chance.",
        "Images are resampled as if they had nothing to do with each other; where they are frames of one sequence, the "
        "intervals are too narrow.",
    )


def _of_seeds(seeds: int) -> str:
    if seeds == 1:
        return (
            "One seed each: the intervals tell how much the choice of images matters, not how much a second training "
            "would differ; use --seeds 3 before deciding on small differences."
        )
    if seeds < FEW_SEEDS:
        return (
            f"The intervals hold for other images like these and for other trainings, but {seeds} seeds tell only "
            "roughly how much trainings differ: a difference near the end of its interval wants more of them."
        )
    return f"The intervals hold for other images like these and for other trainings, by {seeds} seeds."


def _against(best: EncoderResult, other: EncoderResult, difference: Difference) -> str:
    speed = _times(best.cost.latency_ms / other.cost.latency_ms)
    interval = f"95 % interval {100 * difference.low:.1f} to {100 * difference.high:.1f}"
    behind = f"{100 * difference.mean:.1f} points behind"
    if difference.is_significant:
        return f"{other.name} is {behind} {best.name} ({interval}), and {speed}."
    if difference.is_noise:
        return f"{other.name} is as good as {best.name} within noise ({behind}, {interval}), and {speed}."
    reason = interval if difference.varies else "and the resamples do not differ, as with one image and one seed"
    return f"{other.name} cannot be told from {best.name} ({behind}, {reason}), and is {speed}."


def _is_open(difference: Difference) -> bool:
    """Whether the images leave open which of the two is better, and by how much."""
    return not (difference.is_significant or difference.is_noise)


def _recommendation(best: EncoderResult, taken: EncoderResult, open_ones: Sequence[str]) -> str:
    """What to take, what that rests on, and which faster encoders might do as well."""
    if taken is best:
        said = f"Take {best.name}: it has the highest mean IoU, and none that is as good within noise is faster here"
    else:
        said = f"Take {taken.name}: it is as good as {best.name} within noise, and no other that is so is faster here"
    if not open_ones:
        return f"{said}."
    names, are = ", ".join(open_ones), "is" if len(open_ones) == 1 else "are"
    return f"{said}; {names} {are} faster still and cannot be told from {best.name}: more images or seeds would tell."


def _with_range(result: EncoderResult) -> str:
    if len(result.mious) == 1:
        return f"{result.miou:.3f}"
    return f"{result.miou:.3f} ({min(result.mious):.3f} to {max(result.mious):.3f} over {len(result.mious)} seeds)"


def _times(speed: float) -> str:
    if 0.95 < speed < 1.05:
        return "equally fast"
    return f"{speed:.1f} times as fast" if speed > 1 else f"{1 / speed:.1f} times as slow"


# Pictures of a comparison: error and loss by epoch, accuracy against cost, IoU by class. Bytes of an image each.

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6e7781", "#000000")
"""Okabe and Ito's colours (2008); they begin anew after eight encoders, with other dashes."""

DASHES = ("-", "--", ":", "-.")


def error_curves(results: Results, *, format: ImageFormat = "png") -> bytes:
    """1 - mIoU and validation loss against the epoch: mean over the seeds, and their range."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(10, 4)
        left, right = figure.subplots(1, 2)
        _draw_curves(left, results.encoders, "error, 1 - mean IoU", error_of)
        _draw_curves(right, results.encoders, "validation loss", lambda row: row["val_loss"])
        names, labels = right.get_legend_handles_labels()
        figure.legend(names, labels, loc="outside lower center", ncols=min(4, len(labels)))
        return render_figure(figure, format)


def cost_scatter(results: Results, *, format: ImageFormat = "png") -> bytes:
    """Mean IoU against each cost; the front that no other encoder beats is drawn through."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(12, 6.4)
        for axes, (title, cost_of) in zip(figure.subplots(2, 3).flat, COSTS.items(), strict=False):
            _draw_costs(axes, results.encoders, title, cost_of)
        for axes in figure.axes[len(COSTS) :]:
            axes.set_axis_off()
        return render_figure(figure, format)


def _draw_curves(
    axes: Axes, encoders: Sequence[EncoderResult], title: str, value_of: Callable[[dict[str, Any]], float | None]
) -> None:
    longest, top = 1, 0.0
    for place, result in enumerate(encoders):
        values = _by_seed(result, value_of)
        epochs = np.arange(1, values.shape[1] + 1)
        longest, top = max(longest, len(epochs)), max(top, np.nanmax(values, initial=0.0))
        color, dash = PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)]
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
    for place, result in enumerate(encoders):
        color = PALETTE[place % len(PALETTE)]
        spread = [[result.miou - min(result.mious)], [max(result.mious) - result.miou]]
        axes.errorbar(cost_of(result), result.miou, yerr=spread, fmt="o", color=color, capsize=3, markersize=6)
        axes.annotate(
            result.name, (cost_of(result), result.miou), xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axes.set_title(title)
    axes.set(xlim=(0, 1.35 * max(cost_of(result) for result in encoders) or 1), ylabel="mean IoU")
    axes.margins(y=0.25)
    axes.grid()


def _by_seed(result: EncoderResult, value_of: Callable[[dict[str, Any]], float | None]) -> NDArray[np.float64]:
    """(S, epochs); runs that stopped early end where the shortest does, so that every point has all seeds."""
    shortest = min(len(history) for history in result.histories)
    values = [
        [np.nan if (value := value_of(dict(row))) is None else value for row in history[:shortest]]
        for history in result.histories
    ]
    return np.array(values, dtype=np.float64)


PICTURES = {"error.png": error_curves, "cost.png": cost_scatter}


@dataclass(frozen=True)
class _Row:
    result: EncoderResult
    pareto: bool


def write_report(out: Path, study: Study, results: Results) -> tuple[str, ...]:
    """Write everything into `out`; returns the verdict."""
    sentences = verdict(results.encoders, results.differences)
    tables = csv_tables(results)
    for name, text in tables.items():
        write_text(out / name, text)
    write_json(out / "comparison.json", _as_json(study, results, sentences))
    for name, draw in PICTURES.items():
        write_bytes(out / name, draw(results))
    front = pareto_front(results.encoders, COSTS[LATENCY])
    ranked = sorted(results.encoders, key=lambda result: -result.miou)
    page = render_page(
        read_template(__package__, "compare_report.html.j2"),
        title=f"{len(ranked)} encoders on {Path(study.dataset).name}",
        verdict=sentences,
        wide=100 * WIDE,
        seeds=study.seeds,
        rows=[_Row(result, result.name in front) for result in ranked],
        results=results,
        size=f"{results.height}x{results.width}",
        curves=PageFigure(
            svg_uri(error_curves(results, format="svg")),
            "Error and validation loss by epoch for every encoder",
            "Mean over the seeds; the band is their range.",
        ),
        costs=PageFigure(
            svg_uri(cost_scatter(results, format="svg")),
            "Mean IoU against parameters, arithmetic, latency, memory and training time",
            "The grey line joins the encoders that no other beats in both; bars are the range over the seeds.",
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


def csv_tables(results: Results) -> dict[str, str]:
    """The content of the CSV files, by name: a row an encoder, an epoch of a run, a class, a pair."""
    epochs = [
        {"encoder": result.name, "seed": seed, **row}
        for result in results.encoders
        for seed, history in enumerate(result.histories)
        for row in history
    ]
    return {
        "encoders.csv": _csv(
            [
                {
                    "encoder": result.name,
                    "miou": result.miou,
                    "miou_min": min(result.mious),
                    "miou_max": max(result.mious),
                    "error": result.error,
                    **asdict(result.cost),
                    "pareto": result.name in pareto_front(results.encoders, COSTS[LATENCY]),
                }
                for result in results.encoders
            ]
        ),
        "epochs.csv": _csv(epochs),
        "classes.csv": _csv(
            [
                {"class": name, **{result.name: result.iou_by_class[index] for result in results.encoders}}
                for index, name in enumerate(results.classes.names)
            ]
        ),
        "pairs.csv": _csv([_pair(difference) for difference in results.differences]),
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    return csv_text([list(rows[0]), *(row.values() for row in rows)])


def _pair(difference: Difference) -> dict[str, Any]:
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "real": difference.is_significant,
    }


def _as_json(study: Study, results: Results, sentences: Sequence[str]) -> dict[str, Any]:
    return {
        "dataset": study.dataset,
        "images": results.images,
        "seeds": study.seeds,
        "epochs": study.epochs,
        "minutes": study.minutes,
        "settings": study.settings,
        "size": [results.height, results.width],
        "encoders": [
            {
                "name": result.name,
                "miou": result.miou,
                "error": result.error,
                "mious": list(result.mious),
                "errors_by_epoch": result.errors_by_epoch,
                "iou_by_class": dict(zip(results.classes.names, result.iou_by_class, strict=True)),
                **asdict(result.cost),
                "pareto": result.name in pareto_front(results.encoders, COSTS[LATENCY]),
            }
            for result in results.encoders
        ],
        "pairs": [_pair(difference) for difference in results.differences],
        "verdict": list(sentences),
    }
