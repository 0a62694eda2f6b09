"""The page of the results, in Markdown: what was asked beside what was reached, then every section."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from benchmarks.speed.epoch import ROUNDS
from benchmarks.speed.goals import Goal, goals
from benchmarks.speed.results import Results, Section
from benchmarks.speed.rows import Row, groups_of
from benchmarks.speed.settings import Settings

HEAD = """# Speed

Written by `python -m benchmarks.speed --out DIR --table FILE`, from sections whose commands are given with them, on
{machine}.

- All contestants of a group take turns in one process; times are medians over the rounds, and *times as fast* is the
  median of the ratios within a round. Each section runs in a process of its own, where the roofline is measured first;
  the roofline and the number of rounds are printed below each title. Batches and folders take half as many rounds,
  epochs at most {epochs}, the start of the command twice as many; memory is measured once, that of folders three times.
- *Of the floor*: the time that the network's own convolutions would take at that rate, as a share of the time taken;
  *re-associated* counts the convolutions of the network with its pyramid re-associated, which is what ours computes
  unless a row says *as written* (on a GPU all are). One-by-one and depthwise convolutions cannot reach the rate, so
  that networks made of them stay far below.
- Prediction is from pixels in memory to a label map, the peer's normalisation and argmax included. *ours* is without
  smoothing, and so computes what SMP's FPN computes; *ours with smoothing*, the default, computes more and should be
  compared with its own floor. *As written* is the same network layer by layer (`--as-written`). The weights are
  random: between 13 and 56 % of the cells of the label maps are mixed, where a trained network's are about a tenth, so
  our last step has more work here.
- int8 rows are of random weights too, calibrated on 8 images, with 8-bit weights on a processor with VNNI (`vnni`), and
  without the gate of `pyramidseg export`, which writes 7-bit weights by default (`--target any`); the gate's figures
  are in docs/export.md.
- Training is at equal arithmetic, loss and optimiser (cross entropy, AdamW); a step is counted as three forward
  passes. Memory is the peak of a process of its own, without the memory that imports take.

## Goals

"""

TITLES = {
    "prediction": "Prediction, from pixels to label map",
    "memory": "Peak memory",
    "training": "Training step",
    "epoch": "Training epoch, data included",
    "folder": "A folder of images, from files to label maps",
    "labels": "Coarse logits to label map",
    "startup": "Starting the command",
}

ARGUMENTS = {
    "encoders": "--encoders",
    "side_px": "--size",
    "batch": "--batch-size",
    "rounds": "--rounds",
    "crop_px": "--crop",
    "images": "--images",
    "precisions": "--precisions",
}
"""By setting; `camvid` is a path, which is not printed."""


def page(results: Results) -> str:
    """All that was measured."""
    parts = [HEAD.format(machine=results.machine, epochs=ROUNDS), _goals(goals(results.rows()))]
    for name, title in TITLES.items():
        if name in results.sections:
            section = results.sections[name]
            parts.append(f"\n## {title}\n\n{_conditions(name, section)}\n\n{_section(section)}")
    return "".join(parts)


def _conditions(name: str, section: Section) -> str:
    """What a section was measured under, beside what its groups' names say."""
    rates = " and ".join(f"{rate:g} GFLOP/s in {precision}" for precision, rate in section.roofline.items())
    rounds = section.settings["rounds"]
    return f"`{_command(name, section)}`: {rounds} rounds; the convolution roofline: {rates}."


def _command(name: str, section: Section) -> str:
    """The command of a section, with every argument that is not the default."""
    parts = ["python -m benchmarks.speed --out DIR --only", name]
    for setting, default in asdict(Settings()).items():
        value = section.settings.get(setting, default)
        if setting == "camvid":
            parts += ["--camvid DATASET"] if value else []
        elif setting in ARGUMENTS and _argument(value) != _argument(default):
            parts += [ARGUMENTS[setting], _argument(value)]
    return " ".join(parts)


def _argument(value: object) -> str:
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


def _goals(found: Iterable[Goal]) -> str:
    return markdown_table(
        ("", "goal", "measured", "by"),
        [
            (
                goal.what,
                f"{'at most ' if goal.at_most else ''}{goal.asked:g}",
                "not measured"
                if goal.reached is None
                else f"**{goal.reached:.3g}**{'' if goal.is_met else ' (missed)'}",
                goal.by,
            )
            for goal in found
        ],
    )


def _section(section: Section) -> str:
    parts = []
    for group, rows in groups_of(section.rows).items():
        peers = list(dict.fromkeys(peer for row in rows for peer in row.times_as_fast))
        columns = [column for column in COLUMNS if any(column[1](row) for row in rows)]
        head = [group, *(title for title, _ in columns), *(f"times as fast as {peer}" for peer in peers)]
        lines = [[row.who, *(cell(row) for _, cell in columns), *(_ratio(row, peer) for peer in peers)] for row in rows]
        parts.append(markdown_table(head, lines))
    return "\n".join(parts)


def _ratio(row: Row, peer: str) -> str:
    return f"{row.times_as_fast[peer]:.2f}" if peer in row.times_as_fast else ""


def _ms(row: Row) -> str:
    return "" if row.ms is None else f"{row.ms:.1f}" if row.ms < 1000 else f"{row.ms:.0f}"


def _rate(row: Row) -> str:
    return "" if row.images_per_second is None else f"{row.images_per_second:.1f}"


def _share(row: Row) -> str:
    return "" if row.share_of_floor is None else f"{100 * row.share_of_floor:.0f} %"


def _composed_share(row: Row) -> str:
    return "" if row.share_of_composed_floor is None else f"{100 * row.share_of_composed_floor:.0f} %"


def _peak(row: Row) -> str:
    return "" if row.peak_mb is None else f"{row.peak_mb:.0f}"


def _waiting(row: Row) -> str:
    return "" if row.waiting_share is None else f"{100 * row.waiting_share:.2f} %"


COLUMNS = (
    ("ms", _ms),
    ("images/s", _rate),
    ("of the floor", _share),
    ("of the floor, re-associated", _composed_share),
    ("MiB", _peak),
    ("waiting for data", _waiting),
    ("remarks", lambda row: row.note),
)


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
