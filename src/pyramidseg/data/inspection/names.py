"""Names that are in each other's way."""

from collections.abc import Iterator, Mapping

from pyramidseg.data.defect_kinds import Defect, Kind
from pyramidseg.data.records import Record


def find_clashes(splits: Mapping[str, tuple[Record, ...]]) -> Iterator[Defect]:
    """Ids that a split has twice, and such as a file system that knows no upper and lower case would hold for one."""
    for split, records in splits.items():
        first: dict[str, Record] = {}
        exact: set[str] = set()
        for record in sorted(records, key=lambda record: record.id):  # whatever order they are listed in
            other = first.setdefault(record.id.casefold(), record)
            if record.id in exact:
                detail = f"the id {record.id!r} is given to another image of split {split} too; ids must differ"
                yield Defect(Kind.REPEATED_ID, record.image, detail)
            elif other is not record:
                detail = (
                    f"differs from {other.image.name} in upper and lower case only, and so do their masks: Windows and "
                    "macOS hold them for one file; rename one"
                )
                yield Defect(Kind.CASE_COLLISION, record.image, detail)
            exact.add(record.id)
