"""A bundle on the Hugging Face hub, with a model card of what is known about it."""

import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from pyramidseg.base.errors import PyramidSegError
from pyramidseg.base.overrides import load_config
from pyramidseg.base.remote_files import commit_to_hub
from pyramidseg.base.text import printable
from pyramidseg.model.bundle import INPUT_CONTRACT, Bundle, read_bundle

CARD_MARK = "<!-- Written by pyramidseg publish. -->"


def publish_model(model: str | Path, url: str, *, license: str, private: bool = False, overwrite: bool = False) -> str:
    """Publish a bundle and its model card in one commit, which `load_model(url)` then reads.

    The card has the classes, their scores, the data and, if the bundle is in the folder of its training, the settings
    of that training. The token is `HF_TOKEN`, or that of the saved login.

    Args:
        model: a bundle, which is verified.
        url: `hf://OWNER/NAME`; the repository is created if it does not exist.
        license: an identifier of the hub, such as `apache-2.0`, `cc-by-4.0` or `other`.
        private: whether a new repository is.
        overwrite: also replace a README.md that this function has not written.

    Returns:
        The commit, with which `url@COMMIT` always names this bundle.

    Raises:
        WeightsError: `model` is not a bundle, or is damaged.
        ConfigError: the URL is not that of a repository, or no token is set.
        OutputError: the hub cannot be reached or refuses it, or the repository has another bundle or README.md.
    """
    bundle = read_bundle(model)
    card = model_card(bundle, url=url, license=license)
    return commit_to_hub(url, bundle.path, card, mark="" if overwrite else CARD_MARK, private=private)


def model_card(bundle: Bundle, *, url: str, license: str) -> str:
    """README.md of a repository, in Markdown after the hub's YAML."""
    facts, metrics = bundle.facts, _mapping(bundle.facts.get("metrics"))
    classes = map(_mapping, metrics.pop("classes", None) or ())
    try:
        settings = load_config(bundle.path.parent / "config.yaml").model_dump(mode="json", exclude_defaults=True)
    except PyramidSegError:  # not in the folder of its training
        settings = {"model": bundle.config.model_dump(mode="json", exclude_defaults=True)}
    known = [(key, facts[key]) for key in ("split", "epoch", "ema", "crop", "imported") if key in facts]
    environment = Environment(autoescape=False, trim_blocks=False, keep_trailing_newline=True)  # noqa: S701 - `_cell`
    environment.filters |= {"cell": _cell, "line": _line}
    template = (files("pyramidseg.export") / "model_card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        bundle=bundle,
        url=url,
        license=license,
        mark=CARD_MARK,
        contract=INPUT_CONTRACT,
        metrics=metrics,
        scores={entry.get("name"): entry for entry in classes},
        colored=[(n, f"#{bytes(c).hex()}") for n, c in zip(bundle.classes.names, bundle.classes.colors, strict=True)],
        data=_mapping(facts.get("data")) or {"source": "not stored in the bundle"},
        recipe=[*known, ("initial encoder weights", bundle.encoder_source.name)],
        settings=settings,
    )


def _mapping(value: Any) -> dict[str, Any]:
    """A copy; facts may be any that `Segmenter.save` was given."""
    return dict(value) if isinstance(value, dict) else {}


def _cell(value: Any) -> str:
    """A name or value, which neither ends its cell nor is read as Markdown or HTML."""
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else _line(value)
    return re.sub(r"([|<>&`*_\[\]\\])", r"\\\1", text)


def _line(value: Any) -> str:
    """In one line; of a path on this machine only the name."""
    value = _without_folders(value)
    return " ".join(printable(value if isinstance(value, str) else json.dumps(value)).split())


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    is_file = os.path.isfile(value)  # noqa: PTH113 - Path.is_file raises for texts longer than a name can be
    return Path(value).name if is_file or value[:1] in (".", "~") or Path(value).is_absolute() else value
