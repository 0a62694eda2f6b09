"""A row of figures, as all sections give them, and how they are kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyramidseg.base.timing import Timing


@dataclass(frozen=True)
class Row:
    """One contestant.

    Attributes:
        group: what was measured; rows of one group took turns.
        ms: median of the rounds.
        images: that it did in this time; 0 where it is not about images.
        times_as_fast: as each peer of the group, by its name: median over the rounds of its time over this one's.
        share_of_floor: the convolutions' time at the machine's own rate, for the network as it is written, as a share
            of this one's.
        share_of_composed_floor: the same for the network with its pyramid re-associated (`model.reassociation`).
        peak_mb: MiB at the peak, of a process of its own.
        waiting_share: of its time, spent waiting for data.
        note: what else was found.
    """

    group: str
    who: str
    ms: float | None = None
    images: int = 0
    times_as_fast: Mapping[str, float] = field(default_factory=dict)
    share_of_floor: float | None = None
    share_of_composed_floor: float | None = None
    peak_mb: float | None = None
    waiting_share: float | None = None
    note: str = ""

    @property
    def images_per_second(self) -> float | None:
        """None where images were not timed."""
        return 1000 * self.images / self.ms if self.ms and self.images else None


def timed_rows(
    group: str,
    timings: Mapping[str, Timing],
    *,
    peers: Sequence[str],
    images: int = 0,
    shares: Mapping[str, float | None] | None = None,
    composed_shares: Mapping[str, float | None] | None = None,
    notes: Mapping[str, str] | None = None,
) -> list[Row]:
    """A row a contestant, with its ratio to every peer among them.

    Args:
        timings: by contestant.
        shares, composed_shares, notes: by contestant, where there are any.
    """
    return [
        Row(
            group=group,
            who=who,
            ms=timing.milliseconds,
            images=images,
            times_as_fast={peer: timings[peer].ratio_to(timing) for peer in peers if peer in timings and peer != who},
            share_of_floor=(shares or {}).get(who),
            share_of_composed_floor=(composed_shares or {}).get(who),
            note=(notes or {}).get(who, ""),
        )
        for who, timing in timings.items()
    ]


def groups_of(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by group, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups
