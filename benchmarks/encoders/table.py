"""The results of the sweep: a row an encoder, kept as CSV so that sweeps add up, and shown as Markdown."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from pyramidseg.base.files import write_text

Status = Literal["works", "refused", "fails", "unchecked"]

HEAD = """# Encoders

Every depth of the two families, and a small member of each other family of timm, as `python -m benchmarks.encoders`
measured them with {versions}. That command wrote this page and the [figures beside it](encoders.csv);
`--only PATTERN` updates a part. Other names of timm are accepted too; an encoder that cannot be used is refused with
the reason.

## Those that work

{works} of {all} work, which means: logits of the image's own size at 1x1, 33x47 and 64x96 pixels; a finite gradient
for every parameter; 1, 3, 4 and 13 channels; and a saved bundle that gives the same logits bit by bit.

- **Parameters, GMAC, latency** are those of the encoder alone, for one image of 512x512; attention is included.
  Latency is the median in float32 on {machines}. **x ResNet-18** is the most reliable column, because both
  encoders were timed alternately.
- **Other strides**: which of `finest_stride=2`, `coarsest_stride=8` and `coarsest_stride=16` are available.
- **Pads to**: images are padded internally to multiples of this number of pixels. It is the coarsest stride, 32, unless
  the network's windows need more, which costs time on small images.
- **Weights**: tags of timm that were trained on ImageNet-1k's classes, for `encoder_weights=TAG`; the bold one is
  used for `encoder_weights=imagenet`.
"""

COLUMNS = (
    "Encoder",
    "Family",
    "Parameters, M",
    "GMAC",
    "Latency, ms",
    "x ResNet-18",
    "Channels at stride 32",
    "Other strides",
    "Pads to",
    "Weights",
)

REFUSED_HEAD = """
## Those that are refused

`Segmenter(encoder=...)` raises a `ConfigError` with this text before weights are downloaded.
"""

FAILED_HEAD = """
## Those that fail

These encoders are accepted but fail a check: defects of pyramidseg.
"""

UNCHECKED_HEAD = """
## Not checked yet

"""

SHOWN_TAGS = 2


@dataclass(frozen=True)
class Row:
    """What is known of an encoder: texts are empty and numbers 0 where it is not known.

    Attributes:
        status: all checks passed; `Segmenter` refuses it; or a check failed. `reason` says why.
        gmac: of the encoder alone, one image of 512x512.
        size_multiple: pixels that images are padded to multiples of.
        other_strides: which of 2 (the finest), 8 and 16 (the coarsest) can be had, separated by spaces.
        weights: tags of timm with ImageNet-1k's classes, separated by spaces, the pinned one first.
        pinned: the tag that `imagenet` stands for.
        latency_ms: median, of the encoder alone, one image of 512x512 in float32.
        ratio: median of the latencies by ResNet-18's, measured in turn.
        machine: where, and with what, the latency was measured.
    """

    encoder: str
    family: str
    status: Status = "unchecked"
    reason: str = ""
    parameters: int = 0
    gmac: float = 0.0
    coarsest_channels: int = 0
    size_multiple: int = 0
    other_strides: str = ""
    weights: str = ""
    pinned: str = ""
    latency_ms: float = 0.0
    ratio: float = 0.0
    machine: str = ""


def read_rows(path: Path) -> dict[str, Row]:
    """Rows of a CSV file by encoder; none if there is no file."""
    if not path.exists():
        return {}
    numbers = {field.name: field.type for field in fields(Row) if field.type in (int, float)}
    with path.open(encoding="utf-8", newline="") as file:
        lines = [{key: numbers.get(key, str)(text) for key, text in line.items()} for line in csv.DictReader(file)]
    return {line["encoder"]: Row(**line) for line in lines}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """All rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())


def write_page(path: Path, rows: Sequence[Row], *, versions: str) -> None:
    """The page that people read."""
    works, refused, failed, unchecked = (
        [row for row in rows if row.status == status] for status in ("works", "refused", "fails", "unchecked")
    )
    machines = ", ".join(sorted({row.machine for row in works if row.machine})) or "no machine yet"
    text = HEAD.format(versions=versions, works=len(works), all=len(rows), machines=machines)
    text += "\n" + _table(COLUMNS, [_cells(row) for row in works])
    if refused:
        text += REFUSED_HEAD + "\n" + _table(("Encoder", "Family", "Error"), [_reason_cells(row) for row in refused])
    if failed:
        text += FAILED_HEAD + "\n" + _table(("Encoder", "Family", "What fails"), [_reason_cells(row) for row in failed])
    if unchecked:
        text += UNCHECKED_HEAD + ", ".join(row.encoder for row in unchecked) + "\n"
    write_text(path, text)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"`{row.encoder}`",
        row.family,
        f"{row.parameters / 1e6:.1f}",
        f"{row.gmac:.1f}",
        f"{row.latency_ms:.0f}" if row.latency_ms else "",
        f"{row.ratio:.2f}" if row.ratio else "",
        str(row.coarsest_channels),
        row.other_strides.replace(" ", ", "),
        str(row.size_multiple),
        _weights_cell(row),
    )


def _weights_cell(row: Row) -> str:
    tags = row.weights.split()
    if not tags:
        return "none"
    shown = [f"**{tag}**" if tag == row.pinned else tag for tag in tags[:SHOWN_TAGS]]
    more = f" and {len(tags) - SHOWN_TAGS} more" if len(tags) > SHOWN_TAGS else ""
    return ", ".join(shown) + more


def _reason_cells(row: Row) -> tuple[str, ...]:
    return f"`{row.encoder}`", row.family, row.reason.replace("|", "\\|")


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
