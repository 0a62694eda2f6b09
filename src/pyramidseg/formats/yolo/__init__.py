"""YOLO segmentation labels (Ultralytics, Roboflow, CVAT, Label Studio): a text file of outlines for each image.

    data.yaml             path: .                  optional: the folder that the next entries are relative to
                          train: images/train      a folder of images, a list of folders, or a text file of images
                          val: images/val
                          names: [car, bus]        or {0: car, 1: bus}
    classes.txt           names, a line each, where there is no data.yaml (Label Studio, LabelImg)
    images/train/a.jpg    or train/images/a.jpg
    labels/train/a.txt    or train/labels/a.txt
                          0 0.10 0.20 0.50 0.20 0.50 0.90   class x1 y1 x2 y2 x3 y3 ..., as shares of width, height

`data_yaml` reads the description, `image_sources` finds the images of each split, `yolo_folders` pairs them with their
label files, and `label_files` draws the masks. A function `write` belongs in `yolo_folders`.
"""
