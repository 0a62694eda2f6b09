"""The goals for speed and memory, and the figures that were reached."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.speed import epoch, folder, labels, memory, prediction, startup, training
from benchmarks.speed.rows import Row, groups_of

Sections = Mapping[str, Sequence[Row]]
"""Rows by section."""

OWN, WRITTEN = (f"{prediction.TITLES[network]}, " for network in ("ours", "ours-as-written"))
"""How rows without smoothing begin; on a GPU there are only those as written."""

SPEEDUPS = {
    "resnet18": {"fp32": 2.5, "bf16": 5.0, "int8": 6.0},
    "resnet50": {"fp32": 1.6, "bf16": 3.2, "int8": 5.0},
}
"""Times as fast as SMP as users run it, one image, by encoder and precision; int8 on a processor with VNNI."""

REASSOCIATED = {"resnet18": 1.2, "efficientnet_b0": 1.5, "tf_efficientnet_lite0": 1.5}
"""Times as fast as the same network as it is written, in the same runtime and precision, by encoder, in the runtime
that gains most; without smoothing no runtime may lose (`NOTHING_SLOWER`)."""

NOTHING_SLOWER = 1.0

FLOOR_SHARE = 0.8

TRAINING_SPEEDUPS = {training.PEER: 3.0, training.TUNED: 1.2}


@dataclass(frozen=True)
class Goal:
    """One figure that was asked for.

    Attributes:
        reached: None if it was not measured.
        at_most: whether less is better.
        by: who reached it.
    """

    what: str
    asked: float
    reached: float | None
    at_most: bool = False
    by: str = ""

    @property
    def is_met(self) -> bool | None:
        """None if it was not measured."""
        if self.reached is None:
            return None
        return self.reached <= self.asked if self.at_most else self.reached >= self.asked


def goals(sections: Sections) -> list[Goal]:
    """All of them, measured or not."""
    return [
        *_prediction(sections.get("prediction", ())),
        *_reassociation(sections.get("prediction", ())),
        *_training(sections.get("training", ())),
        *_memory(sections.get("memory", ())),
        *_rest(sections),
    ]


def _prediction(rows: Sequence[Row]) -> Iterator[Goal]:
    for encoder, by_precision in SPEEDUPS.items():
        for precision, asked in by_precision.items():
            group = [row for row in rows if _is_latency(row, encoder) and row.who.endswith(precision)]
            own = [row for row in group if row.who.startswith(OWN)]
            own = own or [row for row in group if row.who.startswith(WRITTEN)]
            what = f"{encoder}, {precision}, one image: times as fast as {training.PEER}"
            yield _best(own, lambda row: row.times_as_fast.get(training.PEER), what, asked)
            if precision != "int8":  # the roofline is that of torch's convolutions, in fp32 and bf16
                what = f"{encoder}, {precision}, one image: the convolutions' floor as a share of the time"
                yield _best(own, lambda row: row.share_of_floor, what, FLOOR_SHARE)


def _reassociation(rows: Sequence[Row]) -> Iterator[Goal]:
    if rows and not any(row.who.startswith(OWN) for row in rows):
        return  # on a GPU, where nothing is re-associated
    for encoder, asked in REASSOCIATED.items():
        group = [row for row in rows if _is_latency(row, encoder)]
        written = {row.who: row.ms for row in group}

        def ratio(row: Row, networks: tuple[str, str], written: Mapping[str, float | None] = written) -> float | None:
            own, before = (prediction.TITLES[network] for network in networks)
            kind, _, runtime = row.who.partition(", ")
            slower = written.get(f"{before}, {runtime}")
            return slower / row.ms if kind == own and slower is not None and row.ms else None

        what = f"{encoder} with smoothing, one image: times as fast as the network as written"
        yield _best(group, partial(ratio, networks=("default", "as-written")), what, asked)
        what = f"{encoder} without smoothing, one image: times as fast as the network as written, at the least"
        yield _best(group, partial(ratio, networks=("ours", "ours-as-written")), what, NOTHING_SLOWER, choose=min)


def _is_latency(row: Row, encoder: str) -> bool:
    return row.group.startswith(f"{encoder}, one image")


def _best(
    rows: Iterable[Row],
    figure: Callable[[Row], float | None],
    what: str,
    asked: float,
    choose: Callable[[Iterable[tuple[float, str]]], tuple[float, str]] = max,
) -> Goal:
    found = [(value, row.who) for row in rows if (value := figure(row)) is not None]
    reached, by = choose(found) if found else (None, "")
    return Goal(what, asked, reached, by=by)


def _training(rows: Sequence[Row]) -> Iterator[Goal]:
    ours = _row(rows, training.OURS)
    for peer, asked in TRAINING_SPEEDUPS.items():
        yield Goal(
            f"training step: times as fast as {peer}", asked, ours.times_as_fast.get(peer) if ours is not None else None
        )


def _memory(rows: Sequence[Row]) -> Iterator[Goal]:
    for peer in TRAINING_SPEEDUPS:
        share = _share_of_peak(rows, training.OURS, peer)
        yield Goal(f"training step: memory over that of {peer}", 1.0, share, at_most=True)
    share = _share_of_peak(rows, memory.MANY, memory.FEW)
    yield Goal(f"{memory.MANY}: memory over that of {memory.FEW}", 1.0, share, at_most=True)


def _share_of_peak(rows: Sequence[Row], who: str, peer: str) -> float | None:
    """Of two contestants of one group; other groups may have a peer of the same name."""
    for group in groups_of(rows).values():
        peaks = {row.who: row.peak_mb for row in group}
        own, theirs = peaks.get(who), peaks.get(peer)
        if own is not None and theirs:
            return own / theirs
    return None


def _rest(sections: Sections) -> Iterator[Goal]:
    ours = _row((row for row in sections.get("epoch", ()) if row.group.startswith(epoch.CAMVID)), training.OURS)
    waited = None if ours is None else ours.waiting_share
    yield Goal("CamVid epoch: share of the time spent waiting for data", 0.05, waited, at_most=True)
    files = [row for row in sections.get("folder", ()) if row.who == folder.FILES]
    shares = [row.times_as_fast[folder.BARE] for row in files]
    yield Goal(
        "folder of images: share of the bare model's rate, the lesser of both precisions",
        0.9,
        min(shares, default=None),
    )
    many = [
        row.times_as_fast[labels.ARGMAX]
        for row in sections.get("labels", ())
        if row.who == labels.OURS and row.group.startswith(f"{labels.MANY_CLASSES} classes")
    ]
    yield Goal(
        f"label map of {labels.MANY_CLASSES} classes: times as fast as interpolate-then-argmax",
        5.0,
        min(many, default=None),
    )
    helped = _row(sections.get("startup", ()), startup.HELP)
    seconds = None if helped is None or helped.ms is None else helped.ms / 1000
    yield Goal("pyramidseg --help: seconds", 0.3, seconds, at_most=True)


def _row(rows: Iterable[Row], who: str) -> Row | None:
    return next((row for row in rows if row.who == who), None)
