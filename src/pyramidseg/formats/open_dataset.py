"""Datasets as users have them: a folder whose layout is recognised, or a YAML file that describes it.

A format is a module with a `DatasetFormat`, and an entry in `FORMATS`.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig, LabelConfig
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.index_masks import NODATA_KEYWORD, IndexValues
from pyramidseg.data.records import Dataset
from pyramidseg.formats import ade20k, camvid, cityscapes, folders, labelme, roboflow, segnet, voc
from pyramidseg.formats.class_inference import AmbiguousLabelsError, Interpretation, decide_labels
from pyramidseg.formats.class_lists import PARSERS, find_class_list
from pyramidseg.formats.coco import instances, panoptic
from pyramidseg.formats.dataset_format import RARE_VAL_NAMES, SPLIT_NAMES, DatasetFormat, ParsedDataset
from pyramidseg.formats.dataset_yaml import ClassEntry, DatasetFile, SplitEntry, read_dataset_file, refuse_unused
from pyramidseg.formats.detection import Recognised, claims_on, recognise, refuse_defects
from pyramidseg.formats.geojson import geojson_folders
from pyramidseg.formats.geojson.geojson_classes import apply_label_config
from pyramidseg.formats.geojson.geojson_folders import is_vectors, pair_vectors, with_vectors
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.formats.label_mapping import dataset_description
from pyramidseg.formats.mask_sampling import black_and_white, mask_files, mask_with_nodata
from pyramidseg.formats.pairing import MatchedFiles, pair_folders
from pyramidseg.formats.splitting import with_val_split
from pyramidseg.formats.unlisted_splits import may_have_rare_val_name, with_unread_splits
from pyramidseg.formats.yolo import yolo_folders
from pyramidseg.formats.yolo.data_yaml import is_data_yaml

FORMATS: dict[str, DatasetFormat[Any]] = {
    format.name: format
    for format in (
        folders.FORMAT,
        segnet.FORMAT,
        camvid.FORMAT,
        camvid.FORMAT11,
        voc.FORMAT,
        roboflow.FORMAT,
        cityscapes.FORMAT,
        ade20k.FORMAT,
        instances.FORMAT,
        panoptic.FORMAT,
        yolo_folders.FORMAT,
        labelme.FORMAT,
        geojson_folders.FORMAT,
    )
}
"""All dataset formats by name."""

_OF_LISTS = {DefectKind.ABSENT, DefectKind.BAD_ANNOTATION, DefectKind.EMPTY}
"""Of lists and annotation files, whose classes settings may refer to."""

DEFAULT_VAL_SHARE = 0.2
DESCRIPTION = "dataset.yaml"
"""A folder that holds a file of this name is read by it."""


def open_dataset(
    source: str | Path | Dataset,
    data: DataConfig,
    *,
    assumed: Classes | None = None,
    defects: list[Defect] | None = None,
) -> Dataset:
    """List a dataset, decide on its classes, and see that it has a validation split.

    Args:
        source: a folder, a YAML file (`yaml_file`), or a dataset made in Python.
        data: `format`, `classes` and what `LabelConfig` has are used, and go before those of the file; what is ignored
            is added up. Of a dataset made in Python, `bands`, `val_share` and `group` are.
        assumed: the classes of the model that the dataset is opened for; taken where the dataset says none.
        defects: takes what is wrong with files that belong to no record, such as images without a mask, and masks that
            leave more than one reading; without it they are refused, with it one of the readings is taken.

    Raises:
        DataError: there is nothing, or nothing that can be read, or the labels leave more than one reading.
        ConfigError: the YAML file or the settings say what is not possible, or what has no effect.
    """
    if isinstance(source, Dataset):
        refuse_unused(data, source.source)
        return _with_val(replace(source, bands=data.bands or source.bands), data)
    file, description = _describe(Path(source))
    root = Path(source) if file is None else file.parent / description.path
    format, root, listing = _list(root, file, description, data.format or description.format)
    if defects is None:
        refuse_defects(root, listing.defects)
    else:
        defects += listing.defects
    listing, config = _with_nodata(listing, _joined(data, description))
    classes = tuple(ClassEntry(name=name) for name in data.classes) if data.classes else description.classes
    said, any_read = config, True
    decide = partial(
        decide_labels,
        source=str(file or root),
        assumed=assumed,
    )
    try:
        listing = apply_label_config(
            listing,
            config,
            classes=classes,
            assumed=assumed,
            source=str(file or root),
        )
        labels = decide(listing, classes=classes, config=config)
    except (DataError, ConfigError) as error:
        reading = _possible_reading(error, classes, damaged=any(defect.kind in _OF_LISTS for defect in listing.defects))
        if defects is None or reading is None:
            raise
        told = any(defect.file.name.lower() in PARSERS for defect in listing.defects)  # of the class list
        if isinstance(error, AmbiguousLabelsError) and any(listing.splits.values()) and not told:
            defects.append(Defect(DefectKind.UNCLEAR_CLASSES, file or root, error.detail))
        if isinstance(error, ConfigError):
            listing = replace(listing, notes=(*listing.notes, f"the settings do not fit what could be read: {error}"))
        any_read = isinstance(error, AmbiguousLabelsError)
        config = config.model_copy(update=dict(reading.settings))
        labels = decide(listing, classes=reading.classes, config=config)
    described = () if file is None or file == Path(source) else (f"described by {file}",)
    entered = () if file is not None or root == Path(source) else (f"the dataset lies in {root}",)
    dataset = Dataset(
        source=str(source),
        layout=listing.layout,
        classes=labels.classes,
        masks=labels.masks,
        splits={split: records for split, records in listing.splits.items() if records},
        notes=(*described, *entered, *listing.notes, *labels.notes),
        bands=config.bands,
        description=dataset_description(root, format, description.splits, labels, config, classes=classes),
    )
    if not any_read:  # the reading was a makeshift, and nothing to propose
        by_level = {"threshold": 128} if black_and_white(mask_files(listing)) else {}
        proposed = {**dataset_description(root, format, description.splits, None, said), **by_level}
        dataset = replace(dataset, description=proposed)
    if defects is not None and (len(dataset.splits.get("train", ())) < 2 or "val" in listing.splits):
        return dataset  # too few are left to take some out for validation, or it has its own, all of it defective
    return _with_val(dataset, config)


def _possible_reading(
    error: DataError | ConfigError, classes: tuple[ClassEntry, ...] | None, *, damaged: bool
) -> Interpretation | None:
    """How masks could be read that leave more than one reading, or none of which can be read at all.

    Args:
        damaged: whether lists or files are, which settings may refer to.
    """
    if isinstance(error, AmbiguousLabelsError):
        return error.reading if error.reading.classes else error.reading._replace(classes=classes)
    if not isinstance(error, DefectError) and not (isinstance(error, ConfigError) and damaged):
        return None
    return Interpretation((ClassEntry(name="class 0", color=(0, 0, 0)),), {"ignore": ("*",)})


def _with_nodata(listing: ParsedDataset, config: LabelConfig) -> tuple[ParsedDataset, LabelConfig]:
    """What index masks themselves call nodata, and what can be no index, is ignored, aloud."""
    if NODATA_KEYWORD in config.ignore or config.threshold is not None or not isinstance(listing.values, IndexValues):
        return listing, config
    mask = mask_with_nodata(
        mask_files(listing),
    )
    if mask is None:
        return listing, config
    note = (
        f"masks hold NaN, or values that their nodata tag names and that can be no class (such as {mask}): these count "
        f"nowhere (data.ignore={NODATA_KEYWORD})"
    )
    ignore = (*config.ignore, NODATA_KEYWORD)
    return replace(listing, notes=(*listing.notes, note)), config.model_copy(update={"ignore": ignore})


def _with_val(dataset: Dataset, config: LabelConfig) -> Dataset:
    if dataset.splits.get("val"):
        for name in ("val_share", "group"):
            if (value := getattr(config, name)) is not None:
                raise ConfigError(
                    f"{dataset.source}: {name}={value}: there is a val split of {len(dataset.splits['val'])} images "
                    "already, so none is made; leave it out"
                )
        return dataset
    if not dataset.splits.get("train"):
        return dataset
    share = config.val_share or DEFAULT_VAL_SHARE
    dataset = with_val_split(dataset, share, group=config.group)
    return replace(dataset, description={**dataset.description, "val_share": share} if dataset.description else {})


def _joined(data: DataConfig, description: DatasetFile) -> LabelConfig:
    """What the settings say before what the file says; what is ignored is added up."""
    said = {name: getattr(data, name) for name in LabelConfig.model_fields if name in data.model_fields_set}
    joined = {**{name: getattr(description, name) for name in LabelConfig.model_fields}, **said}
    return LabelConfig(**{**joined, "ignore": tuple(dict.fromkeys((*data.ignore, *description.ignore)))})


def _describe(source: Path) -> tuple[Path | None, DatasetFile]:
    """The YAML file that describes the dataset, if there is one, and what it says."""
    if source.is_dir():
        file = source / DESCRIPTION
        return (file, _read_description(file)) if file.is_file() else (None, DatasetFile())
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; a dataset is a folder or a YAML file")
    if source.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{source}: is no dataset; a dataset is a folder or a YAML file (.yaml, .yml)")
    return source, _read_description(source)


def _read_description(file: Path) -> DatasetFile:
    """Ours, or that of YOLO's datasets, which its reader finds in their folder."""
    return DatasetFile(format="yolo") if is_data_yaml(file) else read_dataset_file(file)


def _list(root: Path, file: Path | None, description: DatasetFile, format: str | None) -> Recognised:
    if not root.is_dir():
        raise DataError(f"{file}: path: there is no folder {root}; path is relative to the file")
    origin, entries = str(file or "data.format"), description.splits
    named = {split: (entry.folder.lower(),) for split, entry in entries.items() if entry.folder is not None}
    if not entries or named:
        found = recognise(root, named or SPLIT_NAMES, format=format, formats=FORMATS, origin=origin)
        if not named:
            found = _with_seldom_val(found)
            found = found._replace(listing=with_unread_splits(found.root, found.listing, _can_be_read))
    elif format not in (None, "geo"):
        raise ConfigError(f"{origin}: format={format}: every split names its own folders, so leave the format out")
    else:
        classes = find_class_list(root)
        listing = ParsedDataset(
            "folders named in the YAML file", {}, classes.labels, notes=classes.notes, defects=classes.defects
        )
        found = Recognised(None, root, listing)
    for split in named:
        assert file is not None, "only a file names folders"
        if split not in found.listing.splits:
            detail = f"{split}: no images with masks in a folder {named[split][0]!r} of {root}; correct the name"
            found = found.with_defects([Defect(DefectKind.ABSENT, file, detail)])
    for split, entry in entries.items():
        if entry.folder is None:
            found = found._replace(listing=_add(found.listing, split, entry, root=root, file=file))
    return found


def _with_seldom_val(found: Recognised) -> Recognised:
    """The same, or where there is no val, what is listed with one that is called `eval` or the like."""
    assert found.format is not None, "it was recognised"
    if [*found.listing.splits] not in (["train"], ["train", "test"]) or not may_have_rare_val_name(found.root):
        return found
    try:
        format = FORMATS[found.format]
        handle = format.detect(found.root, {**SPLIT_NAMES, "val": RARE_VAL_NAMES})
        listing = None if handle is None else format.read(handle)
    except DataError:
        return found
    if listing is None or not listing.splits.get("val") or listing.splits.get("train") != found.listing.splits["train"]:
        return found
    return found._replace(listing=listing)


def _can_be_read(folder: Path) -> bool:
    """Whether a folder is a dataset of any format by itself."""
    return bool(claims_on(folder, SPLIT_NAMES, FORMATS)[0])


def _add(listing: ParsedDataset, split: str, entry: SplitEntry, *, root: Path, file: Path | None) -> ParsedDataset:
    images, masks = root / (entry.images or ""), root / (entry.masks or "")
    vectors = is_vectors(masks)
    lacking = [
        Defect(DefectKind.ABSENT, file or root, f"{split}.{key}: there is no folder {folder}; correct the name")
        for key, folder in (("images", images), ("masks", masks))
        if not folder.is_dir() and not (vectors and folder is masks)
    ]
    if vectors and not lacking:
        return with_vectors(listing, split, pair_vectors(images, masks), origin=f"{file}: {split}.masks")
    found = MatchedFiles((), tuple(lacking)) if lacking else pair_folders(images, masks)
    if found.records and isinstance(listing.values, GeoJsonMasks):
        raise DataError(f"{file}: {split}.masks: image files here, and GeoJSON in another split; make them one kind")
    return replace(
        listing,
        splits={**listing.splits, split: found.records},
        notes=tuple(dict.fromkeys((*listing.notes, *found.notes))),
        defects=(*listing.defects, *found.defects),
    )
