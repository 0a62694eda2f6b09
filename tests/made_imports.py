"""What tests of imported checkpoints share."""

from pyramidseg.model.imports.foreign_checkpoint import ImportOptions
from pyramidseg.model.imports.smp import import_checkpoint


def imported(path, **options):
    """A folder names its encoder in config.json; a file of tensors needs the option."""
    if path.is_file():
        options.setdefault("encoder", "resnet18")
    return import_checkpoint(path, library="smp", options=ImportOptions(**options))


def noted(result, words):
    return any(words in note for note in result.notes)
