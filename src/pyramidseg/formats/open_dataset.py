"""Opens a dataset: a folder whose format is detected, or a YAML file that describes one.

YAML file or folder -> detect the format -> read its records -> decide on the classes -> make a val split -> `Dataset`.
A format is a module with a `DatasetFormat`, and an entry in `FORMATS`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import CLASS, DataConfig, LabelConfig
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.base.text import first_few
from pyramidseg.data.records import Dataset, DatasetSource
from pyramidseg.formats import (
    ade20k,
    camvid,
    cityscapes,
    cvat_images,
    huggingface,
    labelme,
    paired,
    roboflow,
    run_lengths_csv,
    segnet,
    separate_masks,
    supervisely,
    via,
    voc,
)
from pyramidseg.formats.class_inference import decide_labels, placeholder_labels
from pyramidseg.formats.class_lists import has_damaged_list, with_class_list
from pyramidseg.formats.coco import instances, panoptic
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.dataset_statements import Statements, read_statements, refuse_unused, source_statements
from pyramidseg.formats.detection import read_folder
from pyramidseg.formats.geojson import geojson_folders
from pyramidseg.formats.geojson.geojson_classes import apply_label_config
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.formats.joined import join
from pyramidseg.formats.label_interpretation import AmbiguousLabelsError
from pyramidseg.formats.label_mapping import Labels, dataset_description
from pyramidseg.formats.label_studio import label_studio_dataset
from pyramidseg.formats.pairing import MatchedFiles, pair_folders
from pyramidseg.formats.scene_cutting import with_windows
from pyramidseg.formats.separate_masks import read_named
from pyramidseg.formats.split_files import divided_by_lists
from pyramidseg.formats.splitting import with_val_blocks, with_val_split
from pyramidseg.formats.unread_parts import with_unlisted_splits, with_unread_masks
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError, AmbiguousFoldersError, AmbiguousReadingError
from pyramidseg.formats.yolo import yolo_dataset
from pyramidseg.images.scene_windows import window_at

FORMATS: dict[str, DatasetFormat[Any]] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        *(paired, segnet, camvid, voc, roboflow, cityscapes, ade20k, instances, panoptic, yolo_dataset, labelme),
        *(
            cvat_images,
            label_studio_dataset,
            supervisely,
            via,
            separate_masks,
            run_lengths_csv,
            huggingface,
            geojson_folders,
        ),
    )
}
"""All dataset formats by name."""

_LISTS_AND_ANNOTATIONS = {DefectKind.ABSENT, DefectKind.BAD_ANNOTATION, DefectKind.EMPTY}
"""Defects of files that define classes, which settings may refer to."""

_NAME_DEFECTS = {DefectKind.MISSING_MASK, DefectKind.MISSING_IMAGE, DefectKind.SAME_STEM}

_SHOWN = 3

DEFAULT_VAL_SHARE = 0.2

DEFAULT_DATA = DataConfig()


def open_dataset(
    source: DatasetSource,
    data: DataConfig = DEFAULT_DATA,
    *,
    fallback_classes: Classes | None = None,
    divide: bool = True,
) -> Dataset:
    """List the images and masks of a dataset, decide on its classes, and make a validation split if there is none.

    Args:
        source: a folder, a YAML file (`dataset_yaml`), several of both, or a dataset made in Python.
        data: `format`, `classes` and the settings of `LabelConfig` are used and override those of the YAML file, except
            that the ignored values of both apply. For a dataset made in Python only `bands`, `val_share` and `group`
            apply.
        fallback_classes: the classes of the model that the dataset is opened for; used if the dataset defines none.
        divide: False makes a validation split only if `val_share` or `group` is stated, or for windows of large images,
            which could not be kept apart from their neighbours later.

    Raises:
        DataError: nothing that can be read is there, files have defects, or the dataset has several readings.
        ConfigError: the YAML file or the settings contradict themselves, or have no effect.
    """
    check_data_config(data)
    if isinstance(source, Dataset):
        return _with_settings(source, data)
    stated = read_statements(source, data)
    if stated.sources:
        return join(stated, [_open(each, divide=divide) for each in source_statements(stated, data)])
    return _open(stated, fallback_classes, divide=divide)


def check_data_config(data: object) -> None:
    """Refuse settings of another type by a ConfigError."""
    if not isinstance(data, DataConfig):
        raise ConfigError(f"data={data!r}: must be a DataConfig, for example ps.DataConfig(binary=True)")


def _open(stated: Statements, fallback_classes: Classes | None = None, *, divide: bool = True) -> Dataset:
    parsed = _list_records(stated)
    _refuse_defects(parsed.root, parsed.defects)
    parsed = _with_polygon_classes(parsed, stated, fallback_classes)
    labels = decide_labels(parsed, stated, fallback_classes=fallback_classes)
    return _with_val(_dataset(parsed, stated, labels), labels.config, divide=divide)


def open_with_defects(source: DatasetSource, data: DataConfig) -> tuple[Dataset, list[Defect]]:
    """Open a dataset for inspection: return its defects too, and read ambiguous masks by the likeliest interpretation.

    Raises:
        DataError: it is not recognised as a dataset.
        ConfigError: as `open_dataset`.
    """
    check_data_config(data)
    if isinstance(source, Dataset):
        return _with_settings(source, data), []
    stated = read_statements(source, data)
    if not stated.sources:
        return _open_with_defects(stated)
    sources = source_statements(stated, data)
    opened = [_open_with_defects(each) for each in sources]
    try:
        return join(stated, [dataset for dataset, _ in opened]), [one for _, found in opened for one in found]
    except AmbiguousDatasetError:
        for each in sources:  # the names may be unclear because of defects, or be a likely reading only
            _open(each)
        raise


def _open_with_defects(stated: Statements) -> tuple[Dataset, list[Defect]]:
    parsed = _list_records(stated)
    defects = list(parsed.defects)
    try:
        parsed = _with_polygon_classes(parsed, stated)
        labels = decide_labels(parsed, stated)
        dataset = _dataset(parsed, stated, labels)
    except AmbiguousLabelsError as error:
        if any(parsed.splits.values()) and not has_damaged_list(parsed):
            defects.append(Defect(DefectKind.UNCLEAR_CLASSES, stated.source, error.detail))
        likeliest = error.interpretations[0]
        read_so = replace(stated, classes=likeliest.classes or stated.classes, config=likeliest.apply(stated.config))
        labels = decide_labels(parsed, read_so)
        dataset = _dataset(parsed, stated, labels)
    except (DefectError, ConfigError) as error:  # no mask can be read, or the settings name classes of a damaged file
        if isinstance(error, ConfigError):
            if not any(defect.kind in _LISTS_AND_ANNOTATIONS for defect in defects):
                raise
            note = f"the settings do not fit what could be read: {error}"
            parsed = replace(parsed, notes=(*parsed.notes, note))
        labels = placeholder_labels(parsed, stated)
        dataset = _dataset(parsed, stated, labels, is_decided=False)
    if len(dataset.splits.get("train", ())) < 2 or "val" in parsed.splits:
        return dataset, defects  # too few images to divide, or a val split of which nothing can be read
    return _with_val(dataset, labels.config), defects


def _refuse_defects(root: Path, defects: Sequence[Defect]) -> None:
    """Refuse files that could not be listed.

    Raises:
        DataError: there are some; one defect in full, otherwise the number and the first few of each kind.
    """
    if len(defects) == 1:
        raise DefectError.of(defects)
    by_kind: dict[DefectKind, list[Defect]] = {}
    for defect in defects:
        by_kind.setdefault(defect.kind, []).append(defect)
    if not by_kind:
        return
    parts = []
    for kind, found in by_kind.items():
        files = [file.relative_to(root) if file.is_relative_to(root) else file for file in (one.file for one in found)]
        details = ["" if kind in _NAME_DEFECTS else f": {defect.detail}" for defect in found]
        named = [f"{file}{detail}" for file, detail in zip(files, details, strict=True)]
        parts.append(f"{kind.description} ({len(found)}): {first_few(named, limit=_SHOWN)}")
    if not _NAME_DEFECTS.isdisjoint(by_kind):
        parts.append("an image and its mask need the same name except for the extension: add or remove files")
    raise DataError(f"{root}: {'; '.join(parts)} (pyramidseg inspect lists all defects)")


def _with_polygon_classes(
    parsed: ParsedDataset, stated: Statements, fallback_classes: Classes | None = None
) -> ParsedDataset:
    taken = FORMATS[parsed.format].settings if parsed.format else ("mask_name",)
    return apply_label_config(parsed, stated, fallback_classes=fallback_classes, taken=taken)


def _list_records(stated: Statements) -> ParsedDataset:
    """List the records: by the format of the folder, and by the folders that a YAML file names."""
    names = {split: (entry.folder.lower(),) for split, entry in stated.splits.items() if entry.folder is not None}
    try:
        listed = _read_format(stated, names) if names or not stated.splits else _without_format(stated)
        parsed = _with_named_folders(listed, stated)
    except AmbiguousReadingError as error:
        raise AmbiguousDatasetError(stated.source, error.detail, error.alternatives) from None
    except AmbiguousFoldersError as error:
        if names:
            raise
        raise error.with_proposal(stated.source, stated.root) from None
    root = listed.root
    parsed = with_windows(with_unread_masks(root, parsed), stated)
    notes = [f"described by {stated.file}"] if stated.file not in (None, stated.named) else []
    notes += [f"the dataset is in {root}"] if root != stated.root and stated.file is None else []
    return replace(parsed, root=root, format=listed.format, notes=(*notes, *parsed.notes))


def _read_format(stated: Statements, names: SplitNames) -> ParsedDataset:
    """List the records of the format that is stated or detected.

    Args:
        names: of the folders of splits, as far as they are stated.
    """
    if stated.format is not None and stated.format not in FORMATS:
        origin = stated.file or "data.format"
        raise ConfigError(f"{origin}: unknown dataset format {stated.format!r}; {nearest(stated.format, FORMATS)}")
    formats = {stated.format: FORMATS[stated.format]} if stated.format else FORMATS
    parsed = read_folder(stated.root, names or SPLIT_NAMES, stated.config, formats=formats, source=stated.source)
    return parsed if names else with_unlisted_splits(parsed)


def _without_format(stated: Statements) -> ParsedDataset:
    """A dataset without records, to which the folders that all splits name are added."""
    if stated.format not in (None, geojson_folders.FORMAT.name):
        raise ConfigError(
            f"{stated.file or 'data.format'}: format={stated.format}: every split names its own folders, so leave the "
            "format out"
        )
    return with_class_list(ParsedDataset("folders named in the YAML file", {}, root=stated.root), stated.root)


def _with_named_folders(parsed: ParsedDataset, stated: Statements) -> ParsedDataset:
    """Add the splits that name their folders; report the splits of the format that were named and not found.

    Raises:
        AmbiguousReadingError: see `pair_folders`.
    """
    splits, root, mask_name = stated.splits, stated.root, stated.config.mask_name or ""
    folders = {
        split: (root / (it.images or ""), root / (it.masks or "")) for split, it in splits.items() if it.folder is None
    }
    if CLASS in mask_name and folders and all(place.is_dir() for pair in folders.values() for place in pair):
        return read_named(parsed.layout, folders, mask_name)
    for split, entry in splits.items():
        if split in folders:
            parsed = _with_split(parsed, split, *folders[split], stated)
        elif split not in parsed.splits:
            detail = f"{split}: no images with masks in a folder {entry.folder!r} of {root}; correct the name"
            defect = Defect(DefectKind.ABSENT, stated.file or root, detail)
            parsed = replace(parsed, defects=(*parsed.defects, defect))
    is_undivided = [*splits] == ["train"] == [*folders] and bool(parsed.splits.get("train"))
    return divided_by_lists(parsed, root) if is_undivided else parsed


def _with_split(parsed: ParsedDataset, split: str, images: Path, masks: Path, stated: Statements) -> ParsedDataset:
    file = stated.file or stated.root
    has_vectors = geojson_folders.is_vectors(masks)
    missing = tuple(
        Defect(DefectKind.ABSENT, file, f"{split}.{key}: folder {folder} does not exist; correct the name")
        for key, folder in (("images", images), ("masks", masks))
        if not folder.is_dir() and not (has_vectors and folder is masks)
    )
    if not missing and any(parsed.splits.values()) and has_vectors != isinstance(parsed.values, GeoJsonMasks):
        raise DataError(f"{file}: {split}.masks: GeoJSON in some splits and images in others; use one kind")
    if has_vectors and not missing:
        return geojson_folders.with_vectors(parsed, split, geojson_folders.pair_vectors(images, masks))
    matched = MatchedFiles((), missing) if missing else pair_folders(images, masks, stated.config.mask_name)
    return replace(
        parsed,
        splits={**parsed.splits, split: matched.records},
        notes=tuple(dict.fromkeys((*parsed.notes, *matched.notes))),
        defects=(*parsed.defects, *matched.defects),
    )


def _dataset(parsed: ParsedDataset, stated: Statements, labels: Labels, *, is_decided: bool = True) -> Dataset:
    return Dataset(
        source=str(stated.named),
        layout=parsed.layout,
        classes=labels.classes,
        masks=labels.masks,
        splits={split: records for split, records in parsed.splits.items() if records},
        notes=(*parsed.notes, *labels.notes),
        bands=labels.config.bands,
        description=dataset_description(parsed, stated, labels if is_decided else None),
    )


def _with_settings(dataset: Dataset, data: DataConfig) -> Dataset:
    """A dataset made in Python, with the settings that apply to it."""
    refuse_unused(data, dataset.source)
    return _with_val(replace(dataset, bands=data.bands or dataset.bands), data)


def _with_val(dataset: Dataset, config: LabelConfig, *, divide: bool = True) -> Dataset:
    """The dataset with a validation split, made from training images if there is none."""
    if dataset.splits.get("val"):
        for name in ("val_share", "group"):
            if (value := getattr(config, name)) is not None:
                raise ConfigError(
                    f"{dataset.source}: {name}={value}: the dataset already has a val split "
                    f"({len(dataset.splits['val'])} images), so none is made; leave it out"
                )
        return dataset
    if not dataset.splits.get("train"):
        return dataset
    is_cut = any(window_at(record.image) for record in dataset.splits["train"])
    if not (divide or is_cut or config.val_share or config.group):
        return dataset
    share = config.val_share or DEFAULT_VAL_SHARE
    dataset = with_val_blocks(dataset, share, config) if is_cut else with_val_split(dataset, share, group=config.group)
    return replace(dataset, description={**dataset.description, "val_share": share} if dataset.description else {})
