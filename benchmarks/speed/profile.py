"""Where the time goes that the convolutions' floor does not explain.

    python -m benchmarks.speed.profile [--out benchmarks/speed/PROFILE.md] [--device cpu]

The dearest operators of a training step, ours beside SMP's given channels_last and bf16, by torch's profiler; and the
parts of one image's prediction, from pixels to label map, in the fastest runtime that is installed.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks.speed.labels import mixed_share
from benchmarks.speed.models import Workshop
from benchmarks.speed.settings import Settings
from benchmarks.speed.table import markdown_table
from benchmarks.speed.training import OURS, STEPS, TUNED, Task, made_batch, open_trainer

from pyramidseg.backends import make_backend
from pyramidseg.base.device import choose_device, has_fast_bf16
from pyramidseg.base.files import write_text
from pyramidseg.base.timing import alternate
from pyramidseg.model.cost import describe_cost
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.label_maps import label_maps
from pyramidseg.predict.pipeline import use_available_processors
from pyramidseg.studies.benchmark_images import scene_images
from pyramidseg.studies.hardware import describe_machine
from pyramidseg.studies.roofline import Roofline, measure_roofline

DEAREST = 10

HEAD = """# Where the time goes

Written by `python -m benchmarks.speed.profile --out benchmarks/speed/PROFILE.md`, on {machine}; {roofline}.

"""


def main() -> None:
    """Profile both, and write the page or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args()
    use_available_processors()
    device, settings = choose_device(options.device), Settings()
    roofline = measure_roofline(device)
    head = HEAD.format(machine=describe_machine(device, "segmentation-models-pytorch"), roofline=roofline)
    page = head + training_profile(settings, device) + "\n" + prediction_parts(settings, device, roofline)
    if options.out:
        write_text(options.out, page)
    else:
        print(page)


def training_profile(settings: Settings, device: torch.device) -> str:
    """Milliseconds a step of the dearest operators."""
    task = Task("resnet18", settings.classes, settings.batch, settings.crop_px, str(device))
    spent: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        batch = made_batch(task)
        for who in (OURS, TUNED):
            spent[who] = _operators(open_trainer(who, task, batch, Path(folder)), device)
    dearest = [
        name for who in (OURS, TUNED) for name in sorted(spent[who], key=spent[who].__getitem__, reverse=True)[:DEAREST]
    ]
    rows = [
        [f"`{name}`", *(f"{spent[who].get(name, 0.0):.1f}" for who in (OURS, TUNED))] for name in dict.fromkeys(dearest)
    ]
    rest = [sum(spent[who].values()) - sum(spent[who].get(name, 0.0) for name in set(dearest)) for who in (OURS, TUNED)]
    rows += [
        ["all others", *(f"{ms:.1f}" for ms in rest)],
        ["all", *(f"**{sum(spent[who].values()):.1f}**" for who in (OURS, TUNED))],
    ]
    title = f"Training step, {task.encoder}, batch of {task.batch}, crops of {task.crop_px}x{task.crop_px}: ms"
    return f"## {title}\n\n" + markdown_table(("operator, its own time", OURS, TUNED), rows)


def _operators(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Milliseconds that each operator takes in a step, without those that it calls."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    for _ in range(2):
        call()
    with torch.profiler.profile(activities=activities) as profile:
        call()
    on_gpu = device.type == "cuda"
    return {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1000 / STEPS
        for event in profile.key_averages()
    }


def prediction_parts(settings: Settings, device: torch.device, roofline: Roofline) -> str:
    """Coarse logits and label map apart, in the runtime that the goals are reached in."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(
            Path(folder), classes=settings.classes, side_px=settings.side_px, on_cpu=device.type == "cpu", say=print
        )
        runtime = workshop.runtimes[-1] if workshop.runtimes else "torch"
        images = scene_images(1, channels=3, height=settings.side_px, width=settings.side_px)
        for encoder in settings.encoders:
            bundle = workshop.files(encoder).bundle("ours")
            macs = describe_cost(Segmenter.load(bundle), settings.side_px, settings.side_px).macs
            for precision in ("fp32", "bf16") if has_fast_bf16(device) and runtime != "onnxruntime" else ("fp32",):
                backend = make_backend(bundle, runtime, device=device, precision=precision)
                coarse = backend.coarse_logits(images)
                timings = alternate(
                    {
                        "logits": lambda backend=backend: backend.coarse_logits(images),
                        "labels": lambda coarse=coarse, backend=backend: label_maps(
                            coarse, settings.side_px, settings.side_px, backend.geometry
                        ),
                    },
                    rounds=settings.rounds,
                    device=device,
                )
                floor = roofline.floor_seconds(macs, precision)
                logits, labels = (timings[part].milliseconds for part in ("logits", "labels"))
                rows.append(
                    [
                        f"{encoder}, {runtime} {precision}",
                        "" if floor is None else f"{1000 * floor:.1f}",
                        f"{logits:.1f}",
                        f"{labels:.1f}",
                        f"{100 * _mixed(coarse):.0f} %",
                    ]
                )
    title = f"Prediction of one image of {settings.side_px}x{settings.side_px}, without smoothing: ms"
    head = ("", "floor of the convolutions", "pixels to coarse logits", "label map", "of its cells mixed")
    return f"## {title}\n\n" + markdown_table(head, rows)


def _mixed(coarse: torch.Tensor) -> float:
    """Share of the cells whose corners disagree, over all images."""
    return statistics.mean(mixed_share(image[None]) for image in coarse.cpu())


if __name__ == "__main__":
    main()
