"""Read and write files of tensors: our safetensors files with a checksum, and those of others without running code."""

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyramidseg.base.errors import WeightsError
from pyramidseg.base.files import write_atomically
from pyramidseg.images.image_files import IMAGE_EXTENSIONS

CHECKSUM = "sha256"

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the weights in their checkpoints."""


_EXPORT = (
    "an exported model, which predict, evaluate and benchmark run; everything else needs the bundle (.safetensors) "
    "that it was made from"
)
_ORDER = "the model, such as RUN/best.safetensors, is the first argument, before images and datasets"
_PICKLE = (
    "a file of PyTorch: pyramidseg import FILE --from smp --encoder NAME --out BUNDLE.safetensors converts FPNs of "
    "segmentation_models.pytorch, and `encoder_weights=FILE` takes weights of timm's encoders"
)
OTHERS = {
    "pyramidseg bundle": "a whole model: give it as the model, or with `weights`",
    "pyramidseg classifier": "an encoder that pretrain wrote: give it with `encoder_weights`",
    "pyramidseg checkpoint": "what `resume` needs of a run: the run's models are best.safetensors and last.safetensors",
    **dict.fromkeys((".onnx", ".xml", ".pt2"), _EXPORT),
    **dict.fromkeys(IMAGE_EXTENSIONS, f"an image: {_ORDER}"),
    **dict.fromkeys((".yaml", ".yml", ".json", ".csv", ".txt"), f"a text file: {_ORDER}"),
    **dict.fromkeys((".pth", ".pt", ".ckpt", ".bin", ".tar"), _PICKLE),
    "": "tensors of another program: bundles are the .safetensors files that training and Segmenter.save write; "
    "`encoder_weights` takes weights of timm's encoders",
}
"""What a file is that was given in place of another, by its format or suffix, and what takes it."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically, with a checksum over names, values and metadata."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    signed = {**metadata, CHECKSUM: _checksum(stored, metadata)}
    write_atomically(path, lambda part: _save(stored, part, signed))


def read_verified(path: Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that `write_tensors` wrote.

    Args:
        kind: value of the metadata's `format`, such as `pyramidseg bundle`.

    Raises:
        WeightsError: no such file, damaged, or not of this kind.
    """
    metadata = read_metadata(path, kind=kind)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    expected = metadata.pop(CHECKSUM, "")
    if _checksum(tensors, metadata) != expected:
        raise _damaged(path, "its checksum does not match its content")
    return tensors, metadata


def read_metadata(path: Path, *, kind: str) -> dict[str, str]:
    """Read the metadata only; raises the same errors as `read_verified`."""
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        if (other := OTHERS.get(path.suffix.lower())) is not None:
            raise WeightsError(f"{path}: not a {kind}, but {other}") from None
        raise _damaged(path, str(error)) from None
    if (found := metadata.get("format")) != kind:
        raise WeightsError(f"{path}: not a {kind}, but {OTHERS.get(found or '', OTHERS[''])}")
    return metadata


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a foreign file: .safetensors, or a .pth that holds tensors only (possibly under a key of `WRAPPERS`).

    Raises:
        WeightsError: no such file, damaged, or holding more than tensors.
    """
    return read_wrapped_tensors(path)[0]


def read_wrapped_tensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """As `read_tensors`, with the keys of `WRAPPERS` under which the tensors were found, outermost first."""
    _require_file(path)
    content = _foreign_content(path)
    wrappers = []
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            wrappers.append(wrapper)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(
            f"{path}: a mapping of names to tensors is needed, alone or under {', '.join(WRAPPERS)}; "
            f"got {_described(content)}"
        )
    for name, tensor in content.items():
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "without values" if tensor.is_meta else "sparse"
            raise WeightsError(f"{path}: {name} is {kind}; save dense tensors of floats")
    return {str(name): tensor for name, tensor in content.items()}, tuple(wrappers)


def _foreign_content(path: Path) -> object:
    """The content of a file, read without running code from it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:  # torch stores entries without compressing them
                raise ValueError(f"it is compressed, and would take {unpacked / 1e9:.3g} GB when it is unpacked")
        with warnings.catch_warnings():  # of pickle protocols, which torch then reads or rejects with an error
            warnings.simplefilter("ignore")
            return torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # safetensors, zipfile, pickle and torch raise many types
        raise WeightsError(f"{path}: not a readable file of tensors: {_reason(error)}") from None


def _described(content: object) -> str:
    keys = ", ".join(str(key) for key in list(content)[:6]) if isinstance(content, dict) else ""
    return f"a {type(content).__name__}{f' with the keys {keys}' if keys else ''}"


def _reason(error: Exception) -> str:
    """The error in one line. torch's advice for other pickles, to load them with their code, is left out."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"it holds more than tensors ({named[1]}), and code from files is not run; save only the weights "
            "with the program that wrote it: torch.save(model.state_dict(), FILE)"
        )
    if isinstance(error, pickle.UnpicklingError):
        return "it is not a file that torch.save writes for a dict of tensors; other pickles can run code"
    return (str(error).strip().splitlines() or ["no message"])[0]


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """`save_file`, which raises errors of the operating system as `OSError`."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error), str(path)) from error


def _require_file(path: Path) -> None:
    if path.is_dir():
        own = path / "best.safetensors"
        advice = f"in a run's folder the model is {own}" if own.is_file() else _ORDER
        raise WeightsError(f"{path}: a folder, not a file of weights; {advice}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")


def _damaged(path: Path, reason: str) -> WeightsError:
    if path.with_name(f"{path.name}.parity.json").is_file():
        return WeightsError(f"{path}: is an export for other programs; give the bundle that it was made from")
    return WeightsError(f"{path}: damaged or not a safetensors file: {reason}")


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
