"""What a comparison leaves: one page, pictures, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyramidseg.compare.bootstrap import WIDE, Difference
from pyramidseg.compare.plots import cost_scatter, error_curves
from pyramidseg.compare.results import COSTS, LATENCY, EncoderResult, Results, pareto_front
from pyramidseg.compare.study import Study
from pyramidseg.compare.verdict import verdict
from pyramidseg.files import write_atomically, write_text
from pyramidseg.pages.page import Figure, render, svg_uri, template_of

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
    write_text(out / "comparison.json", json.dumps(_as_json(study, results, sentences), indent=2) + "\n")
    for name, draw in PICTURES.items():
        write_atomically(out / name, partial(_write, data=draw(results)))
    front = pareto_front(results.encoders, COSTS[LATENCY])
    ranked = sorted(results.encoders, key=lambda result: -result.miou)
    page = render(
        template_of(__package__, "report.html.j2"),
        title=f"{len(ranked)} encoders on {Path(study.dataset).name}",
        verdict=sentences,
        wide=100 * WIDE,
        seeds=study.seeds,
        rows=[_Row(result, result.name in front) for result in ranked],
        results=results,
        size=f"{results.height}x{results.width}",
        curves=Figure(
            svg_uri(error_curves(results, format="svg")),
            "Error and validation loss by epoch for every encoder",
            "Mean over the seeds; the band is their range.",
        ),
        costs=Figure(
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
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: "" if value is None or value != value else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def _pair(difference: Difference) -> dict[str, Any]:
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "real": difference.is_real,
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
                "iou_by_class": {
                    name: _number(iou) for name, iou in zip(results.classes.names, result.iou_by_class, strict=True)
                },
                **asdict(result.cost),
                "pareto": result.name in pareto_front(results.encoders, COSTS[LATENCY]),
            }
            for result in results.encoders
        ],
        "pairs": [_pair(difference) for difference in results.differences],
        "verdict": list(sentences),
    }


def _number(value: float) -> float | None:
    return None if value != value else value


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
