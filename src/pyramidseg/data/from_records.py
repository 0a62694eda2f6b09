"""A dataset from a list of records that the user made in Python."""

from collections.abc import Iterable

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Dataset, Record


def dataset_from_records(
    *,
    train: Iterable[Record] = (),
    val: Iterable[Record] = (),
    test: Iterable[Record] = (),
    classes: Classes | Iterable[str],
    ignore: Iterable[int] = (),
) -> Dataset:
    """A dataset of the given records, with index masks whose values are the class ids.

    Args:
        classes: class names in the order of their ids, or `Classes`.
        ignore: mask values to ignore, in addition to 255, which is always ignored.

    Raises:
        DataError: a record is not a `Record`, a class name is invalid, or a value to ignore is not an integer.
    """
    classes = classes if isinstance(classes, Classes) else Classes.from_names(classes)
    splits = {"train": tuple(train), "val": tuple(val), "test": tuple(test)}
    for name, records in splits.items():
        for record in records:
            if not isinstance(record, Record):
                raise DataError(f"{name}: {record!r} is not a Record; create it with Record(id, image, mask)")
    ignore = (ignore,) if isinstance(ignore, int) else tuple(ignore)
    for value in ignore:
        if not isinstance(value, int):
            raise DataError(f"ignore: {value!r} is not a mask value; give integers")
    return Dataset(
        source="records",
        layout="records from Python",
        classes=classes,
        masks=ClassMasks.identity(len(classes), ignore=ignore),
        splits=splits,
    )
