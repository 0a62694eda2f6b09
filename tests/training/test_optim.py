"""Learning rates, parameter groups, freezing, and the moving average."""

import pytest
import torch

from pyramidseg.base.config import OptimConfig
from pyramidseg.base.overrides import load_config
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.optim import (
    ModelEma,
    choose_optimizer,
    lr_factor,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
    set_training_mode,
)
from support import tiny_segmenter


@pytest.fixture
def model() -> Segmenter:
    return tiny_segmenter()


def factors_of(schedule: str, steps: int, *, warmup_steps: int) -> list[float]:
    """The factors of all steps of a run, with ten steps an epoch."""
    overrides = {"train.epochs": steps // 10, "optim.schedule": schedule, "optim.warmup_epochs": warmup_steps / 10}
    config = load_config(overrides=overrides)
    return [lr_factor(config, step, steps_an_epoch=10) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_warm_up_rises_linearly_to_the_schedule(schedule: str) -> None:
    factors, unwarmed = factors_of(schedule, 1000, warmup_steps=10), factors_of(schedule, 1000, warmup_steps=0)
    assert factors[:10] == pytest.approx([(step + 1) / 10 * unwarmed[step] for step in range(10)])
    assert factors[10:] == unwarmed[10:]


def test_schedules_start_at_the_peak_and_fall_to_almost_nothing() -> None:
    for schedule in ("poly", "cosine"):
        factors = factors_of(schedule, 100, warmup_steps=0)
        assert factors[0] == 1
        assert factors == sorted(factors, reverse=True)
        assert 0 < factors[-1] < 0.02


def test_every_parameter_is_in_one_group_and_norms_are_not_decayed(model: Segmenter) -> None:
    groups = parameter_groups(model, OptimConfig(optimizer="adamw", lr=1.0, encoder_lr_factor=0.1, weight_decay=0.5))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    encoder = {id(parameter) for parameter in model.encoder.parameters()}
    for group in groups:
        for parameter in group["params"]:  # type: ignore[attr-defined]
            assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)
            assert group["peak_lr"] == pytest.approx(0.1 if id(parameter) in encoder else 1.0)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("test_resnet", ["fc"]), ("test_convnext", ["head.fc"]), ("swiftformer_xs", ["head", "head_dist"])],
)
def test_muon_leaves_a_classifiers_output_to_adamw(name: str, layers: list[str]) -> None:
    classifier = Classifier("abc", encoder=name)
    groups = parameter_groups(classifier, OptimConfig(optimizer="muon", lr=1.0))
    muons = {id(parameter) for group in groups if group["orthogonal"] for parameter in group["params"]}  # type: ignore[attr-defined]
    outputs = {f"network.{layer}.weight" for layer in layers}
    matrices = {name: id(parameter) in muons for name, parameter in classifier.named_parameters() if parameter.ndim > 1}
    assert not any(matrices[name] for name in outputs)
    assert any(matrices.values())


def test_muon_leaves_a_segmenters_outputs_to_adamw() -> None:
    model = Segmenter(num_classes=3, encoder="test_resnet", encoder_weights="none", image_head=True)
    groups = parameter_groups(model, OptimConfig(optimizer="muon", lr=1.0))
    adams = {id(parameter) for group in groups if not group["orthogonal"] for parameter in group["params"]}  # type: ignore[attr-defined]
    assert model.head is not None
    assert {id(model.classifier.weight), id(model.head.weight)} <= adams
    assert id(model.decoder.pyramid.lateral[0].weight) not in adams


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_frozen_encoder_keeps_weights_and_statistics(model: Segmenter, optimizer: str) -> None:
    config = OptimConfig(optimizer=optimizer, lr=0.1, freeze_encoder=True)  # type: ignore[arg-type]
    stepped = make_optimizer(model, config)
    set_learning_rate(stepped, 1.0)
    set_training_mode(model, config, epoch=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    stepped.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not {name for name in changed if name.startswith("encoder.")}
    assert any(name.startswith("decoder.") and "running_mean" in name for name in changed)
    assert "classifier.weight" in changed


def test_the_average_follows_as_a_loop_does(model: Segmenter) -> None:
    average = ModelEma(model, decay=0.5)
    name = "classifier.weight"
    expected = model.state_dict()[name].clone()
    for update in range(6):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(model, update)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * model.state_dict()[name]
    torch.testing.assert_close(average.model.state_dict()[name], expected)


def test_the_average_takes_part_in_no_gradient(model: Segmenter) -> None:
    average = ModelEma(model, decay=0.9)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert not average.model.training
    assert average.model.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("settings", "optimizer", "rate"),
    [
        ({"model.encoder_weights": "none"}, "muon", 3e-3),
        ({}, "muon", 6e-3),
        ({"optim.optimizer": "muon"}, "muon", 3e-3),
        ({"optim.lr": 1e-3}, "muon", 1e-3),
        ({"model.weights": "a.safetensors"}, "adamw", 1e-3),
    ],
)
def test_auto_chooses_optimizer_and_rate_by_the_initial_weights(
    settings: dict[str, object], optimizer: str, rate: float
) -> None:
    chosen, note = choose_optimizer(load_config(None, settings))
    assert (chosen.optim.optimizer, chosen.optim.lr) == (optimizer, rate)
    assert f"{rate:g}" in note


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model.encoder": "tf_efficientnet_lite2"}, "Muon, peak learning rate 0.006"),
        (
            {"model.encoder": "resnet18"},
            "Muon, peak learning rate 0.006 (not measured for this encoder: docs/recipe.md)",
        ),
        ({"model.encoder": "resnet18", "model.encoder_weights": "none"}, "Muon, peak learning rate 0.003"),
        ({"model.encoder": "resnet18", "optim.lr": 0.006}, "Muon, peak learning rate 0.006"),
    ],
)
def test_the_note_says_where_the_rate_of_auto_is_not_measured(settings: dict[str, object], expected: str) -> None:
    assert choose_optimizer(load_config(None, settings))[1] == expected
