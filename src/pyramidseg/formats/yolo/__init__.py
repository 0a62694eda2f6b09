"""YOLO segmentation labels (Ultralytics, Roboflow, CVAT, Label Studio): a text file of outlines for each image.

data.yaml             class names, and the images of each split (see `yolo_description`)
classes.txt           names, a line each, if there is no data.yaml (Label Studio, LabelImg)
images/train/a.jpg    or train/images/a.jpg
labels/train/a.txt    or train/labels/a.txt
                      0 0.10 0.20 0.50 0.20 0.50 0.90   class x1 y1 x2 y2 x3 y3 ..., as shares of width, height

`yolo_dataset` reads lines, which `yolo_masks` draws; its `WRITER` writes one for each region, and data.yaml. YOLO has
no holes: a hole is joined to its outer ring by a cut of no width, so that an even-odd fill leaves it open.
"""
