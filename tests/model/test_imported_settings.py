"""Importing checkpoints: what config.json, flags and encoder names settle, and what is assumed with a note."""

import json
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn

from made_imports import imported, noted
from peer import peer
from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.imports.smp_encoders import TIMM_NAMES, encoder_statistics, timm_encoder


@pytest.fixture(scope="module")
def theirs():
    return peer()


@pytest.fixture(scope="module")
def weights(theirs):
    return theirs.state_dict()


def saved_as(folder: Path, model: nn.Module, **settings) -> Path:
    """A saved folder whose config.json was changed."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


class TestConfig:
    def test_dropout_and_interpolation_are_taken_over(self, tmp_path):
        peer(decoder_dropout=0.35, decoder_interpolation="bilinear").save_pretrained(tmp_path)
        settings = imported(tmp_path).model.settings
        assert (settings.dropout, settings.interpolation) == (0.35, "bilinear")

    def test_without_config_they_are_assumed_with_a_note_or_given(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth")
        assert noted(result, "0.2, smp's default, is assumed; `dropout`")
        assert noted(result, "nearest, smp's default, is assumed; `interpolation`")
        given = imported(tmp_path / "weights.pth", dropout=0.5, interpolation="bilinear")
        assert given.model.settings.dropout == 0.5
        assert not noted(given, "smp's default, is assumed")

    @pytest.mark.parametrize(
        ("choices", "words"),
        [
            ({"dropout": 0.5}, r"`dropout=0\.5`: config\.json has decoder_dropout=0\.2"),
            ({"encoder": "resnet34"}, r"`encoder=resnet34`: config\.json has encoder_name=resnet18"),
            ({"interpolation": "bilinear"}, r"config\.json has decoder_interpolation=nearest"),
        ],
    )
    def test_flags_that_contradict_it_are_refused(self, tmp_path, theirs, choices, words):
        theirs.save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=words):
            imported(tmp_path, **choices)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"classes": 6}, r"contradicts the tensors: classes=6 \(tensors: 5\)"),
            ({"decoder_merge_policy": "cat"}, r"decoder_merge_policy=cat \(tensors: add\)"),
            ({"encoder_depth": 4}, r"encoder_depth=4 \(tensors: 5\)"),
            ({"encoder_depth": "5"}, r"encoder_depth='5'"),
            ({"encoder_name": "resnet34"}, r"not an smp FPN of resnet34 .*absent: .*encoder\.layer"),
            ({"decoder_interpolation": "bicubic"}, r"decoder_interpolation=bicubic cannot be imported; possible: near"),
            ({"output_stride": 16}, r"may change the network in an unknown way: output_stride=16"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(self, tmp_path, theirs, settings, words):
        with pytest.raises(WeightsError, match=words):
            imported(saved_as(tmp_path, theirs, **settings))

    def test_an_activation_is_left_out_with_a_note(self, tmp_path):
        peer(activation="sigmoid").save_pretrained(tmp_path)
        result = imported(tmp_path)
        assert noted(result, "activation sigmoid is left out")
        assert noted(result, "pixels that had several classes")

    def test_another_upsampling_is_reported(self, tmp_path):
        peer(upsampling=1).save_pretrained(tmp_path)
        assert noted(imported(tmp_path), "0.25 times the image's size")

    def test_depth_3_is_refused_with_the_reason(self, tmp_path):
        peer(encoder_depth=3).save_pretrained(tmp_path)
        with pytest.raises(WeightsError, match="encoder_depth=3 cannot be imported: its finest level is the image"):
            imported(tmp_path)


class TestClasses:
    def test_names_are_given_or_numbered_with_a_note(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        named = imported(tmp_path / "weights.pth", classes=("sky", "road", "car", "tree", "sign"))
        assert named.model.classes.names == ("sky", "road", "car", "tree", "sign")
        numbered = imported(tmp_path / "weights.pth")
        assert numbered.model.classes.names[0] == "class 0"
        assert noted(numbered, "`classes` names them")
        with pytest.raises(ConfigError, match="2 names, and the network has 5 classes"):
            imported(tmp_path / "weights.pth", classes=("sky", "road"))

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ((), ("background", "foreground")),
            (("crack",), ("background", "crack")),
            (("wall", "crack"), ("wall", "crack")),
        ],
    )
    def test_a_single_class_gets_a_background(self, tmp_path, names, expected):
        torch.save(peer(classes=1).state_dict(), tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth", classes=names)
        assert result.model.classes.names == expected
        assert noted(result, "one class becomes two")
        with pytest.raises(ConfigError, match="3 names"):
            imported(tmp_path / "weights.pth", classes=("a", "b", "c"))


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def statistics(result):
    model = result.model
    assert model.encoder_source.mean == pytest.approx(model.mean.tolist())
    return [round(value, 6) for value in model.mean.tolist()], [round(value, 6) for value in model.std.tolist()]


class TestPreprocessing:
    def test_known_encoder_weights_have_their_statistics(self, tmp_path, theirs):
        result = imported(saved_as(tmp_path, theirs, encoder_weights="swsl"))
        assert statistics(result) == IMAGENET
        assert noted(result, "smp's for resnet18 with swsl weights")

    @pytest.mark.parametrize("encoder", ["tu-resnet18", "tu-tf_efficientnet_b0.ap_in1k", "tu-mobilenetv3_large_100"])
    def test_those_of_timm_are_what_smp_itself_says(self, encoder):
        known = smp.encoders.get_preprocessing_params(encoder)
        assert encoder_statistics(encoder, True) == (tuple(known["mean"]), tuple(known["std"]))

    def test_unknown_ones_are_assumed_with_a_note(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth")
        assert statistics(result) == IMAGENET
        assert noted(result, "ImageNet's, assumed; `mean` and `std` set others")

    def test_given_ones_come_first(self, tmp_path, theirs):
        folder = saved_as(tmp_path, theirs, encoder_weights="imagenet")
        assert statistics(imported(folder, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))) == ([0.1, 0.2, 0.3], [1, 2, 3])
        with pytest.raises(ConfigError, match="both or neither"):
            imported(folder, mean=(0.1, 0.2, 0.3))
        with pytest.raises(ConfigError, match="3 each are needed"):
            imported(folder, mean=(0.1,), std=(1.0,))

    def test_buffers_of_a_lightning_module_are_taken(self, tmp_path, weights):
        content = {f"model.{name}": tensor for name, tensor in weights.items()}
        content |= {"mean": torch.tensor([0.3, 0.2, 0.1]).view(1, 3, 1, 1), "std": torch.full((1, 3, 1, 1), 0.25)}
        torch.save({"state_dict": content}, tmp_path / "last.ckpt")
        result = imported(tmp_path / "last.ckpt")
        assert statistics(result) == ([0.3, 0.2, 0.1], [0.25] * 3)
        assert noted(result, "buffers of the checkpoint")

    def test_images_up_to_255_are_the_same_to_our_network(self, tmp_path, theirs):
        save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
        mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
        ours = imported(tmp_path / "weights.safetensors", mean=mean, std=std, input_range=255).model
        pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        with torch.inference_mode():
            expected = theirs((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
            torch.testing.assert_close(ours(pixels), expected, rtol=1e-4, atol=1e-4)
        with pytest.raises(ConfigError, match="`input_range=0`"):
            imported(tmp_path / "weights.safetensors", input_range=0.0)

    def test_other_numbers_of_channels_get_the_average_with_a_note(self, tmp_path):
        torch.save(peer(in_channels=2).state_dict(), tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth")
        assert statistics(result)[0] == [0.449] * 2
        assert noted(result, "assumed")

    def test_adversarial_and_lite_weights_have_their_own(self):
        assert encoder_statistics("timm-efficientnet-b0", "advprop") == ((0.5,) * 3, (0.5,) * 3)
        assert encoder_statistics("timm-tf_efficientnet_lite0", "imagenet") == ((0.5,) * 3, (0.5,) * 3)


class TestEncoders:
    @pytest.mark.parametrize("encoder", sorted(name for name in TIMM_NAMES if not name.startswith("timm-")))
    def test_its_tensors_are_those_of_timms_network(self, encoder):
        with torch.device("meta"):
            tensors = smp.encoders.get_encoder(encoder, weights=None).state_dict()
        assert timm_encoder(encoder, where=Path("x")).shapes == {name: t.shape for name, t in tensors.items()}

    @pytest.mark.parametrize(
        ("encoder", "reason"),
        [
            ("efficientnet-b0", "fixes its padding for one image size"),
            ("mobilenet_v2", "no network with the same tensors"),
            ("mit_b0", "no network with the same tensors"),
            ("resnext101_32x48d", "no network with the same tensors"),
            ("tu-resnet19", "has no network 'resnet19'"),
            ("tu-swin_tiny_patch4_window7_224", "for one image size"),
        ],
    )
    def test_one_that_timm_does_not_have_is_refused_with_the_reason(self, tmp_path, theirs, encoder, reason):
        with pytest.raises(WeightsError, match=f"encoder {encoder} cannot be imported: .*{reason}"):
            imported(saved_as(tmp_path, theirs, encoder_name=encoder))

    def test_a_file_of_tensors_needs_its_name(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        with pytest.raises(ConfigError, match=r"weights\.pth: .* add the name .* such as `encoder='resnet34'`"):
            imported(tmp_path / "weights.pth", encoder=None)

    def test_another_name_is_refused_with_the_tensors_that_differ(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        with pytest.raises(WeightsError, match=r"not an smp FPN of resnet34 .*absent: .*encoder\.layer"):
            imported(tmp_path / "weights.pth", encoder="resnet34")

    @pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated")
    def test_one_whose_finest_map_differs_at_depth_4_is_refused(self, tmp_path):
        peer("timm-efficientnet-b0", encoder_depth=4).save_pretrained(tmp_path)
        with pytest.raises(WeightsError, match=r"decoder\.p2\.skip_conv\.weight 32x32x1x1 instead of 32x16x1x1"):
            imported(tmp_path)
