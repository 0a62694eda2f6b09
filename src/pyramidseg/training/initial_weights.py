"""The weights that a run starts from: random, a pretrained encoder, a bundle, or those of a checkpoint."""

import json
from dataclasses import asdict, dataclass

import torch

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import Config, ModelConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.seeds import position_seed
from pyramidseg.base.stored_json import parse_mapping, parse_stored
from pyramidseg.model.bundle import read_description
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.encoder import resolve_encoder
from pyramidseg.model.encoder_weights import EncoderSource, has_weights, is_weights_file, pretrained_source
from pyramidseg.model.segmenter import Segmenter


@dataclass(frozen=True)
class InitialWeights:
    """Source and normalisation of the weights that a run started from.

    Checkpoints store it, so that a resumed run does not need the files of the initial weights.

    Attributes:
        source: of the encoder's weights.
        mean, std: by which the model normalises its input.
    """

    source: EncoderSource
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, model: Segmenter | Classifier) -> "InitialWeights":
        """Those of a model before its first step."""
        return cls(model.encoder_source, tuple(model.mean.tolist()), tuple(model.std.tolist()))

    def apply_to(self, model: Segmenter | Classifier) -> None:
        """Set source and normalisation of a model whose weights will come from a checkpoint."""
        model.encoder_source = self.source
        model.set_normalization(self.mean, self.std)

    def to_json(self) -> str:
        """JSON text, as stored in checkpoints."""
        return json.dumps({"source": self.source.to_json(), "mean": self.mean, "std": self.std})

    @classmethod
    def from_json(cls, text: str) -> "InitialWeights":
        """Inverse of `to_json`.

        Raises:
            ValueError: anything else.
        """
        stored = parse_mapping(text)
        source = EncoderSource.from_json(str(stored.get("source")))
        return parse_stored(cls, json.dumps({**stored, "source": asdict(source)}))


def build_model(
    config: Config, classes: Classes, initial: InitialWeights | None = None, *, dry_run: bool = False
) -> tuple[Segmenter, str]:
    """Build the network with its initial weights.

    Args:
        initial: of a resumed run, whose weights come from a checkpoint; None loads the weights that `config` names.
        dry_run: leave out pretrained weights that would have to be downloaded; files are loaded.

    Returns:
        The network, and a note that describes it.
    """
    torch.manual_seed(position_seed("initialisation", config.train.seed))
    weights = config.model.weights
    encoder_weights, away = config.model.encoder_weights if weights == "random" else "none", ""
    settings = config.model.model_copy(update={"weights": "random", "encoder_weights": encoder_weights})
    if initial is not None:
        model = Segmenter.without_weights(settings, classes=classes)
        initial.apply_to(model)
    elif dry_run and encoder_weights != "none" and not is_weights_file(encoder_weights):
        model = Segmenter.without_weights(settings, classes=classes)
        source = pretrained_source(model.encoder.name, encoder_weights, settings.in_channels)
        InitialWeights(source, source.mean, source.std).apply_to(model)
        if not has_weights(model.encoder.name, encoder_weights):
            away = " (not on this machine yet)"
    else:
        model = Segmenter(settings, classes=classes)
    if weights == "random":
        source = model.encoder_source
        parameters = sum(parameter.numel() for parameter in model.parameters())
        size = f"{parameters / 1e6:.1f} M parameters"
        return model, f"{model.encoder.name} FPN, {size}, encoder weights {source.name}{away}"
    report = "" if initial else f": {model.load_weights(weights, reset_head=config.train.reset_head)}"
    return model, f"{model.encoder.name} FPN, weights {weights}{report}"


def adopt_bundle_settings(config: Config) -> tuple[Config, str]:
    """Where `model.weights` is a bundle, take the network's settings from it, except those that were given.

    A given setting that contradicts the bundle is kept; loading fails later if the tensors do not fit.

    Returns:
        The settings, and a note that lists what was adopted (empty if nothing was).

    Raises:
        ConfigError: the given encoder differs from the bundle's.
    """
    if config.model.weights == "random":
        return config, ""
    own = config.model
    bundle = read_description(own.weights).config
    free = set(ModelConfig.model_fields) - own.model_fields_set - {"weights", "encoder_weights"}
    if "encoder" in own.model_fields_set and own.encoder != bundle.encoder:
        free -= {"encoder_depth"}  # a depth belongs to the encoder name that it was given with
    update = {name: getattr(bundle, name) for name in sorted(free) if getattr(bundle, name) != getattr(own, name)}
    adopted = own.model_copy(update=update)
    given, stored = (resolve_encoder(model.encoder, model.encoder_depth) for model in (adopted, bundle))
    if given != stored:
        raise ConfigError(
            f"model.encoder={own.encoder}: this is {given}, but {own.weights} holds a {stored}; remove model.encoder "
            "and model.encoder_depth, or choose other weights"
        )
    note = f"from the bundle: {', '.join(f'{name}={value}' for name, value in update.items())}" if update else ""
    return config.model_copy(update={"model": adopted}), note
