import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import list_pretrained

from pyramidseg.base.device import channels_last
from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.encoder import DEPTHS, Encoder, resolve_encoder
from pyramidseg.model.encoder_weights import IMAGENET_MEAN, IMAGENET_STD, IMAGENET_TAGS
from pyramidseg.model.segmenter import Segmenter


class TestNames:
    @pytest.mark.parametrize("depth", DEPTHS["resnet"])
    def test_resnet_by_depth(self, depth):
        assert resolve_encoder("resnet", depth) == f"resnet{depth}"

    @pytest.mark.parametrize("depth", DEPTHS["efficientnet"])
    def test_efficientnet_by_depth(self, depth):
        assert resolve_encoder("efficientnet", depth) == f"tf_efficientnet_b{depth}"

    def test_default_depths(self):
        assert resolve_encoder("resnet") == "resnet34"
        assert resolve_encoder("efficientnet") == "tf_efficientnet_b0"

    def test_a_full_name_may_repeat_its_depth(self):
        assert resolve_encoder("convnext_tiny") == "convnext_tiny"
        assert resolve_encoder("resnet50", 50) == "resnet50"
        assert resolve_encoder("efficientnet_b3", 3) == "efficientnet_b3"

    @pytest.mark.parametrize(
        ("encoder", "depth", "messages"),
        [
            ("resnet", 5, ["encoder_depth=5", "18, 34, 50, 101, 152", "coarsest_stride"]),
            ("efficientnet", 8, ["0, 1, 2, 3, 4, 5, 6, 7", "coarsest_stride"]),
            ("resnet50", 34, ["already contains depth 50", "coarsest_stride"]),
            ("convnext_tiny", 5, ["takes no depth", "coarsest_stride"]),
            ("resnet5O", None, ["resnet5O", "did you mean"]),
            ("zzzzzz", None, ["resnet, efficientnet", "list_models"]),
            ("resnet50.a1_in1k", None, ["encoder=resnet50 encoder_weights=a1_in1k"]),
        ],
    )
    def test_a_wrong_one_is_refused_with_the_choices(self, encoder, depth, messages):
        with pytest.raises(ConfigError) as caught:
            resolve_encoder(encoder, depth)
        for message in messages:
            assert message in str(caught.value)


class TestStrides:
    @pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
    def test_maps_have_the_stated_strides_and_channels(self, name):
        encoder = Encoder(name, weights="none").eval()
        maps = encoder(torch.rand(1, 3, 64, 96))
        expected = [(1, c, 64 // s, 96 // s) for s, c in zip((4, 8, 16, 32), encoder.channels, strict=True)]
        assert [tuple(level.shape) for level in maps] == expected

    def test_a_network_whose_strides_do_not_double_is_refused_with_them(self):
        with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224: .*\[16, 16"):
            Encoder("vit_tiny_patch16_224", weights="none")

    def test_a_stride_that_the_network_lacks_is_refused_with_those_it_has(self):
        with pytest.raises(ConfigError, match=r"\[4, 8, 16, 32\].*needs \[2, 4, 8, 16, 32\]"):
            Encoder("test_convnext", weights="none", finest_stride=2)

    @pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv3_small_050", "hrnet_w18_small"])
    def test_stages_behind_the_coarsest_map_are_left_out(self, name):
        parameters = [
            sum(parameter.numel() for parameter in Encoder(name, weights="none", coarsest_stride=stride).parameters())
            for stride in (8, 16, 32)
        ]
        assert parameters == sorted(set(parameters))


class TestPinnedTable:
    def test_has_every_depth_of_both_families(self):
        names = {resolve_encoder(family, depth) for family, depths in DEPTHS.items() for depth in depths}
        assert set(IMAGENET_TAGS) == names | {f"tf_efficientnet_lite{depth}" for depth in range(5)}

    def test_every_tag_exists(self):
        for name, tag in IMAGENET_TAGS.items():
            assert f"{name}.{tag}" in list_pretrained(f"{name}.*")

    def test_has_one_recipe_a_family(self):
        assert {tag for name, tag in IMAGENET_TAGS.items() if name.startswith("resnet")} == {"tv_in1k"}
        assert {tag for name, tag in IMAGENET_TAGS.items() if "efficientnet_b" in name} == {"aa_in1k"}
        assert {tag for name, tag in IMAGENET_TAGS.items() if "lite" in name} == {"in1k"}

    def test_no_entry_is_refused_with_the_tags_that_there_are(self):
        with pytest.raises(WeightsError, match=r"convnext_tiny has no pinned .*tags of timm: .*fb_in1k"):
            Encoder("convnext_tiny", weights="imagenet")

    def test_an_unknown_tag_is_refused_with_the_tags_that_there_are(self):
        with pytest.raises(WeightsError, match=r"encoder_weights=nonsense is neither .*tv_in1k"):
            Encoder("resnet18", weights="nonsense")


def classifier(name="test_resnet", **options):
    torch.manual_seed(3)
    return timm.create_model(name, **options).state_dict()


def assert_same_weights(encoder, state, *, leaving_out=()):
    own = encoder.network.state_dict()
    assert own
    for key, tensor in own.items():
        if key not in leaving_out:
            assert torch.equal(tensor, state[key]), key


class TestFiles:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    @pytest.mark.parametrize("fully_connected", [True, False])
    def test_start_the_encoder_with_or_without_the_fully_connected_layer(self, suffix, fully_connected, tmp_path):
        state = classifier(num_classes=7 if fully_connected else 0)
        file = tmp_path / f"weights{suffix}"
        save_file(state, file) if suffix == ".safetensors" else torch.save({"state_dict": state}, file)
        encoder = Encoder("test_resnet", weights=str(file))
        assert_same_weights(encoder, state)
        assert (encoder.source.kind, encoder.source.name) == ("file", file.name)

    @pytest.mark.parametrize("channels", [1, 4, 13])
    def test_adapt_the_first_convolution_to_the_channels(self, channels, tmp_path):
        state = classifier()
        save_file(state, tmp_path / "w.safetensors")
        encoder = Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"), in_channels=channels)
        assert_same_weights(encoder, state, leaving_out=("conv1.0.weight",))
        first, original = encoder.network.state_dict()["conv1.0.weight"], state["conv1.0.weight"]
        if channels == 1:
            torch.testing.assert_close(first, original.sum(1, keepdim=True))
        else:
            # RGB again and again, scaled so that grey in every channel gives what it gave in three.
            torch.testing.assert_close(first[:, 0], original[:, 0] * 3 / channels)
            torch.testing.assert_close(first[:, 3], original[:, 0] * 3 / channels)
        assert len(encoder.source.mean) == channels

    def test_of_the_same_channels_are_taken_as_they_are(self, tmp_path):
        state = classifier(in_chans=4)
        save_file(state, tmp_path / "w.safetensors")
        assert_same_weights(Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"), in_channels=4), state)

    def test_of_other_channels_than_three_are_refused(self, tmp_path):
        save_file(classifier(in_chans=4), tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"1 of another shape: conv1\.0\.weight 16x4x3x3 instead of"):
            Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"), in_channels=5)

    def test_of_another_network_are_refused_with_counts(self, tmp_path):
        save_file(classifier("test_efficientnet"), tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"not weights of test_resnet: of \d+ tensors \d+ absent: .*nothing was"):
            Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))

    def test_of_a_whole_network_are_refused_with_the_setting_that_takes_them(self, tmp_path):
        segmenter = Segmenter(encoder="test_resnet", encoder_weights="none", num_classes=2, coarsest_stride=8)
        segmenter.save(tmp_path / "bundle.safetensors")
        with pytest.raises(WeightsError, match="set weights instead of encoder_weights"):
            Encoder("test_resnet", weights=str(tmp_path / "bundle.safetensors"))

    def test_may_have_any_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        state = classifier()
        torch.save(state, "encoder.ckpt")
        assert_same_weights(Encoder("test_resnet", weights="encoder.ckpt"), state)

    def test_with_another_shape_are_refused_by_name(self, tmp_path):
        state = classifier()
        state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:5].clone()
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"1 of another shape: layer1\.0\.conv1\.weight"):
            Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))

    def test_that_lack_a_tensor_are_refused_by_name(self, tmp_path):
        state = classifier()
        del state["layer2.0.bn1.running_mean"]
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"of \d+ tensors 1 absent: layer2\.0\.bn1\.running_mean"):
            Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))

    def test_that_are_absent_or_damaged_are_refused(self, tmp_path):
        with pytest.raises(WeightsError, match="no such file"):
            Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))
        (tmp_path / "w.safetensors").write_bytes(b"damaged")
        with pytest.raises(WeightsError, match="not a readable file of tensors"):
            Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))

    def test_pickled_code_is_refused_without_running_it(self, tmp_path):
        class Malicious:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        for file, write in (
            ("zip.pth", torch.save),
            ("plain.pth", lambda content, path: path.write_bytes(pickle.dumps(content))),
        ):
            write({"conv1.weight": Malicious()}, tmp_path / file)
            with pytest.raises(WeightsError, match=file):
                Encoder("test_resnet", weights=str(tmp_path / file))
        assert not (tmp_path / "executed").exists()


def test_random_weights_say_so_and_repeat_from_the_seed():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        encoder = Encoder("test_resnet", weights="none")
        states.append(encoder.state_dict())
    assert (encoder.source.kind, encoder.source.mean, encoder.source.std) == ("random", IMAGENET_MEAN, IMAGENET_STD)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_networks_with_weights_of_five_dimensions_can_be_laid_out_channels_last() -> None:
    network = channels_last(Encoder("lambda_resnet26t", weights="none").eval())
    assert {parameter.ndim for parameter in network.parameters()} >= {4, 5}
    assert all(
        parameter.is_contiguous(memory_format=torch.channels_last)
        for parameter in network.parameters()
        if parameter.ndim == 4
    )
    with torch.inference_mode():
        assert len(network(torch.rand(1, 3, 64, 64).to(memory_format=torch.channels_last))) == 4
