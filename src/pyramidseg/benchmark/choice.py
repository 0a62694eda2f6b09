"""Why `--backend auto` takes what it takes, and whether it is the fastest."""

from collections.abc import Sequence
from pathlib import Path

from pyramidseg.benchmark.candidates import CHOOSABLE, RUNTIMES
from pyramidseg.benchmark.results import AutoChoice, Row
from pyramidseg.predict.backends import EXPORTED, ModelBackend
from pyramidseg.predict.backends.choice import FASTER_ON_CPU


def explain_choice(model: Path, chosen: ModelBackend, rows: Sequence[Row]) -> AutoChoice:
    """The rule by which `auto` has taken a backend for a model, and how it did against the others."""
    return AutoChoice(chosen.name, chosen.precision, _rule(model, chosen), tuple(_verdict(model, chosen, rows)))


def _rule(model: Path, chosen: ModelBackend) -> str:
    if model.suffix in EXPORTED:
        return "an exported file is run by the runtime in which its export was checked"
    if chosen.device.type != "cpu":
        return "a bundle runs in torch on a GPU, and is not compiled unasked, which takes a minute or two"
    order = " and ".join(backend.name for backend in FASTER_ON_CPU)
    if chosen.name in RUNTIMES:
        return f"of {order}, in this order, it is the first whose export lies beside the bundle ({chosen.note})"
    if chosen.note:
        return chosen.note
    return f"it would take {order}, in this order, if an export for them lay beside the bundle"


def _verdict(model: Path, chosen: ModelBackend, rows: Sequence[Row]) -> list[str]:
    own = next((row for row in rows if (row.backend, row.precision) == (chosen.name, chosen.precision)), None)
    if own is None:
        return ["it is not among those measured here"]
    rivals = [row for row in rows if row.precision == own.precision]
    fastest = max(rivals, key=_speed)
    said = []
    if fastest is not own:
        said.append(
            f"in {own.precision}, {fastest.backend} is {_speed(fastest) / _speed(own):.2f} times as fast here, by one "
            f"image: {_way_to(model, fastest)}"
        )
    elif len(rows) > 1:
        said.append(f"in {own.precision}, nothing measured here is faster, by one image")
    in_batches = max(rivals, key=_rate)
    if _rate(in_batches) > _rate(fastest):
        said.append(
            f"in {own.precision}, by the batch, {in_batches.backend} is {_rate(in_batches) / _rate(fastest):.2f} times "
            f"as fast as {fastest.backend}"
        )
    others = [row for row in rows if row.precision != own.precision and _speed(row) > _speed(fastest)]
    if others:
        best = max(others, key=_speed)
        said.append(
            f"in {best.precision}, {best.backend} is {_speed(best) / _speed(fastest):.2f} times as fast as that, and "
            f"never taken unasked, as it moves labels where classes are close: {_way_to(model, best)}"
            + (f" --precision {best.precision}" if best.backend in CHOOSABLE else "")
        )
    return said


def _speed(row: Row) -> float:
    return row.speedup


def _rate(row: Row) -> float:
    return row.images_per_second


def _way_to(model: Path, row: Row) -> str:
    """What to type to have a row's backend."""
    if row.backend in RUNTIMES and model.suffix not in EXPORTED:
        return f"pyramidseg export {model} --format {RUNTIMES[row.backend].format}, then --backend {row.backend}"
    return f"--backend {row.backend}"
