"""results.json: every section with the conditions that it was measured under, so that runs of a part add up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.goals import goals
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Settings

from pyramidseg.base.files import write_text
from pyramidseg.studies.hardware import Machine
from pyramidseg.studies.roofline import Roofline

RESULTS = "results.json"


class OtherMachine(Exception):
    """Results are there that were measured elsewhere, or otherwise."""


@dataclass(frozen=True)
class Section:
    """What one section found.

    Attributes:
        roofline: GFLOP/s by precision, measured in the same run.
        seconds: that it took.
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Any]
    roofline: Mapping[str, float]
    seconds: float


@dataclass
class Results:
    """All sections that were ever measured into a folder."""

    machine: Machine
    sections: dict[str, Section] = field(default_factory=dict)

    def add(self, name: str, rows: Sequence[Row], settings: Settings, roofline: Roofline, seconds: float) -> None:
        """A section, in the place of what an earlier run found."""
        kept = {**asdict(settings), "camvid": settings.camvid is not None}  # no paths
        rates = {precision: round(rate / 1e9, 1) for precision, rate in roofline.flop_per_second.items()}
        self.sections[name] = Section(tuple(rows), kept, rates, round(seconds, 1))

    def rows(self) -> dict[str, tuple[Row, ...]]:
        """By section."""
        return {name: section.rows for name, section in self.sections.items()}

    def write(self, folder: Path) -> None:
        """All of it, with the goals."""
        content = {
            "machine": asdict(self.machine),
            "sections": {name: asdict(section) for name, section in self.sections.items()},
            "goals": [{**asdict(goal), "met": goal.is_met} for goal in goals(self.rows())],
        }
        write_text(folder / RESULTS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_results(folder: Path, machine: Machine) -> Results:
    """What earlier runs left in a folder; nothing if there is none.

    Raises:
        OtherMachine: they ran on another machine, or with other versions or threads.
    """
    file = folder / RESULTS
    if not file.exists():
        return Results(machine)
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["machine"] != asdict(machine):
        raise OtherMachine(f"{file} is of another machine, or of other versions; choose another --out")
    sections = {
        name: Section(**{**section, "rows": tuple(Row(**row) for row in section["rows"])})
        for name, section in content["sections"].items()
    }
    return Results(machine, sections)
