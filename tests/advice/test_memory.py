"""Advice of messages about memory: a network that takes only so many pixels at once, and what each message proposes."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from followed import Terminal, message, settings_in
from pyramidseg.base.device import out_of_memory_explained
from pyramidseg.cli.flags import in_options
from pyramidseg.cli.main import option_names
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict import tile_planner
from pyramidseg.predict.predictor import Predictor
from support import TINY

FILES = Path(__file__).parents[1] / "compatibility" / "files"
BUNDLE, SCENES = FILES / "trained.safetensors", FILES / "scenes"
with Image.open(SCENES / "val" / "images" / "scene_0006.png") as scene:
    WIDTH, HEIGHT = scene.size
PIXELS = WIDTH * HEIGHT
SETTINGS = ("train.epochs=1", "data.workers=0", "train.batch_size=4", "train.device=cpu")


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


class Memory:
    """Room for the pixels of a batch, in training or otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = {True: 10**9, False: 10**9}
        normalize = Segmenter.normalize

        def limited(model: Segmenter, images: torch.Tensor) -> torch.Tensor:
            if images.shape[0] * images.shape[-2] * images.shape[-1] > self.most[model.training]:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            return normalize(model, images)

        monkeypatch.setattr(Segmenter, "normalize", limited)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


def lowered(text: str, name: str) -> str:
    """The setting with half of its value."""
    value = next(setting for setting in settings_in(text) if setting.startswith(name)).partition("=")[2]
    half = re.sub(r"\d+", lambda number: str(int(number[0]) // 2), value)
    return f"{name}={half}"


def test_a_smaller_crop_is_trained_on(terminal: Terminal, memory: Memory, tmp_path: Path) -> None:
    """Not even one crop of a batch fits."""
    memory.most[True] = 64 * 64 - 1
    words = ("train", SCENES, *TINY, *SETTINGS, "--out")
    text = terminal(*words, tmp_path / "run", status=2)
    assert "out of memory: lower data.crop=[64, 64], in a new run" in text
    assert "crops of 32x32" in terminal(*words, tmp_path / "new", lowered(text, "data.crop"))
    assert (tmp_path / "new" / "best.safetensors").is_file()


def test_large_val_images_are_cut_up(terminal: Terminal, memory: Memory, tmp_path: Path) -> None:
    root = shutil.copytree(SCENES, tmp_path / "data")
    memory.most[False] = HEIGHT * (WIDTH // 2)
    words = ("train", root, *TINY, *SETTINGS, "train.val_batch_size=1", "--out")
    text = terminal(*words, tmp_path / "run", status=2)
    assert "out of memory: cut up the largest val images, in a new run" in text
    for file in (root / "val").rglob("*.png"):
        with Image.open(file) as image:
            parts = [image.crop((left, 0, left + WIDTH // 2, HEIGHT)) for left in (0, WIDTH // 2)]
        file.unlink()
        for number, part in enumerate(parts):
            part.save(file.with_stem(f"{file.stem}_{number}"))
    assert "epoch   1/1" in terminal(*words, tmp_path / "new")


def test_a_batch_or_an_image_that_is_too_large_for_prediction(
    terminal: Terminal, memory: Memory, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for name, side in (("a", 256), ("b", 256), ("c", 480)):
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(tmp_path / f"{name}.png")
    right = [Predictor(BUNDLE, device="cpu").predict(tmp_path / f"{name}.png").labels for name in "abc"]
    memory.most[False] = 256 * 256
    words = ("predict", BUNDLE, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out", "--device", "cpu")
    flags = re.search(r"batches \((--batch-size) (1)\)", terminal(*words, "--batch-size", "2", status=2)).groups()
    assert "2 of 2 images predicted" in terminal(*words, *flags)
    words = ("predict", BUNDLE, tmp_path / "c.png", "--out", tmp_path / "out", "--device", "cpu")
    flags = re.search(r"tiles \((--tile) (256)\)", terminal(*words, status=3)).groups()
    assert "1 of 1 images predicted" in terminal(*words, *flags)
    for name, labels in zip("abc", right, strict=True):
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert (np.asarray(image) == labels).mean() > 0.97


def test_evaluation_with_smaller_batches_or_tiles_has_the_same_score(
    terminal: Terminal, memory: Memory, tmp_path: Path
) -> None:
    words = ("evaluate", BUNDLE, SCENES, "--device", "cpu")
    right = re.search(r"mIoU \S+", terminal(*words, "--batch-size", "2"))[0]
    memory.most[False] = PIXELS
    flags = re.search(r"batches \((--batch-size) (1)\)", terminal(*words, "--batch-size", "2", status=2)).groups()
    assert right in terminal(*words, *flags)


def test_less_than_the_smallest_automatic_tile(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [2**20]
    monkeypatch.setattr(tile_planner, "free_bytes", lambda device: free[0])
    monkeypatch.setattr(tile_planner, "ALWAYS_WHOLE_PIXELS", 1000)
    Image.new("RGB", (600, 40)).save(tmp_path / "long.png")
    words = ("predict", BUNDLE, tmp_path / "long.png", "--out", tmp_path / "out", "--device", "cpu")
    text = terminal(*words, status=3)
    assert "free memory, or use another device or a smaller --tile" in text
    least = int(re.search(r"even tiles of (\d+) pixels", text)[1])
    assert "1 of 1 images predicted" in terminal(*words, re.search(r"a smaller (--tile)", text)[1], least // 2)
    needed = float(re.search(r"need (\d+) MiB", text)[1])
    free[0] = int(2 * (needed + 1) * 2**20)  # of which half is used
    assert "1 of 1 images predicted" in terminal(*words, "--overwrite")


def test_a_full_gpu_can_be_left_for_the_cpu(terminal: Terminal, tmp_path: Path) -> None:
    def full() -> None:
        with out_of_memory_explained("lower it"):
            raise torch.OutOfMemoryError("CUDA out of memory")

    text = in_options(message(full), option_names("train"))
    flags = re.search(r"lower it, or use the CPU \((--device) (cpu)\)", text).groups()
    terminal("train", SCENES, "--dry-run", *TINY, *flags)
    terminal("evaluate", BUNDLE, SCENES, *flags)
