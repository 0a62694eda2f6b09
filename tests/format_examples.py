"""A tiny dataset of each format: `EXAMPLES` names a function that writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from made_files import write
from made_geo import box, feature, on_map, polygon, write_geojson, write_image

HEIGHT, WIDTH, LEFT = 8, 10, 3
"""The object of every image covers its first columns."""

OUTLINE = [[0, 0], [LEFT, 0], [LEFT, HEIGHT], [0, HEIGHT]]
FLAT_OUTLINE = [value for point in OUTLINE for value in point]


class Example(NamedTuple):
    """A dataset that was written: names of its background and its object, and the file with the labels of one image."""

    background: str
    object: str
    label_file: Path


def image(path: Path) -> str:
    """An image that differs from all others; returns its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(str(path).encode())).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path.name


def index_mask(path: Path, background: int, object: int) -> Path:
    values = np.full((HEIGHT, WIDTH), background, np.uint8)
    values[:, :LEFT] = object
    return save(path, values)


def color_mask(path: Path, background: tuple[int, int, int], object: tuple[int, int, int]) -> Path:
    values = np.full((HEIGHT, WIDTH, 3), background, np.uint8)
    values[:, :LEFT] = object
    return save(path, values)


def save(path: Path, values: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def pairs(root: Path, images: str, masks: str, background: int, object: int, *, splits: tuple[str, str]) -> Path:
    """Two images with index masks in each split; `{}` in the paths is the split, `*` the name. Returns a mask."""
    written = []
    for split in splits:
        for name in ("a", "b"):
            image(root / images.format(split).replace("*", name))
            written.append(index_mask(root / masks.format(split).replace("*", name), background, object))
    return written[0]


def paired(root: Path) -> Example:
    mask = pairs(root, "{}/images/*.jpg", "{}/masks/*.png", 0, 1, splits=("train", "val"))
    return Example("class 0", "class 1", mask)


def segnet(root: Path) -> Example:
    return Example("sky", "building", pairs(root, "{}/*.png", "{}annot/*.png", 0, 1, splits=("train", "val")))


def camvid(root: Path) -> Example:
    for name in ("0001TP_1", "0001TP_2"):
        image(root / "701_StillsRaw_full" / f"{name}.png")
        mask = color_mask(root / "LabeledApproved_full" / f"{name}_L.png", (128, 128, 128), (128, 0, 0))
    return Example("Sky", "Building", mask)


def voc(root: Path) -> Example:
    for split, names in (("train", ("a", "b")), ("val", ("c", "d"))):
        for name in names:
            image(root / "JPEGImages" / f"{name}.jpg")
            index_mask(root / "SegmentationClass" / f"{name}.png", 0, 1)
        write(root / "ImageSets" / "Segmentation" / f"{split}.txt", "\n".join(names))
    return Example("background", "aeroplane", root / "SegmentationClass" / "a.png")


def roboflow(root: Path) -> Example:
    mask = pairs(root, "{}/*.jpg", "{}/*_mask.png", 0, 1, splits=("train", "valid"))
    for split in ("train", "valid"):
        write(root / split / "_classes.csv", "Pixel Value, Class\n0, ground\n1, fig\n")
    return Example("ground", "fig", mask)


def cityscapes(root: Path) -> Example:
    masks = "gtFine/{}/bonn/*_gtFine_labelIds.png"
    mask = pairs(root, "leftImg8bit/{}/bonn/*_leftImg8bit.png", masks, 7, 8, splits=("train", "val"))
    return Example("road", "sidewalk", mask)


def ade20k(root: Path) -> Example:
    splits = ("training", "validation")
    mask = pairs(root, "images/{}/ADE_*.jpg", "annotations/{}/ADE_*.png", 1, 2, splits=splits)
    return Example("wall", "building", mask)


def coco(root: Path) -> Example:
    for split in ("train", "val"):
        names = [image(root / split / f"{name}.jpg") for name in ("a", "b")]
        entries = [
            {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH} for number, name in enumerate(names)
        ]
        objects = [
            {"id": number, "image_id": number, "category_id": 7, "iscrowd": 0, "segmentation": [FLAT_OUTLINE]}
            for number in range(len(names))
        ]
        content = {"images": entries, "annotations": objects, "categories": [{"id": 7, "name": "fig"}]}
        file = write(root / split / "_annotations.coco.json", json.dumps(content))
    return Example("background", "fig", file)


def coco_panoptic(root: Path) -> Example:
    categories = [{"id": 3, "name": "ground"}, {"id": 7, "name": "fig"}]
    for split in ("train", "val"):
        names = [image(root / split / f"{name}.jpg") for name in ("a", "b")]
        for name in names:
            png = root / "annotations" / f"panoptic_{split}" / name
            mask = color_mask(png.with_suffix(".png"), (1, 0, 0), (0, 2, 0))
        segments = [{"id": 1, "category_id": 3, "iscrowd": 0}, {"id": 512, "category_id": 7, "iscrowd": 0}]
        content = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "annotations": [
                {"image_id": number, "file_name": f"{Path(name).stem}.png", "segments_info": segments}
                for number, name in enumerate(names)
            ],
            "categories": categories,
        }
        write(root / "annotations" / f"panoptic_{split}.json", json.dumps(content))
    return Example("ground", "fig", mask)


def yolo(root: Path) -> Example:
    shares = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in OUTLINE)
    for split in ("train", "val"):
        for name in ("a", "b"):
            image(root / "images" / split / f"{name}.jpg")
            file = write(root / "labels" / split / f"{name}.txt", f"1 {shares}\n")
    write(root / "data.yaml", "train: images/train\nval: images/val\nnames: [leaf, fig]\n")
    return Example("background", "fig", file)


def labelme(root: Path) -> Example:
    shapes = [{"label": "fig", "shape_type": "polygon", "points": OUTLINE}]
    for split in ("train", "val"):
        for name in ("a", "b"):
            content = {"imagePath": image(root / split / f"{name}.jpg"), "imageHeight": HEIGHT, "imageWidth": WIDTH}
            file = write(root / split / f"{name}.json", json.dumps({**content, "shapes": shapes}))
    return Example("background", "fig", file)


def cvat_images(root: Path) -> Example:
    points = ";".join(f"{x},{y}" for x, y in OUTLINE)
    for split in ("train", "val"):
        names = [image(root / split / f"{name}.jpg") for name in ("a", "b")]
        shape = f'<polygon label="fig" points="{points}" z_order="0"></polygon>'
        entries = [f'<image name="{name}" width="{WIDTH}" height="{HEIGHT}">{shape}</image>' for name in names]
        file = write(root / split / "annotations.xml", f"<annotations>{''.join(entries)}</annotations>")
    return Example("background", "fig", file)


def label_studio(root: Path) -> Example:
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in OUTLINE]
    region = {"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["fig"]}}
    annotation = {"completed_by": 1, "result": [{**region, "original_width": WIDTH, "original_height": HEIGHT}]}
    for split in ("train", "val"):
        names = [image(root / split / f"{name}.jpg") for name in ("a", "b")]
        tasks = [{"id": 1, "data": {"image": f"/data/{name}"}, "annotations": [annotation]} for name in names]
        file = write(root / split / "tasks.json", json.dumps(tasks))
    return Example("background", "fig", file)


def supervisely(root: Path) -> Example:
    object = {"classTitle": "fig", "geometryType": "polygon", "points": {"exterior": OUTLINE, "interior": []}}
    for split in ("train", "val"):
        for name in ("a.jpg", "b.jpg"):
            image(root / split / "img" / name)
            content = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": [object]}
            file = write(root / split / "ann" / f"{name}.json", json.dumps(content))
    return Example("background", "fig", file)


def via(root: Path) -> Example:
    shape = {"name": "polygon", "all_points_x": [x for x, _ in OUTLINE], "all_points_y": [y for _, y in OUTLINE]}
    regions = [{"shape_attributes": shape, "region_attributes": {"kind": "fig"}}]
    for split in ("train", "val"):
        names = [image(root / split / f"{name}.jpg") for name in ("a", "b")]
        content = {name: {"filename": name, "size": -1, "regions": regions} for name in names}
        file = write(root / split / "via_region_data.json", json.dumps(content))
    return Example("background", "fig", file)


def object_masks(root: Path) -> Example:
    for split in ("train", "val"):
        for name in ("a", "b"):
            image(root / split / name / "images" / f"{name}.jpg")
            mask = index_mask(root / split / name / "masks" / f"{split}{name}1.png", 0, 1)
            index_mask(mask.with_name(f"{split}{name}2.png"), 0, 1)
    return Example("background", "foreground", mask)


def run_lengths_csv(root: Path) -> Example:
    for split in ("train", "val"):
        names = [image(root / split / f"{name}.jpg") for name in ("a", "b")]
        rows = [f"{name},fig,0 {LEFT * HEIGHT}" for name in names]
        file = write(root / split / "runs.csv", "\n".join(["ImageId,ClassId,EncodedPixels", *rows]))
    write(root / "dataset.yaml", "run_lengths: columns-0\n")
    return Example("background", "fig", file)


def huggingface(root: Path) -> Example:
    for split in ("train", "val"):
        mask = pairs(root, "{}/images/*.jpg", "{}/gt/*.png", 0, 1, splits=(split,))
        rows = [{"file_name": f"images/{name}.jpg", "mask_file_name": f"gt/{name}.png"} for name in "ab"]
        write(root / split / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    write(root / "id2label.json", '{"0": "ground", "1": "fig"}')
    return Example("ground", "fig", mask)


def geo(root: Path) -> Example:
    for number, split in enumerate(("train", "val")):
        for name in ("a", "b"):
            pixels = np.full((HEIGHT, WIDTH, 3), 40 * (2 * number + ord(name) % 2), np.uint8)
            write_image(root / split / "images" / f"{name}.tif", pixels)
            file = root / split / "labels" / f"{name}.geojson"
            write_geojson(file, [feature(polygon(on_map(box(0, 0, LEFT, HEIGHT))))])
    return Example("background", "foreground", file)


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    made.__name__: made
    for made in (paired, segnet, camvid, voc, roboflow, cityscapes, ade20k, coco, coco_panoptic, yolo, labelme)
} | {
    made.__name__: made
    for made in (cvat_images, label_studio, supervisely, via, object_masks, run_lengths_csv, huggingface, geo)
}
