"""The outcome of a comparison in plain words."""

from collections.abc import Sequence

from pyramidseg.compare.bootstrap import Difference
from pyramidseg.compare.results import EncoderResult

FEW_SEEDS = 10
"""Fewer seeds than this give a rough idea of their spread: the deviation of 10 is known to about a quarter."""


def verdict(results: Sequence[EncoderResult], differences: Sequence[Difference]) -> tuple[str, ...]:
    """What to take, in sentences: the best, what is as good as it within noise and faster or slower, what is worse."""
    ranked = sorted(results, key=lambda result: -result.miou)
    best = ranked[0]
    against_best = {difference.second: difference for difference in differences if difference.first == best.name}
    sentences = [f"{best.name} has the highest mean IoU, {_with_range(best)}."]
    for result in ranked[1:]:
        sentences.append(_against(best, result, against_best[result.name]))
    equal = [result for result in ranked[1:] if not against_best[result.name].is_real]
    cheapest = min([best, *equal], key=lambda result: result.cost.latency_ms)
    sentences.append(f"Take {cheapest.name}: no other that is as good is faster here.")
    return (*sentences, caveat(len(best.mious)))


def caveat(seeds: int) -> str:
    """What the intervals tell, and what they do not."""
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
    return f"{other.name} is as good as {best.name} within noise ({behind}, {interval}), and {speed}."


def _with_range(result: EncoderResult) -> str:
    if len(result.mious) == 1:
        return f"{result.miou:.3f}"
    return f"{result.miou:.3f} ({min(result.mious):.3f} to {max(result.mious):.3f} over {len(result.mious)} seeds)"


def _times(speed: float) -> str:
    if 0.95 < speed < 1.05:
        return "equally fast"
    return f"{speed:.1f} times as fast" if speed > 1 else f"{1 / speed:.1f} times as slow"
