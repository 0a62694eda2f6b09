"""The end of a run: the best model scored once more, with report, plots and the words that close it."""

from pyramidseg.console import Console
from pyramidseg.evaluation.plots import save_plots
from pyramidseg.evaluation.report import write_report
from pyramidseg.evaluation.scoring import draw_examples, score
from pyramidseg.evaluation.tables import table
from pyramidseg.predict.backends import TorchBackend
from pyramidseg.runtime import rank
from pyramidseg.training.checkpoint import Position
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.setup import Setup


def write_results(setup: Setup, run: RunFolder, position: Position, console: Console) -> None:
    """Score the best bundle as `pyramidseg evaluate` does, and write `plots/` and `report.html`.

    All processes take part in the scoring; the first one writes.
    """
    backend = TorchBackend(run.best, device=setup.device, precision="fp32")
    records, masks, classes = setup.dataset.split("val"), setup.dataset.masks, setup.dataset.classes
    channels = setup.config.model.in_channels
    scores = score(
        backend,
        records,
        masks,
        classes,
        channels=channels,
        batch_size=setup.config.train.val_batch_size,
        device=setup.device,
        track=console.track,
    )
    if rank() > 0:
        return
    examples = draw_examples(backend, records, masks, classes, scores, channels=channels, device=setup.device)
    save_plots(run.plots, scores, history=position.history)
    write_report(
        run.report,
        title=f"{setup.model.encoder.name} FPN, {run.path.name}",
        scores=scores,
        classes=classes,
        examples=examples,
        history=position.history,
        settings=setup.config.model_dump(mode="json"),
        facts=facts(setup, position),
        notes=(*setup.dataset.notes, *setup.notes),
    )
    console.say(table(scores.metrics))
    console.say(f"best epoch {position.best_epoch + 1}: {run.best}")
    console.say(f"report: {run.report}")


def facts(setup: Setup, position: Position) -> dict[str, object]:
    """What is to be known of data and run, by name."""
    waits = [row["waiting_share"] for row in position.history if row["waiting_share"] is not None]
    return {
        "source": setup.dataset.source,
        "layout": setup.dataset.layout,
        **{f"{name} images": split.images for name, split in setup.summary.splits.items()},
        "data fingerprint": setup.summary.fingerprint,
        "best epoch": position.best_epoch + 1,
        "training time": f"{sum(row['seconds'] for row in position.history):.0f} s",
        "waiting for data": f"{100 * sum(waits) / max(1, len(waits)):.1f} % of the training time",
        "skipped steps": position.skipped,
    }
