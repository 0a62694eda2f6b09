"""Annotation files of tools that are not read are named, with the export that is."""

import json
from pathlib import Path

import pytest

from made_files import image, opened, write
from pyramidseg.base.errors import DataError

FILES = {
    "export.ndjson": ({"data_row": {"id": "1"}, "projects": {}}, "Labelbox", "download them as PNG"),
    "labelbox.json": ([{"ID": "1", "DataRow ID": "2", "Labeled Data": "https://x/a.jpg"}], "Labelbox", "as PNG"),
    "empty.json": ({"version": "2.0", "item": {"name": "a", "slots": []}, "annotations": []}, "V7 Darwin", "as COCO"),
    "datumaro.json": ({"info": {}, "categories": {"label": {}}, "items": [{"id": "a"}]}, "Datumaro", "as COCO"),
    "createml.json": (
        [{"image": "a.jpg", "annotations": [{"label": "car", "coordinates": {"x": 1, "y": 1}}]}],
        "CreateML",
        "outline",
    ),
    "annotations/person_keypoints_val2017.json": ({"images": []}, "another task of COCO", "instances_"),
    "_annotations.csv": (
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,4,3,car,0,0,1,1\n",
        "TensorFlow Object Detection",
        "outline",
    ),
    "darwin.json": ({"version": "2.0", "item": {"name": "a", "slots": []}}, "V7 Darwin", "export as COCO"),
    "encord.json": ([{"label_hash": "1", "data_units": {}}], "Encord", "export as COCO"),
    "tasks.json": ([{"task_id": "1", "response": {}}], "Scale AI", "semantic masks as PNG"),
    "output.manifest": ({"source-ref": "s3://x/a.png", "label-ref": "s3://x/b.png"}, "SageMaker", "-ref keys"),
    "train.tfrecord": ("binary", "TFRecord", "PNG files"),
    "train.tfrecord-00000-of-00010": ("binary", "TFRecord", "PNG files"),
    "IM000001": ("\0" * 128 + "DICM", "DICOM", "PNG or TIFF"),
    "scan.nii.gz": ("binary", "NIfTI", "PNG or TIFF"),
    "slice.dcm": ("binary", "DICOM", "PNG or TIFF"),
    "a.xml": (
        "<annotation><object><polygon><pt><x>1</x></pt></polygon></object></annotation>",
        "LabelMe's web",
        "JSON",
    ),
    "b.xml": (
        "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>",
        "Pascal VOC",
        "outline",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_tool_and_next_step_are_named_in_one_line(tmp_path: Path, name: str) -> None:
    content, tool, advice = FILES[name]
    image(tmp_path / "photos" / "a.jpg")
    file = write(tmp_path / name, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    message = str(caught.value)
    assert f"{file} is of {tool}" in message and advice in message and "\n" not in message
