"""serve: answer requests over HTTP: plain, Open Inference Protocol, Label Studio."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidseg.base.errors import ConfigError, import_extra
from pyramidseg.base.remote_files import is_url
from pyramidseg.cli.flags import add_prediction_options, comma_list, predictor_of, values_of
from pyramidseg.serve import process_context
from pyramidseg.serve.limits import Limits, is_loopback

if TYPE_CHECKING:
    from pyramidseg.serve.label_training import LabelTraining

TOKEN_VARIABLE = "PYRAMIDSEG_TOKEN"  # noqa: S105 - the name of a variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "bundles or exported files, PATH, URL or NAME=PATH; RUN/best.safetensors is named RUN"
    add("models", nargs="+", metavar="MODEL", help=text)
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for other machines")
    add("--port", type=int, default=8000, help="0 chooses a free one")
    add("--token", help=f"bearer token of requests (default: ${TOKEN_VARIABLE}); required beyond this machine")
    add("--ssl-certfile", metavar="FILE", help="certificate in PEM, for https (default: plain http)")
    add("--ssl-keyfile", metavar="FILE", help="its private key (default: in the certificate's file)")
    text = "processes that read images and compute, for each model; 0 uses threads of the server's own process"
    add("--workers", type=int, default=1, metavar="N", help=text)
    text = "batch images even where the runtime rounds differently in batches, as torch does"
    add("--inexact-batches", action="store_true", help=text)
    text = "fetch images that clients name by URL below these: https://host/folder (default: none)"
    add("--allow-url", type=comma_list(), default=(), metavar="PREFIX,...", help=text)
    text = "train again after N new annotations of Label Studio (default: never)"
    add("--train-after", type=int, metavar="N", help=text)
    add("--train-in", metavar="DIR", help="folder of these trainings, which may hold a config.yaml (no default)")
    add_prediction_options(parser, batch_size=False)
    limits = parser.add_argument_group("limits")
    for limit in fields(Limits):
        kind = float if limit.name.endswith(("_s", "_ms", "_mb")) else int
        flag = f"--{limit.name.replace('_', '-')}"
        limits.add_argument(flag, type=kind, default=limit.default, metavar="N", help=limit.metadata["help"])
    parser.set_defaults(collect="models")


def run(arguments: argparse.Namespace) -> int:
    """Serve until the process is told to stop."""
    named = model_names(arguments.models)
    token = arguments.token or os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not is_loopback(arguments.host):
        raise ConfigError(
            f"--host {arguments.host}: other machines can reach it, so a token is required: set {TOKEN_VARIABLE}"
        )
    if token and not re.fullmatch("[!-~]+", token):
        raise ConfigError(f"{TOKEN_VARIABLE}, --token: has spaces, line breaks or characters that are not ASCII")
    if arguments.workers < 0:
        raise ConfigError(f"--workers {arguments.workers}: has to be 0 or more")
    for limit in fields(Limits):
        if not (0 if limit.name == "max_wait_ms" else 1e-9) <= (value := getattr(arguments, limit.name)) < 1e15:
            raise ConfigError(f"`{limit.name}={value:g}`: has to be above 0 and below 1e15")
    for module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        import_extra(module, extra="serve", purpose="pyramidseg serve")

    if arguments.workers:
        process_context()
    training = _training(arguments, named) if (arguments.train_after, arguments.train_in) != (None, None) else None

    from pyramidseg.predict.pipeline import use_available_processors
    from pyramidseg.serve.app import make_app
    from pyramidseg.serve.server import serve
    from pyramidseg.serve.service import Service

    limits = Limits(**{limit.name: getattr(arguments, limit.name) for limit in fields(Limits)})
    use_available_processors()
    load, batches = partial(predictor_of, arguments=arguments), arguments.inexact_batches
    service = Service(named, load, limits=limits, workers=arguments.workers, inexact_batches=batches)
    url, key = os.environ.get("LABEL_STUDIO_URL", ""), os.environ.get("LABEL_STUDIO_API_KEY", "")
    make = partial(make_app, service, token=token, loopback_only=token is None, label_studio_url=url)
    make = partial(make, label_studio_key=key, allow_urls=arguments.allow_url)
    if training:
        service.background.append(partial(training.run, service, next(iter(named))))
    serve(
        make(receive=training.receive if training else None),
        service,
        **values_of(arguments, "host", "port"),
        certfile=arguments.ssl_certfile,
        keyfile=arguments.ssl_keyfile,
    )
    return 0


def _training(arguments: argparse.Namespace, named: dict[str, str]) -> "LabelTraining":
    """That of the first model, which is replaced by the bundle that an earlier one chose."""
    after, folder, first = arguments.train_after, arguments.train_in, next(iter(named))
    if after is None or folder is None or after < 1:
        raise ConfigError("--train-after N (1 or more) and --train-in DIR belong together: give both")
    if not (os.environ.get("LABEL_STUDIO_URL") and os.environ.get("LABEL_STUDIO_API_KEY")):
        raise ConfigError("--train-after: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, to fetch annotations")
    if not named[first].endswith(".safetensors") or not Path(named[first]).is_file():
        raise ConfigError(f"--train-after: {named[first]}: the first model has to be a bundle (.safetensors)")

    from pyramidseg.serve.label_training import LabelTraining

    training = LabelTraining(Path(folder), after=after, model=named[first])
    named[first] = training.state.bundle
    return training


def model_names(models: Sequence[str]) -> dict[str, str]:
    """Paths by the names of the models.

    Raises:
        ConfigError: two have the same name, or a name cannot be part of a URL.
    """
    named: dict[str, str] = {}
    for model in models:
        name, given, path = model.partition("=")
        if not given or "/" in name:
            path = model
            parts = Path(path).resolve()
            name = parts.parent.name if parts.stem in ("best", "last") else parts.stem
            name = name.partition("@")[0] if is_url(model) else name  # a revision
        if not re.fullmatch(r"[\w.-]{1,80}", name, re.ASCII):
            raise ConfigError(f"{path}: the name {name!r} cannot be part of a URL; write NAME={path}")
        if name in named:
            raise ConfigError(f"{path}: a second model is named {name}; write NAME={path}")
        named[name] = path
    return named
