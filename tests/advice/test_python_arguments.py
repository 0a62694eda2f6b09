"""Arguments that messages name to callers from Python: given as they are written."""

import re
import shutil
from pathlib import Path

import pytest
import torch

import pyramidseg as ps
from followed import arguments_in, message
from made_exports import bundle, traced_once
from peer import peer
from pyramidseg.backends.protocol import REDUCE_MEMORY_HINT
from pyramidseg.base.device import out_of_memory_explained
from support import TINY_SETTINGS

__all__ = ["bundle", "traced_once"]

FILES = Path(__file__).parents[1] / "compatibility" / "files"
BUNDLE, SCENES = FILES / "trained.safetensors", FILES / "scenes"
PICTURE = SCENES / "val" / "images" / "scene_0006.png"
SETTINGS = {**TINY_SETTINGS, "epochs": 1, "batch_size": 6, "workers": 0}


@pytest.mark.parametrize("way", ["resume", "overwrite", "out"])
def test_a_run_that_exists(tmp_path: Path, way: str) -> None:
    run = ps.train(SCENES, out=tmp_path / "run", **SETTINGS)
    before = run.last.read_bytes()
    changed = {} if way == "resume" else {"lr": 0.001}
    text = message(lambda: ps.train(SCENES, out=tmp_path / "run", **SETTINGS, **changed))
    assert "or choose another `out`" in text
    out = tmp_path / ("new" if way == "out" else "run")
    given = {name: value for name, value in arguments_in(text).items() if name == way}
    again = ps.train(SCENES, out=out, **SETTINGS, **changed, **given)
    assert (again.last.read_bytes() == before) == (way == "resume")
    assert (run.last.read_bytes() == before) == (way != "overwrite")


def test_a_run_is_not_both_resumed_and_overwritten(tmp_path: Path) -> None:
    text = message(lambda: ps.train(SCENES, out=tmp_path / "run", resume=True, overwrite=True, **SETTINGS))
    for name in re.findall(r"`(\w+)`", text):
        assert ps.train(SCENES, out=tmp_path / name, **{name: True}, **SETTINGS).best.is_file()


def test_folds_that_exist_are_resumed(tmp_path: Path) -> None:
    settings = {"out": tmp_path / "folds", "folds": 2, "config": ps.make_config(sections(SETTINGS))}
    first = ps.cross_validate(SCENES, **settings)
    given = arguments_in(message(lambda: ps.cross_validate(SCENES, **settings)))
    assert given == {"resume": True, "overwrite": True}
    assert ps.cross_validate(SCENES, **settings, resume=given["resume"]).table() == first.table()


def sections(settings: dict[str, object]) -> dict[str, dict[str, object]]:
    from pyramidseg.base.overrides import full_name

    found: dict[str, dict[str, object]] = {}
    for key, value in settings.items():
        section, _, name = full_name(key).partition(".")
        found.setdefault(section, {})[name] = value
    return found


def test_a_bundle_of_other_classes(tmp_path: Path) -> None:
    root = shutil.copytree(SCENES, tmp_path / "data")
    (root / "dataset.yaml").write_text((root / "dataset.yaml").read_text().replace("road", "street"))
    model = {"weights": str(BUNDLE), "epochs": 1, "workers": 0, "crop": 64, "device": "cpu"}
    given = arguments_in(message(lambda: ps.train(root, out=tmp_path / "run", **model)))
    assert ps.train(root, out=tmp_path / "run", **model, **given).best.is_file()


@pytest.mark.parametrize("name", ["tile_px", "overlap_px"])
def test_sides_of_tiles(tmp_path: Path, name: str) -> None:
    wrong = {"tile_px": 64, "overlap_px": 64}
    text = message(lambda: ps.Predictor(BUNDLE, device="cpu", **wrong))
    tried = {**wrong, name: arguments_in(text.partition("choose")[2])[name]}
    whole, tiled = (ps.Predictor(BUNDLE, device="cpu", **sides).predict(PICTURE).labels for sides in ({}, tried))
    assert (whole == tiled).mean() > 0.9


def test_a_full_gpu_or_too_large_a_batch() -> None:
    def full() -> None:
        with out_of_memory_explained(REDUCE_MEMORY_HINT):
            raise torch.OutOfMemoryError("CUDA out of memory")

    given = arguments_in(message(full))
    assert given == {"batch_size": 1, "tile_px": 256, "device": "cpu"}
    found, expected = (ps.evaluate(BUNDLE, SCENES, **how).confusion for how in (given, {"device": "cpu"}))
    assert torch.equal(found, expected)


def test_the_size_of_an_export_for_old_operations(bundle: Path, tmp_path: Path) -> None:
    wrong = {"format": "onnx", "opset": 14, "out": tmp_path}
    given = arguments_in(message(lambda: ps.export_model(bundle, **wrong)).partition("needs")[2])
    assert given == {"size": (512, 512)}
    assert ps.export_model(bundle, **wrong, size=tuple(side // 8 for side in given["size"])).path.is_file()


def test_a_network_of_several_and_its_encoder(tmp_path: Path) -> None:
    networks = {"student": peer("tu-test_resnet"), "teacher": peer("tu-test_resnet", seed=1)}
    tensors = {f"{name}.{key}": value for name, it in networks.items() for key, value in it.state_dict().items()}
    torch.save(tensors, tmp_path / "two.pth")
    text = message(lambda: ps.import_checkpoint(tmp_path / "two.pth", library="smp"))
    assert arguments_in(text)["encoder"].startswith("tu-")
    options = {"encoder": "tu-test_resnet"}

    def imported(**more: object) -> ps.ImportedModel:
        return ps.import_checkpoint(tmp_path / "two.pth", library="smp", options=ps.ImportOptions(**options, **more))

    given = arguments_in(message(imported))
    assert given == {"prefix": "teacher."}
    weights = imported(**given).model.state_dict()["classifier.weight"]
    assert torch.equal(weights, tensors["teacher.segmentation_head.0.weight"])


def test_a_folder_of_frames_gets_a_frame_rate(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in ("frame_0001", "frame_0002"):
        shutil.copy(PICTURE, frames / f"{name}.png")
    predictor = ps.Predictor(BUNDLE, device="cpu")
    wrong = {"save": ("video",), "video": ps.VideoOptions()}
    given = arguments_in(message(lambda: ps.predict_files(predictor, [frames], tmp_path / "out", **wrong)))
    ps.predict_files(predictor, [frames], tmp_path / "out", save=("video",), video=ps.VideoOptions(**given))
    assert [*(tmp_path / "out").glob("*.mp4")]


def test_formats_without_what_was_asked_for(tmp_path: Path) -> None:
    how = {"out": tmp_path / "out", "simplify_px": 1}
    text = message(lambda: ps.convert_dataset(SCENES, to="coco", **how))
    assert ps.convert_dataset(SCENES, to=re.search(r"or write ([\w-]+)", text)[1], **how).images
