import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.base.errors import ConfigError
from pyramidseg.model.encoder import Encoder
from pyramidseg.model.feature_levels import doubling_strides, find_levels
from pyramidseg.model.segmenter import Segmenter

STRIDES = (4, 8, 16, 32)


def test_strides_double_from_finest_to_coarsest():
    assert doubling_strides(2, 32) == (2, 4, 8, 16, 32)
    assert doubling_strides(4, 8) == (4, 8)


class TestBuilding:
    @pytest.mark.parametrize(
        ("name", "indices"),
        [
            ("test_resnet", (1, 2, 3, 4)),
            ("test_convnext", (0, 1, 2, 3)),  # no stride 2
            ("cspdarknet53", (2, 3, 4, 5)),  # has a stride 1 too
            ("tresnet_m", (1, 2, 3, 4)),  # no stride 2, but timm holds its place
        ],
    )
    def test_finds_the_maps_by_their_strides(self, name, indices):
        assert find_levels(name, STRIDES).indices == indices

    def test_tells_networks_of_one_size_to_take_any_where_they_can(self):
        assert find_levels("swin_tiny_patch4_window7_224", STRIDES).options == {"dynamic_img_size": True}
        assert find_levels("test_resnet", STRIDES).options == {}

    @pytest.mark.parametrize(
        ("name", "multiple"),
        [
            ("test_resnet", 32),
            ("swiftformer_xs", 32),
            ("mobilevitv2_050", 64),
            ("test_maxvit", 160),
            ("halonet26t", 256),
        ],
    )
    def test_finds_the_multiple_that_windows_ask_for(self, name, multiple):
        assert find_levels(name, STRIDES).size_multiple == multiple

    def test_leaves_random_numbers_alone(self):
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        find_levels.__wrapped__("swiftformer_xs", STRIDES)  # the one kind whose trial has weights
        assert torch.equal(torch.rand(3), expected)


class TestRefusals:
    """Each is raised by `Segmenter` before weights are asked for: there is no network here."""

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("vit_tiny_patch16_224", r"maps have strides \[16, 16, 16\], and the pyramid needs \[4, 8, 16, 32\]"),
            ("levit_128s", r"maps have strides \[16, 32, 64\], and the pyramid needs \[4, 8, 16, 32\]"),
            ("test_coatnet", r"timm builds it for images of 160x160 pixels only \(at 160x480 "),
            ("botnet26t_256", r"timm builds it for images of 256x256 pixels only \(at 256x768 AssertionError\)"),
            ("mvitv2_tiny", r"timm builds it for images of 224x224 pixels only \(at 32x480 index "),
            ("inception_v3", r"maps do not fit the pyramid \(at 320x320 the map of stride 4 is 76x76, not 80x80\)"),
        ],
    )
    def test_name_the_reason(self, name, message):
        with pytest.raises(ConfigError, match=rf"^encoder={name}: .*{message}.*choose another network"):
            Segmenter(num_classes=2, encoder=name)

    @pytest.mark.parametrize(
        ("name", "finest", "coarsest", "message"),
        [
            ("test_convnext", 2, 32, r"\[4, 8, 16, 32\], and the pyramid needs \[2, 4, 8, 16, 32\]"),
            ("test_convnext", 2, 16, r"\[4, 8, 16, 32\], and the pyramid needs \[2, 4, 8, 16\]"),
            ("csatv2", 4, 16, r"\[8, 16, 32, 64\], and the pyramid needs \[4, 8, 16\]"),
            ("visformer_tiny", 4, 8, r"\[8, 16, 32\], and the pyramid needs \[4, 8\]"),
        ],
    )
    def test_of_a_missing_stride_name_those_that_there_are(self, name, finest, coarsest, message):
        with pytest.raises(ConfigError, match=message):
            Encoder(name, weights="none", finest_stride=finest, coarsest_stride=coarsest)

    def test_of_cutting_what_timm_cannot_cut_names_the_stride_that_can_be_had(self):
        with pytest.raises(ConfigError, match=r"encoder=xception41 coarsest_stride=16: .* set coarsest_stride=32"):
            Encoder("xception41", weights="none", coarsest_stride=16)

    @pytest.mark.parametrize("coarsest", [8, 16])
    def test_do_not_ask_for_coarser_strides_than_wanted(self, coarsest):
        encoder = Encoder("test_convnext", weights="none", coarsest_stride=coarsest)
        assert len(encoder(torch.rand(1, 3, 16, 32))) == len(encoder.strides)


class TestWindows:
    @given(height=st.integers(1, 200), width=st.integers(1, 200))
    @settings(max_examples=10, deadline=None)
    def test_images_of_any_size_give_logits_of_their_size(self, height, width):
        assert SEGMENTER(torch.rand(1, 3, height, width)).shape == (1, 2, height, width)

    def test_maps_are_those_of_the_padded_image_cropped(self):
        encoder = SEGMENTER.encoder
        image = torch.rand(2, 3, 64, 192)
        whole = encoder.network(F.pad(image, (0, 320 - 192, 0, 160 - 64)))
        for level, padded, stride in zip(encoder(image), whole, STRIDES, strict=True):
            assert torch.equal(level, padded[:, :, : 64 // stride, : 192 // stride])


SEGMENTER = Segmenter(num_classes=2, encoder="test_maxvit", encoder_weights="none").eval()


def test_a_network_told_to_take_any_size_is_the_same_at_its_own(tmp_path):
    torch.manual_seed(2)
    name = "swin_tiny_patch4_window7_224"
    strict = timm.create_model(name, features_only=True).eval()
    encoder = Encoder(name, weights="none").eval()
    encoder.network.load_state_dict(strict.state_dict())
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        for own, theirs in zip(encoder(image), strict(image), strict=True):
            torch.testing.assert_close(own, theirs.permute(0, 3, 1, 2))
