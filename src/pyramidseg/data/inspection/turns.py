"""Images that EXIF tags turn in a way that sizes do not show: what can be said of their masks.

Turned upside down, mirrored or square, image and mask have the same size whether the mask was turned or not. That is no
defect by itself: who labels in a viewer that turns images has the right masks. It is one where the sizes of other pairs
of the dataset show that its masks were not turned, and those of none that they were.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pyramidseg.data.alignment import Turn, orientation
from pyramidseg.data.defect_kinds import Defect, Kind
from pyramidseg.data.records import Record

NAMED = 10
"""So many files are named in a remark."""


class Turns:
    """What is known of the turned pairs of a dataset."""

    def __init__(self) -> None:
        self._shown = self._missing = 0
        self._unseen: list[Record] = []
        self._of_mask: list[Record] = []

    def add(self, record: Record, turn: Turn) -> None:
        """Take in one pair."""
        self._shown += turn is Turn.SHOWN
        self._missing += turn is Turn.MISSING
        if turn is Turn.UNSEEN:
            self._unseen.append(record)
        elif turn is Turn.OF_MASK:
            self._of_mask.append(record)

    def defects(self) -> Iterator[Defect]:
        """Masks that were not turned, going by the others of the dataset."""
        for record in self._unseen if self._masks_are_unturned else ():
            detail = (
                f"its image {record.image} is turned by its EXIF tag (orientation {orientation(record.image)}), and "
                f"going by the sizes of {self._missing} others, the masks of this dataset were not; turn the mask too, "
                "or take the tag away"
            )
            yield Defect(Kind.EXIF_TURNED, record.mask or record.image, detail)

    def doubtful(self) -> tuple[Path, ...]:
        """Files whose tag turns them, while nothing shows whether it should: images, and masks with a tag alone."""
        images = () if self._masks_are_unturned else (record.image for record in self._unseen)
        return *images, *(record.mask or record.image for record in self._of_mask)

    def remarks(self) -> Iterator[str]:
        """What somebody has to look at."""
        if self._unseen and not self._masks_are_unturned:
            yield (
                f"{len(self._unseen)} images are turned by their EXIF tag in a way that sizes do not show; look "
                f"whether their masks were turned too: {named([record.image for record in self._unseen])}"
            )
        if self._of_mask:
            files = [record.mask or record.image for record in self._of_mask]
            yield (
                f"{len(files)} masks are turned by an EXIF tag that their images do not have, in a way that sizes do "
                f"not show; look whether they fit: {named(files)}"
            )

    @property
    def _masks_are_unturned(self) -> bool:
        return self._missing > 0 and self._shown == 0


def named(files: Sequence[Path]) -> str:
    """The first few of them."""
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(map(str, files[:NAMED])) + more
