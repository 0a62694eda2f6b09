"""The two steps of the sweep for one encoder, from row to row: what it can do, and how long it takes."""

from dataclasses import replace
from pathlib import Path

import torch
from benchmarks.encoders.checks import COST_SIDE_PX, CheckFailed, check_encoder
from benchmarks.encoders.latency import measure_latency
from benchmarks.encoders.table import Row
from timm.models import get_pretrained_cfg, list_pretrained

from pyramidseg.base.errors import ConfigError
from pyramidseg.model.encoder_weights import IMAGENET_TAGS

IMAGENET_CLASSES = 1000


def checked(row: Row) -> Row:
    """The row with what the checks find out, whatever happens."""
    row = Row(row.encoder, row.family, latency_ms=row.latency_ms, ratio=row.ratio, machine=row.machine)
    try:
        facts = check_encoder(row.encoder)
    except ConfigError as error:
        return Row(row.encoder, row.family, "refused", str(error))
    except CheckFailed as error:
        return replace(row, status="fails", reason=str(error))
    except Exception as error:  # a finding too: an accepted encoder that crashes
        return replace(row, status="fails", reason=" ".join(f"{type(error).__name__}: {error}".split())[:200])
    pinned = IMAGENET_TAGS.get(row.encoder, "")
    return replace(
        row,
        status="works",
        parameters=facts.parameters,
        gmac=round(facts.macs / 1e9, 3),
        coarsest_channels=facts.coarsest_channels,
        size_multiple=facts.size_multiple,
        other_strides=" ".join(map(str, facts.other_strides)),
        weights=" ".join(sorted(_tags(row.encoder), key=lambda tag: tag != pinned)),
        pinned=pinned,
    )


def timed(row: Row) -> Row:
    """The row with its latency."""
    latency = measure_latency(row.encoder, COST_SIDE_PX)
    return replace(row, latency_ms=round(latency.median_ms, 2), ratio=round(latency.ratio, 3), machine=_machine())


def _tags(name: str) -> list[str]:
    """Tags of weights that were trained on ImageNet-1k's classes."""
    names = (full for full in list_pretrained(f"{name}.*") if "." in full)
    settings = {full.partition(".")[2]: get_pretrained_cfg(full) for full in names}
    return [tag for tag, setting in settings.items() if setting and setting.num_classes == IMAGENET_CLASSES]


def _machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _cpu_information() if line.startswith("model name")), "this CPU"
    )
    return f"{torch.get_num_threads()} threads of {model}"


def _cpu_information() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
