"""CVAT's SDK and command line load our auto-annotation function, and check and send what it finds."""

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cvat_cli", reason="make test-clients")

import cv2
import cvat_sdk.auto_annotation as cvataa
import cvat_sdk.models as models
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk.auto_annotation import driver
from cvat_sdk.masks import decode_mask, encode_mask
from PIL import Image

from made_server import small_bundle
from pyramidseg.annotations.contours import find_regions
from pyramidseg.export.cvat_nuclio import write_nuclio_folder
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries

FILE = Path(__file__).parents[3] / "deploy" / "cvat_function.py"
HEIGHT, WIDTH = 40, 60
IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8).repeat(8, 0).repeat(10, 1) for seed in range(2)
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes; the second is named background."""
    import torch

    folder = tmp_path_factory.mktemp("model")
    small_bundle(folder / "any.safetensors")
    model = Segmenter.load(folder / "any.safetensors")
    names = ("road", "background", "tree")
    torch.manual_seed(3)
    named = Segmenter(classes=names, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval()
    named.load_state_dict(model.state_dict())
    named.save(folder / "named.safetensors")
    return folder / "named.safetensors"


@pytest.fixture(scope="module")
def function(bundle: Path) -> cvataa.DetectionFunction:
    return FunctionLoader(None, FILE, {"model": str(bundle), "device": "cpu"}).load()


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch):
    """`annotate_task` of a task with two images and the labels 70 road and 71 tree; a server is not needed."""
    samples = [
        SimpleNamespace(
            frame_name=f"day/{index}.png",
            frame_index=index,
            media=SimpleNamespace(load_image=lambda index=index: Image.fromarray(IMAGES[index])),
        )
        for index in range(2)
    ]
    labels = [models.Label(name=name, id=70 + number, type="mask") for number, name in enumerate(("road", "tree"))]
    for label in labels:
        label.attributes, label.sublabels = [], []

    def annotate(function, *, label_type="mask", **options):
        for label in labels:
            label.type = label_type
        dataset = SimpleNamespace(labels=labels, samples=samples)
        monkeypatch.setattr(driver, "TaskDataset", lambda client, task, load_annotations: dataset)
        sent = []

        def update(action, task, patched_labeled_data_request):
            sent.append((action, task, patched_labeled_data_request.shapes))

        api = SimpleNamespace(partial_update_annotations=update)
        logger = SimpleNamespace(info=lambda *words: None)
        client = SimpleNamespace(logger=logger, tasks=SimpleNamespace(api=api))
        cvataa.annotate_task(client, 42, function, **options)
        ((action, task, shapes),) = sent
        assert (action, task) == ("create", 42)
        return shapes

    return annotate


def labels_of(bundle: Path, index: int):
    return Predictor(bundle, device="cpu").predict(IMAGES[index], confidence=True)


def test_labels_are_the_classes(function) -> None:
    assert [(label.name, label.id, label.type) for label in function.spec.labels] == [
        ("road", 0, "mask"),
        ("tree", 2, "mask"),
    ]


def test_each_connected_region_is_a_mask(function, bundle: Path, uploaded) -> None:
    shapes = uploaded(function)
    for index in range(2):
        lone = labels_of(bundle, index).labels
        drawn = np.full((HEIGHT, WIDTH), 1, np.uint8)
        own = [shape for shape in shapes if shape.frame == index]
        assert len(own) == len(find_regions(lone, skip=(1,))) > 1
        for shape in own:
            assert (shape.type.value, shape.source) == ("mask", "auto")
            drawn[decode_mask(shape.points, image_width=WIDTH, image_height=HEIGHT)] = {70: 0, 71: 2}[shape.label_id]
        assert (drawn == lone).all()


def test_the_nuclio_function_finds_the_same_masks(function, bundle: Path, uploaded, tmp_path: Path) -> None:
    """Its bitmaps in boxes, encoded by the SDK as CVAT's server does, are the masks of the auto-annotation function."""
    write_nuclio_folder(bundle, tmp_path / "function")
    space: dict = {"__file__": str(tmp_path / "function" / "main.py")}
    exec((tmp_path / "function" / "main.py").read_text(), space)
    context = SimpleNamespace(user_data=SimpleNamespace(), Response=lambda **answer: json.loads(answer["body"]))
    space["init_context"](context)
    for index, pixels in enumerate(IMAGES):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        event = SimpleNamespace(body={"image": base64.b64encode(file.getvalue()).decode(), "threshold": 0})
        found = []
        for shape in space["handler"](context, event):
            *bits, left, top, right, bottom = shape["mask"]
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[top : bottom + 1, left : right + 1] = np.reshape(bits, (bottom - top + 1, right - left + 1))
            found.append((shape["label"], encode_mask(mask, [left, top, right + 1, bottom + 1])))
        expected = [
            ({70: "road", 71: "tree"}[shape.label_id], shape.points)
            for shape in uploaded(function)
            if shape.frame == index
        ]
        assert sorted(found) == sorted(expected)


def test_polygons_cover_the_same_pixels(function, bundle: Path, uploaded) -> None:
    shapes = uploaded(function, label_type="polygon", conv_mask_to_poly=True)
    for index in range(2):
        lone = labels_of(bundle, index).labels
        drawn = np.full((HEIGHT, WIDTH), 1, np.uint8)
        for shape in (shape for shape in shapes if shape.frame == index):
            assert shape.type.value == "polygon" and len(shape.points) >= 8
            large = np.zeros((10 * HEIGHT, 10 * WIDTH), np.uint8)  # pixel centres are at 5, 15, ...
            cv2.fillPoly(large, [np.array(shape.points).reshape(-1, 2).astype(np.int32) * 10], 1)
            drawn[large[5::10, 5::10] == 1] = {70: 0, 71: 2}[shape.label_id]
        assert (drawn == lone).all()


def test_the_threshold_leaves_out_unsure_regions(function, bundle: Path, uploaded) -> None:
    every, confidence = uploaded(function), [labels_of(bundle, index).confidence for index in range(2)]
    means = [
        float(confidence[shape.frame][decode_mask(shape.points, image_width=WIDTH, image_height=HEIGHT)].mean())
        for shape in every
    ]
    threshold = float(np.median(means))
    kept = uploaded(function, conf_threshold=threshold)
    assert len(kept) == sum(mean >= threshold for mean in means) < len(every)


def test_other_classes_can_be_left_out(bundle: Path, uploaded) -> None:
    with pytest.raises(cvataa.BadFunctionError, match="'background' is not in dataset"):
        uploaded(FunctionLoader(None, FILE, {"model": str(bundle), "without": ""}).load())
    only = FunctionLoader(None, FILE, {"model": str(bundle), "without": "background,tree", "device": "cpu"}).load()
    assert {shape.label_id for shape in uploaded(only)} == {70}
