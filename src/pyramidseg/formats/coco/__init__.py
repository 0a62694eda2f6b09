"""COCO JSON: outlined objects (`instances`) and panoptic segments (`panoptic`).

    annotations/instances_train2017.json     train2017/000000000009.jpg     COCO
    train/_annotations.coco.json             train/a.jpg                    Roboflow
    annotations/instances_default.json       images/a.jpg                   CVAT
    result.json or labels.json               images/a.jpg or data/a.jpg     Label Studio, FiftyOne

    {"images": [{"id": 9, "file_name": "000000000009.jpg", "height": 480, "width": 640}, ...],
     "annotations": [{"id": 1, "image_id": 9, "category_id": 51, "iscrowd": 0,
                      "segmentation": [[x1, y1, x2, y2, ...], ...] or {"size": [480, 640], "counts": ...}}, ...],
     "categories": [{"id": 51, "name": "bowl", "supercategory": "kitchen"}, ...]}

    annotations/panoptic_train2017.json      annotations/panoptic_train2017/000000000009.png     panoptic
    "annotations": [{"image_id": 9, "file_name": "000000000009.png",
                     "segments_info": [{"id": 3, "category_id": 51, "iscrowd": 0}, ...]}, ...]

Reading is one pass: `coco_files` finds the JSON file of each split and the images that it names, `coco_json` parses it
into an index, `categories` makes labels of its categories, and `instances` or `panoptic` lists the records and draws
the masks. `coco_writer` writes it.
"""
