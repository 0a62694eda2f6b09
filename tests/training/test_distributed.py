"""Two real processes under torchrun compute what one computes on the joined batch."""

import contextlib
import csv
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from forks import WITHOUT_FIGURES, PythonProcess
from pyramidseg.base.config import LossConfig, OptimConfig
from pyramidseg.base.device import choose_device
from pyramidseg.base.distributed import process_group, rank, sum_over_ranks, world_size
from pyramidseg.cli.main import main
from pyramidseg.data.loading import Batch
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.losses import LOSSES
from pyramidseg.training.optim import set_training_mode
from pyramidseg.training.segmentation_gradients import TrainingModel, segmentation_gradients
from support import TINY, process_environment, tiny_segmenter

LOSS_SETTINGS = {
    "cross_entropy": LossConfig(cross_entropy=1, dice=0),
    "dice": LossConfig(cross_entropy=0, dice=1),
    "focal": LossConfig(cross_entropy=0, focal=1),
    "border": LossConfig(cross_entropy=0, dice=0, border=1),
    "sum": LossConfig(cross_entropy=1, dice=0.5, focal=0.25, border=2),
}
SAMPLES = 6
CLASSES = 3


def batches_of(process: int, processes: int, *, micro_batches: int) -> list[Batch]:
    """This process's part of one batch, whose labelled pixels are spread very unevenly."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SAMPLES, 3, 40, 48), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (SAMPLES, 40, 48), generator=generator, dtype=torch.uint8)
    for index in range(SAMPLES):
        labels[index, : 6 * index] = 255
    labels[: SAMPLES // 2][labels[: SAMPLES // 2] == 2] = 0  # one process sees no pixel of class 2
    mine = torch.arange(SAMPLES).chunk(processes)[process]
    return [Batch(images[part], labels[part], ()) for part in mine.chunk(micro_batches)]


def gradients(name: str, *, micro_batches: int, image_head: bool = False) -> dict[str, torch.Tensor]:
    """Gradients and loss of one step in this process, under DistributedDataParallel where there are several."""
    torch.manual_seed(1)
    model = tiny_segmenter(num_classes=CLASSES, norm="group", dropout=0.0, image_head=image_head).double()
    set_training_mode(model, OptimConfig(optimizer="adamw", freeze_encoder=True), epoch=0)
    trained: torch.nn.Module = TrainingModel(model)
    if world_size() > 1:
        trained = torch.nn.parallel.DistributedDataParallel(trained)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    accelerator = Accelerator(torch.device("cpu"), "fp64", seed=0)
    batches = batches_of(rank(), world_size(), micro_batches=micro_batches)
    share, confusion = segmentation_gradients(
        accelerator, trained, batches, 0, loss=LOSS_SETTINGS[name], class_weights=weights
    )
    found = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
    return {**found, "loss": sum_over_ranks(share), "confusion": sum_over_ranks(confusion)}


def work(folder: Path) -> None:
    """What each of the two processes does."""
    with process_group(choose_device("cpu")):
        results = {f"{name} 1": gradients(name, micro_batches=1) for name in LOSS_SETTINGS}
        results["cross_entropy 3"] = gradients("cross_entropy", micro_batches=3)
        results["head 1"] = {}
        results["head 1"] = gradients("sum", micro_batches=1, image_head=True)
        torch.save(results, folder / f"rank{rank()}.pt")


def torchrun(*arguments: object) -> "subprocess.CompletedProcess[str]":
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments)
    environment = {**process_environment(), "PYTHONWARNINGS": "default", "PYTHONPATH": str(Path(__file__).parents[1])}
    with PythonProcess(*words, environment=environment) as process:
        try:
            status = process.wait(timeout=240)
        except subprocess.TimeoutExpired:
            process.send(signal.SIGTERM)  # torchrun ends its processes, which are in sessions of their own
            process.wait()
            raise
        return subprocess.CompletedProcess([], status, process.output(), process.errors())


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    in_two_processes(__file__, folder)
    return [torch.load(folder / f"rank{index}.pt", weights_only=True) for index in range(2)]


@pytest.mark.parametrize("case", [*(f"{name} 1" for name in LOSS_SETTINGS), "head 1"])
def test_two_processes_give_the_gradients_of_one(
    case: str, two_processes: list[dict[str, dict[str, torch.Tensor]]]
) -> None:
    name = "sum" if case == "head 1" else case.split()[0]
    alone = gradients(name, micro_batches=1, image_head=case == "head 1")
    assert len(alone) > 20
    for results in two_processes:
        assert results[case].keys() == alone.keys()
        for key, expected in alone.items():
            torch.testing.assert_close(
                results[case][key], expected, rtol=1e-9, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_micro_batches_give_the_gradients_of_the_whole(two_processes: list[dict[str, dict[str, torch.Tensor]]]) -> None:
    whole = gradients("cross_entropy", micro_batches=1)
    for results in (gradients("cross_entropy", micro_batches=3), two_processes[0]["cross_entropy 3"]):
        for key, expected in whole.items():
            torch.testing.assert_close(
                results[key], expected, rtol=1e-9, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_every_loss_is_covered() -> None:
    assert set(LOSSES) < set(LOSS_SETTINGS)


def test_a_run_under_torchrun_finishes_and_says_how_norms_behave(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = torchrun("-m", "pyramidseg", "train", scenes, "--out", out, *TINY, "train.epochs=2", "train.batch_size=4")
    assert done.returncode == 0, done.stderr
    assert "2 processes, batch norm per process" in done.stdout
    assert done.stdout.count("epoch   1/2") == 1
    assert len((out / "metrics.csv").read_text().splitlines()) == 3
    assert (out / "report.html").exists()


def in_two_processes(*words: object, statuses: Sequence[int] = (0, 0)) -> tuple[str, str]:
    """`python WORDS` as torchrun starts it twice: what the first one prints, and what both say on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {**process_environment(), "PYTHONWARNINGS": "default", **common}
    with contextlib.ExitStack() as stack:
        processes = [
            PythonProcess(*words, environment={**environment, "RANK": str(number), "LOCAL_RANK": str(number)})
            for number in range(2)
        ]
        for process in processes:
            stack.enter_context(process)
        found = [process.wait() for process in processes]
        errors = "".join(process.errors() for process in processes)
        assert found == list(statuses), errors
        return processes[0].output(), errors


EXACT = ("model.norm=group", "model.dropout=0", "train.precision=fp64", "optim.optimizer=sgd", "optim.ema=0")
"""Settings with which two processes come to the weights of one, but for rounding."""


def assert_same_weights(run: Path, expected: Path) -> None:
    found, wanted = (Segmenter.load(folder / "last.safetensors").state_dict() for folder in (run, expected))
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, msg=lambda text, key=key: f"{key}: {text}")


def test_an_encoder_that_thaws_is_trained_alike_by_two_processes_and_one_also_when_resumed(
    scenes: Path, tmp_path: Path
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    thawing = ("optim.freeze_encoder=true", "optim.unfreeze_epoch=1", "optim.freeze_norm=true")
    # 20 scenes make 5 steps an epoch: the checkpoint is in the epoch after the thaw.
    common = (scenes, *TINY, *EXACT, *thawing, "train.epochs=3", "train.checkpoint_steps=12")
    distributed = (*common, "--out", two, "train.batch_size=2")
    in_two_processes("-c", WITHOUT_FIGURES, "train", *distributed)
    assert main([str(word) for word in ("train", *common, "--out", one, "train.batch_size=4")]) == 0
    assert_same_weights(two, one)
    middle, end = sorted((two / "checkpoint").iterdir())
    assert middle.stem.endswith("12")
    for later in (end, two / "report.html", two / "last.safetensors"):
        later.unlink()
    assert "resumed at epoch 3, step 2" in in_two_processes("-c", WITHOUT_FIGURES, "train", *distributed, "--resume")[0]
    assert_same_weights(two, one)


def test_a_step_that_is_not_finite_on_one_process_is_skipped_on_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for index in range(count):
            image = rng.random((64, 64), dtype=np.float32)
            mask = (image > 0.5).astype(np.uint8)
            image[:] = 2e38 if (split, index) == ("train", 0) else image  # infinite once it is normalised
            assert cv2.imwrite(str(tmp_path / "data" / split / "images" / f"{index}.tif"), image)
            assert cv2.imwrite(str(tmp_path / "data" / split / "masks" / f"{index}.png"), mask)
    common = (tmp_path / "data", *TINY, *EXACT[:2], *EXACT[3:], "train.precision=fp32", "train.epochs=2")
    common = (
        *common,
        "optim.freeze_norm=true",
        "model.in_channels=1",
        "data.normalization=encoder",
        "data.scale=[1,1]",
        "data.color=0",
    )
    in_two_processes("-c", WITHOUT_FIGURES, "train", *common, "--out", tmp_path / "two", "train.batch_size=1")
    assert main([str(word) for word in ("train", *common, "--out", tmp_path / "one", "train.batch_size=2")]) == 0
    for name in ("two", "one"):
        with (tmp_path / name / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["skipped_steps"] for row in rows] == ["1", "2"], name
        assert [row["updates"] for row in rows] == ["3", "6"], name
    assert_same_weights(tmp_path / "two", tmp_path / "one")


def test_an_error_on_the_first_process_ends_all_with_one_line(tmp_path: Path) -> None:
    words = ("train", tmp_path / "nowhere", "--out", tmp_path / "run", *TINY)
    _, errors = in_two_processes("-m", "pyramidseg", *words, statuses=(2, 2))
    lines = [line for line in errors.splitlines() if "nowhere" in line]
    assert len(lines) == 2 and lines[0] == lines[1]  # one of each process
    assert lines[0].startswith("error: ")
    assert "nowhere: no such file or folder" in lines[0]


if __name__ == "__main__":
    work(Path(sys.argv[1]))
