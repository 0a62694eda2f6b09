"""The outcome of a comparison in plain words."""

from collections.abc import Sequence

from pyramidseg.compare.bootstrap import Difference
from pyramidseg.compare.results import EncoderResult

FEW_SEEDS = 10
"""Fewer seeds than this give a rough idea of their spread: the deviation of 10 is known to about a quarter."""


def verdict(results: Sequence[EncoderResult], differences: Sequence[Difference]) -> tuple[str, ...]:
    """What to take, in sentences: the best, what is worse, as good within noise or not to be told from it, and why."""
    ranked = sorted(results, key=lambda result: -result.miou)
    best = ranked[0]
    against_best = {difference.second: difference for difference in differences if difference.first == best.name}
    sentences = [f"{best.name} has the highest mean IoU, {_with_range(best)}."]
    for result in ranked[1:]:
        sentences.append(_against(best, result, against_best[result.name]))
    equal = [result for result in ranked[1:] if against_best[result.name].is_noise]
    taken = min([best, *equal], key=lambda result: result.cost.latency_ms)
    open_ones = [
        result.name
        for result in ranked[1:]
        if _is_open(against_best[result.name]) and result.cost.latency_ms < taken.cost.latency_ms
    ]
    return (*sentences, _recommendation(best, taken, open_ones), *caveats(len(best.mious)))


def caveats(seeds: int) -> tuple[str, ...]:
    """What the intervals tell, and what they do not."""
    return (
        _of_seeds(seeds),
        "Each interval is of 95 % for its pair alone, and the best was chosen by the same images: the more encoders "
        "are compared, the more differences look real by chance.",
        "Images are resampled as if they had nothing to do with each other; where they are frames of one sequence, the "
        "intervals are too narrow.",
    )


def _of_seeds(seeds: int) -> str:
    if seeds == 1:
        return (
            "One seed each: the intervals tell how much the choice of images matters, not how much a second training "
            "would differ; use --seeds 3 before deciding on small differences."
        )
    if seeds < FEW_SEEDS:
        return (
            f"The intervals hold for other images like these and for other trainings, but {seeds} seeds tell only "
            "roughly how much trainings differ: a difference near the end of its interval wants more of them."
        )
    return f"The intervals hold for other images like these and for other trainings, by {seeds} seeds."


def _against(best: EncoderResult, other: EncoderResult, difference: Difference) -> str:
    speed = _times(best.cost.latency_ms / other.cost.latency_ms)
    interval = f"95 % interval {100 * difference.low:.1f} to {100 * difference.high:.1f}"
    behind = f"{100 * difference.mean:.1f} points behind"
    if difference.is_real:
        return f"{other.name} is {behind} {best.name} ({interval}), and {speed}."
    if difference.is_noise:
        return f"{other.name} is as good as {best.name} within noise ({behind}, {interval}), and {speed}."
    reason = interval if difference.varies else "and the resamples do not differ, as with one image and one seed"
    return f"{other.name} cannot be told from {best.name} ({behind}, {reason}), and is {speed}."


def _is_open(difference: Difference) -> bool:
    """Whether the images leave open which of the two is better, and by how much."""
    return not (difference.is_real or difference.is_noise)


def _recommendation(best: EncoderResult, taken: EncoderResult, open_ones: Sequence[str]) -> str:
    """What to take, what that rests on, and which faster encoders might do as well."""
    if taken is best:
        said = f"Take {best.name}: it has the highest mean IoU, and none that is as good within noise is faster here"
    else:
        said = f"Take {taken.name}: it is as good as {best.name} within noise, and no other that is so is faster here"
    if not open_ones:
        return f"{said}."
    names, are = ", ".join(open_ones), "is" if len(open_ones) == 1 else "are"
    return f"{said}; {names} {are} faster still and cannot be told from {best.name}: more images or seeds would tell."


def _with_range(result: EncoderResult) -> str:
    if len(result.mious) == 1:
        return f"{result.miou:.3f}"
    return f"{result.miou:.3f} ({min(result.mious):.3f} to {max(result.mious):.3f} over {len(result.mious)} seeds)"


def _times(speed: float) -> str:
    if 0.95 < speed < 1.05:
        return "equally fast"
    return f"{speed:.1f} times as fast" if speed > 1 else f"{1 / speed:.1f} times as slow"
