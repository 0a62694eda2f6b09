"""Datasets as users have them: a folder whose layout is recognised, or a YAML file that describes it.

A format is a function that lists records (`Reader`), and an entry in `READERS`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pyramidseg.classes import Classes
from pyramidseg.config import DataConfig, LabelConfig
from pyramidseg.data.parallel import Track, untracked
from pyramidseg.data.readers.labels import decide_labels
from pyramidseg.data.readers.listing import USUAL_FOLDERS, Listing, Reader, SplitFolders
from pyramidseg.data.readers.paired import read_paired
from pyramidseg.data.readers.pairing import pair_folders
from pyramidseg.data.readers.segnet import read_segnet
from pyramidseg.data.readers.splitting import with_val_split
from pyramidseg.data.readers.yaml_file import ClassEntry, DatasetFile, SplitEntry, read_dataset_file
from pyramidseg.data.records import Dataset
from pyramidseg.errors import ConfigError, DataError, nearest

READERS: dict[str, Reader] = {
    "paired": Reader("images and masks, with a folder for each split above or below them or without any", read_paired),
    "segnet": Reader("{split} and {split}annot", read_segnet),
}

DEFAULT_VAL_SHARE = 0.2
DESCRIPTION = "dataset.yaml"
"""A folder that holds a file of this name is read by it."""


def open_dataset(
    source: str | Path | Dataset, data: DataConfig, *, assumed: Classes | None = None, track: Track = untracked
) -> Dataset:
    """List a dataset, decide on its classes, and see that it has a validation split.

    Args:
        source: a folder, a YAML file (`yaml_file`), or a dataset made in Python.
        data: `format`, `classes` and what `LabelConfig` has are used, and go before those of the file; what is ignored
            is added up.
        assumed: the classes of the model that the dataset is opened for; taken where the dataset says none.
        track: shows the progress of the pass over all masks that classes are inferred by, where none are given.

    Raises:
        DataError: there is nothing, or nothing that can be read, or the labels leave more than one reading.
        ConfigError: the YAML file or the settings say what is not possible.
    """
    if isinstance(source, Dataset):
        return with_val_split(source, data.val_share or DEFAULT_VAL_SHARE, group=data.group)
    file, description = _describe(Path(source))
    root = Path(source) if file is None else file.parent / description.path
    listing = _list(root, file, description, data.format or description.format)
    config = _joined(data, description)
    labels = decide_labels(
        listing,
        source=str(file or root),
        classes=tuple(ClassEntry(name=name) for name in data.classes) if data.classes else description.classes,
        config=config,
        assumed=assumed,
        track=track,
    )
    described = () if file is None or file == Path(source) else (f"described by {file}",)
    dataset = Dataset(
        source=str(source),
        layout=listing.layout,
        classes=labels.classes,
        masks=labels.masks,
        splits={split: records for split, records in listing.splits.items() if records},
        notes=(*described, *listing.notes, *labels.notes),
    )
    return with_val_split(dataset, config.val_share or DEFAULT_VAL_SHARE, group=config.group)


def _joined(data: DataConfig, description: DatasetFile) -> LabelConfig:
    """What the settings say before what the file says; what is ignored is added up."""
    said = {name: getattr(data, name) for name in LabelConfig.model_fields if name in data.model_fields_set}
    joined = {**{name: getattr(description, name) for name in LabelConfig.model_fields}, **said}
    return LabelConfig(**{**joined, "ignore": tuple(dict.fromkeys((*data.ignore, *description.ignore)))})


def _describe(source: Path) -> tuple[Path | None, DatasetFile]:
    """The YAML file that describes the dataset, if there is one, and what it says."""
    if source.is_dir():
        file = source / DESCRIPTION
        return (file, read_dataset_file(file)) if file.is_file() else (None, DatasetFile())
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; a dataset is a folder or a YAML file")
    if source.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{source}: is no dataset; a dataset is a folder or a YAML file (.yaml, .yml)")
    return source, read_dataset_file(source)


def _list(root: Path, file: Path | None, description: DatasetFile, format: str | None) -> Listing:
    if not root.is_dir():
        raise DataError(f"{file}: path: there is no folder {root}; path is relative to the file")
    if format is not None and format not in READERS:
        raise ConfigError(f"{file or 'data.format'}: unknown dataset format {format!r}; {nearest(format, READERS)}")
    entries = description.splits
    named = {split: (entry.folder.lower(),) for split, entry in entries.items() if entry.folder is not None}
    if not entries or named:
        listing = _recognise(root, named or USUAL_FOLDERS, format)
    else:
        listing = Listing("folders named in the YAML file", {})
    for split in named:
        if split not in listing.splits:
            raise DataError(f"{file}: {split}: no images with masks in a folder {named[split][0]!r} of {root}")
    for split, entry in entries.items():
        if entry.folder is None:
            listing = _add(listing, split, entry, root=root, file=file)
    return listing


def _recognise(root: Path, folders: SplitFolders, format: str | None) -> Listing:
    """The listing by the one format that fits.

    Raises:
        DataError: none does, or several do.
    """
    readers = READERS if format is None else {format: READERS[format]}
    listings = {name: listing for name, reader in readers.items() if (listing := reader.read(root, folders))}
    if len(listings) > 1:
        raise DataError(f"{root}: could be {' or '.join(listings)}; say which with data.format=...")
    for listing in listings.values():
        return listing
    shapes = "; ".join(f"{name} ({reader.shape})" for name, reader in readers.items())
    inner = next((path for path in _folders(root) if _fits(path, folders, readers)), None)
    hint = f"; the folder {inner.name} in it can be read: name {inner}" if inner else ""
    asked = "" if folders == USUAL_FOLDERS else f" with the folders {', '.join(map(repr, _names(folders)))}"
    raise DataError(
        f"{root}: not recognised as a dataset{asked}: found {_content(root)}; known layouts: {shapes}{hint}"
    )


def _names(folders: SplitFolders) -> list[str]:
    return [name for names in folders.values() for name in names]


def _fits(folder: Path, folders: SplitFolders, readers: Mapping[str, Reader]) -> bool:
    try:
        return any(reader.read(folder, folders) for reader in readers.values())
    except DataError:
        return False


def _add(listing: Listing, split: str, entry: SplitEntry, *, root: Path, file: Path | None) -> Listing:
    images, masks = root / (entry.images or ""), root / (entry.masks or "")
    for key, folder in (("images", images), ("masks", masks)):
        if not folder.is_dir():
            raise DataError(f"{file}: {split}.{key}: there is no folder {folder}")
    records, notes = pair_folders(images, masks)
    return replace(listing, splits={**listing.splits, split: records}, notes=(*listing.notes, *notes))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _content(root: Path) -> str:
    """What lies in a folder, in a few words."""
    folders = [f"{path.name}/" for path in _folders(root)]
    kinds = Counter(path.suffix.lower() or "without extension" for path in root.iterdir() if path.is_file())
    files = [f"{count} {kind}" for kind, count in kinds.most_common()]
    found = folders[:6] + ([f"{len(folders) - 6} more folders"] if len(folders) > 6 else []) + files[:4]
    return ", ".join(found) or "nothing"
