"""Datasets with planted defects: what is planted is known, so that an inspection can be held against it.

A format is a function that takes the folder of a dataset and returns its `Layout`. Everything follows from a seed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from planted_defects import (
    IN_COLORS,
    IN_IMAGES,
    IN_MASKS,
    IN_NUMBERS,
    IN_PAIRS,
    IN_SHAPES,
    VAL_ONLY,
    colors_among_numbers,
    no_image,
    no_mask,
    other_case,
    other_size,
    stray_value,
)
from planted_pairs import (
    CLASSES,
    COLORS,
    Expected,
    Labels,
    Layout,
    Pair,
    scene,
    write_colors,
    write_index,
    write_json,
    write_pair,
)
from pyramidseg.base.defects import DefectKind


def paired(root: Path) -> Layout:
    """`{split}/images`, `{split}/masks`, index masks, classes in dataset.yaml."""
    root.mkdir(parents=True)
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(CLASSES)}]")
    return Layout(
        root,
        image=lambda split, name: root / split / "images" / f"{name}.png",
        mask=lambda split, name: root / split / "masks" / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_NUMBERS, *IN_PAIRS),
    )


def unlisted(root: Path) -> Layout:
    """`images/{split}`, `masks/{split}`, index masks whose values nobody has named: strays leave two readings."""
    return Layout(
        root,
        image=lambda split, name: root / "images" / split / f"{name}.png",
        mask=lambda split, name: root / "masks" / split / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, stray_value, colors_among_numbers, *IN_PAIRS),
        spoils=(DefectKind.UNCLEAR_CLASSES,),
    )


def segnet(root: Path) -> Layout:
    """`{split}`, `{split}annot`."""
    root.mkdir(parents=True)
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(CLASSES)}]")
    return Layout(
        root,
        image=lambda split, name: root / split / f"{name}.png",
        mask=lambda split, name: root / f"{split}annot" / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_NUMBERS, *IN_PAIRS),
    )


def colored(root: Path) -> Layout:
    """A YAML file that names folders and colours; masks carry a suffix."""
    root.mkdir(parents=True)
    classes = ", ".join(f"{{name: {name}, color: {list(color)}}}" for name, color in zip(CLASSES, COLORS, strict=True))
    file = root / "mine.yaml"
    file.write_text(
        "train: {images: a/pictures, masks: a/truth}\nval: {images: b/pictures, masks: b/truth}\n"
        f'classes: [{classes}]\nignore: "#000000"\n'
    )
    folder = {"train": "a", "val": "b"}
    return Layout(
        file,
        image=lambda split, name: root / folder[split] / "pictures" / f"{name}.png",
        mask=lambda split, name: root / folder[split] / "truth" / f"{name}_mask.png",
        write_mask=write_colors,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_COLORS, *IN_PAIRS),
    )


def voc(root: Path) -> Layout:
    """JPEGImages, SegmentationClass in colours, and lists of names."""
    root.mkdir(parents=True)
    (root / "class_names.txt").write_text("\n".join(CLASSES))

    def finish(layout: Layout) -> None:
        for split in ("train", "val"):
            file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{name}\n" for kind, name in layout.labels if kind == split))

    return Layout(
        root,
        image=lambda split, name: root / "JPEGImages" / f"{name}.png",
        mask=lambda split, name: root / "SegmentationClass" / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_NUMBERS, no_image, no_mask, other_case),
        finish=finish,
    )


def labelme(root: Path) -> Layout:
    """A JSON file of polygons beside each image."""

    def write(path: Path, labels: Labels) -> None:
        shapes = [{"label": name, "points": corners} for name, corners in outlines(labels).items()]
        height, width = labels.shape
        write_json(path, imagePath=f"{path.stem}.png", imageHeight=height, imageWidth=width, shapes=shapes)

    return Layout(
        root,
        image=lambda split, name: root / split / f"{name}.png",
        mask=lambda split, name: root / split / f"{name}.json",
        write_mask=write,
        defects=(*IN_IMAGES, *IN_SHAPES, no_image, other_size, other_case),
    )


def coco(root: Path) -> Layout:
    """A JSON file for each split, beside its images."""

    def finish(layout: Layout) -> None:
        for split in ("train", "val"):
            images, annotations = [], []
            for number, ((kind, name), labels) in enumerate(layout.labels.items()):
                if kind == split:
                    height, width = labels.shape
                    images.append({"id": number, "file_name": f"{name}.png", "height": height, "width": width})
                    annotations += [
                        {
                            "id": len(annotations) + place,
                            "image_id": number,
                            "category_id": CLASSES.index(label),
                            "iscrowd": 0,
                            "segmentation": [np.ravel(corners).tolist()],
                        }
                        for place, (label, corners) in enumerate(outlines(labels).items())
                    ]
            categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES) if index]
            file = layout.mask(split, "")
            write_json(file, images=images, annotations=annotations, categories=categories)

    return Layout(
        root,
        image=lambda split, name: root / split / f"{name}.png",
        mask=lambda split, name: root / split / "_annotations.coco.json",
        write_mask=lambda path, labels: None,
        defects=(*IN_IMAGES, other_size, other_case),
        finish=finish,
    )


def outlines(labels: Labels) -> dict[str, list[list[int]]]:
    """The corners of a box around each class but the ground."""
    found = {}
    for index, name in enumerate(CLASSES):
        rows, columns = np.nonzero(labels == index)
        if index and len(rows):
            top, left, bottom, right = (
                int(end) for end in (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            )
            found[name] = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return found


FORMATS: Mapping[str, Callable[[Path], Layout]] = {
    "paired": paired, "unlisted": unlisted, "segnet": segnet, "colored": colored, "voc": voc, "labelme": labelme,
    "coco": coco,
}  # fmt: skip


def write_dataset(layout: Layout, *, seed: int, good: int, times: int = 0) -> list[Expected]:
    """Good pairs in train and val, and every defect of the format so many times; returns what was planted."""
    rng = np.random.default_rng(seed)
    for index in range(good):
        split = "val" if index % 4 == 3 else "train"
        write_pair(layout, split, f"good_{index:03d}", *scene(rng))
    models = [f"good_{index:03d}" for index in range(good) if index % 4 != 3]
    planted: list[Expected] = []
    for defect in layout.defects:
        for turn in range(times):
            split = "val" if defect in VAL_ONLY or turn % 3 == 2 else "train"
            pair = Pair(layout, split, f"x_{defect.__name__}_{turn}", *scene(rng), models.pop(), rng)
            pair.write()
            planted.append(defect(pair))
    layout.finish(layout)
    return planted + [(kind, layout.source) for kind in layout.spoils if times]
