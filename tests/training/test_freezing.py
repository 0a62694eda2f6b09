"""What freezing and separate rates change, and what they leave as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath

from pyramidseg.base.config import OptimConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.overrides import full_name, load_config
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.model.encoder import Encoder, count_parts, part_finder
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.initial_weights import build_model
from pyramidseg.training.optim import make_optimizer, parameter_groups, set_learning_rate, set_training_mode
from pyramidseg.training.segmentation_training import train
from support import TINY_SETTINGS, tiny_segmenter


@pytest.fixture
def model() -> Segmenter:
    return tiny_segmenter()


def changed_by_a_step(model: Segmenter, config: OptimConfig, *, epoch: int = 0) -> set[str]:
    """Names of the tensors that one optimiser step changes."""
    set_training_mode(model, config, epoch=epoch)
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, 1.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def part(model: Segmenter, name: str) -> int:
    return part_finder(model.encoder)(name.removeprefix("encoder."))


@pytest.mark.parametrize("frozen", [0, 1, 3, 5])
def test_frozen_stages_keep_weights_and_statistics(model: Segmenter, frozen: int) -> None:
    changed = changed_by_a_step(model, OptimConfig(optimizer="adamw", lr=0.1, freeze_stages=frozen))
    of_encoder = {name for name in model.state_dict() if name.startswith("encoder.")}
    assert {part(model, name) for name in changed & of_encoder} == set(range(frozen, 5))
    running = {name for name in of_encoder if "running_mean" in name}
    assert {name for name in running if part(model, name) >= frozen} == changed & running
    assert "classifier.weight" in changed


@pytest.mark.parametrize("stages", [1, 2])
def test_the_stem_is_frozen_where_the_finest_map_is_its_activation(stages: int) -> None:
    """ResNet's map of stride 2 comes from `act1`, which has no weights: freezing it froze nothing."""
    fine = tiny_segmenter(finest_stride=2)
    changed = changed_by_a_step(fine, OptimConfig(optimizer="adamw", lr=0.1, freeze_stages=stages))
    stem = {name for name in fine.state_dict() if part(fine, name) == 0 and name.startswith("encoder.")}
    assert {name.split(".")[2] for name in stem} == {"conv1", "bn1"}
    assert not stem & changed
    assert {part(fine, name) for name in changed if name.startswith("encoder.")} == {2, 3, 4, 5}


def test_stages_that_hold_no_weights_are_refused() -> None:
    """HRNet's layers are listed behind the fusion of the stage after them."""
    model = Segmenter(num_classes=2, encoder="hrnet_w18_small", encoder_weights="none")
    with pytest.raises(ConfigError, match=r"freeze_stages=1: freezes nothing, .* choose 3 or more"):
        set_training_mode(model, OptimConfig(optimizer="adamw", freeze_stages=1), epoch=0)
    set_training_mode(model, OptimConfig(optimizer="adamw", freeze_stages=3), epoch=0)
    assert not all(parameter.requires_grad for parameter in model.encoder.parameters())


def test_frozen_stages_drop_no_paths() -> None:
    name = "swin_tiny_patch4_window7_224"
    model = Segmenter(num_classes=2, encoder=name, encoder_weights="none")
    set_training_mode(model, OptimConfig(optimizer="adamw", freeze_stages=3), epoch=0)
    modes: dict[int, set[bool]] = {}
    for path, module in model.encoder.named_modules():
        if isinstance(module, DropPath):
            modes.setdefault(part(model, path.rpartition(".")[0]), set()).add(module.training)
    assert modes == {1: {False}, 2: {False}, 3: {True}, 4: {True}}


def test_a_frozen_encoder_thaws_at_its_epoch(model: Segmenter) -> None:
    config = OptimConfig(optimizer="adamw", lr=0.1, freeze_encoder=True, unfreeze_epoch=2)
    assert not any(name.startswith("encoder.") for name in changed_by_a_step(model, config, epoch=1))
    changed = changed_by_a_step(model, config, epoch=2)
    assert {part(model, name) for name in changed if name.startswith("encoder.")} == set(range(5))


def test_frozen_norms_keep_their_statistics_while_weights_learn(model: Segmenter) -> None:
    changed = changed_by_a_step(model, OptimConfig(optimizer="adamw", lr=0.1, freeze_norm=True))
    assert not any("running" in name for name in changed if name.startswith("encoder."))
    assert any("running" in name for name in changed if name.startswith("decoder."))
    assert {part(model, name) for name in changed if name.startswith("encoder.")} == set(range(5))


def test_rates_fall_from_stage_to_stage(model: Segmenter) -> None:
    config = OptimConfig(optimizer="adamw", lr=1.0, encoder_lr_factor=0.5, layer_decay=0.8)
    rate = {
        id(parameter): group["peak_lr"]
        for group in parameter_groups(model, config)
        for parameter in group["params"]  # type: ignore[attr-defined]
    }
    for name, parameter in model.named_parameters():
        in_encoder = name.startswith("encoder.")
        expected = 0.5 * 0.8 ** (5 - part(model, name)) if in_encoder else 1.0
        assert rate[id(parameter)] == pytest.approx(expected), name


def test_a_step_is_as_long_as_its_part_has_the_rate(model: Segmenter) -> None:
    config = OptimConfig(
        optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, encoder_lr_factor=0.5, layer_decay=0.8
    )
    set_training_mode(model, config, epoch=0)
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, 0.1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.5 * 0.8 ** (5 - part(model, name)) if name.startswith("encoder.") else 1.0
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.detach(), before[name] - 0.05 * factor * parameter.grad, rtol=0, atol=1e-7)


def test_untrained_parameters_are_in_no_group(model: Segmenter) -> None:
    count = sum(
        len(group["params"]) for group in parameter_groups(model, OptimConfig(optimizer="adamw", freeze_encoder=True))
    )  # type: ignore[arg-type]
    assert count == sum(1 for name, _ in model.named_parameters() if not name.startswith("encoder."))


def test_more_stages_than_there_are_is_an_error(model: Segmenter) -> None:
    with pytest.raises(ConfigError, match=r"optim\.freeze_stages=6: test_resnet has 5 parts \(its stem"):
        set_training_mode(model, OptimConfig(optimizer="adamw", freeze_stages=6), epoch=0)


def test_thawing_what_is_not_frozen_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing is frozen"):
        OptimConfig(optimizer="adamw", unfreeze_epoch=3)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_b0", "convnext_atto", "mobilenetv3_small_050"])
def test_parts_are_in_the_order_of_the_network(name: str) -> None:
    encoder = Encoder(name, weights="none")
    part_of = part_finder(encoder)
    parts = [part_of(key) for key, _ in encoder.named_parameters()]
    assert parts == sorted(parts)
    assert set(parts) == set(range(count_parts(encoder)))


def test_a_frozen_epoch_leaves_the_encoder_as_it_was_and_a_thawed_one_does_not(scenes: Path, tmp_path: Path) -> None:
    def encoder_of(**settings: Any) -> dict[str, torch.Tensor]:
        run = train(scenes, out=tmp_path / str(len(list(tmp_path.iterdir()))), **TINY_SETTINGS, **settings)
        return Segmenter.load(run.last).encoder.state_dict()

    config = load_config(overrides={full_name(key): value for key, value in TINY_SETTINGS.items()})
    begun, _ = build_model(config, open_dataset(scenes, config.data).classes)
    frozen = encoder_of(epochs=1, freeze_encoder=True, ema=0.0)
    assert all(torch.equal(tensor, frozen[key]) for key, tensor in begun.encoder.state_dict().items())
    thawed = encoder_of(epochs=2, freeze_encoder=True, unfreeze_epoch=1, ema=0.0)
    name = next(key for key in frozen if key.endswith("conv1.weight"))
    assert not torch.equal(frozen[name], thawed[name])
