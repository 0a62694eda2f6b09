"""Networks of segmentation_models.pytorch, imported, give its own logits."""

import pytest
import torch
import torch.nn.functional as F

from peer import peer
from pyramidseg.model.imports.foreign_checkpoint import ImportOptions
from pyramidseg.model.imports.smp import import_checkpoint


@pytest.fixture
def imported(tmp_path):
    """Our network of one of theirs, by way of a file of its weights."""

    def through_a_file(theirs, *, encoder="resnet18", **options):
        torch.save(theirs.state_dict(), tmp_path / "weights.pth")
        given = ImportOptions(encoder=encoder, **options)
        return import_checkpoint(tmp_path / "weights.pth", library="smp", options=given).model

    return through_a_file


def assert_equal_logits(ours, theirs, *, height=64, width=96):
    """In float64 within 1e-9, in float32 within 1e-4."""
    image = torch.rand(2, ours.settings.in_channels, height, width, dtype=torch.float64)
    with torch.inference_mode():
        for number, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            ours, theirs = ours.to(number), theirs.to(number)
            expected = theirs(ours.normalize(image.to(number)))
            logits = ours(image.to(number))
            assert logits.shape == expected.shape
            assert expected.std() > 1e-3
            assert (logits - expected).abs().max() < tolerance


@pytest.mark.parametrize(
    ("depth", "policy", "channels"),
    [(5, "add", 1), (5, "add", 3), (5, "cat", 4), (4, "cat", 1), (4, "cat", 3), (4, "add", 4)],
)
def test_depths_merge_policies_and_channels(imported, depth, policy, channels):
    theirs = peer(
        encoder_depth=depth, upsampling={5: 4, 4: 2}[depth], decoder_merge_policy=policy, in_channels=channels
    )
    ours = imported(theirs)
    assert ours.settings.coarsest_stride == 2**depth
    assert_equal_logits(ours, theirs)


@pytest.mark.parametrize(
    ("encoder", "depth"),
    [("resnet34", 5), ("resnet50", 5), ("resnet50", 4), ("resnext50_32x4d", 5), ("se_resnet50", 4)],
)
def test_residual_encoders(imported, encoder, depth):
    theirs = peer(encoder, encoder_depth=depth, upsampling={5: 4, 4: 2}[depth])
    assert_equal_logits(imported(theirs, encoder=encoder), theirs, width=64)


@pytest.mark.parametrize(
    "encoder",
    [
        "timm-efficientnet-b0",
        "timm-tf_efficientnet_lite0",
        "tu-test_resnet",
        "tu-test_efficientnet",
        "tu-convnext_atto",
    ],
)
@pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated")
def test_encoders_of_timm(imported, encoder):
    theirs = peer(encoder)
    assert_equal_logits(imported(theirs, encoder=encoder), theirs, width=64)


@pytest.mark.parametrize("encoder", ["tu-test_resnet", "tu-test_efficientnet"])
def test_encoders_of_timm_at_depth_4(imported, encoder):
    theirs = peer(encoder, encoder_depth=4, upsampling=2)
    assert_equal_logits(imported(theirs, encoder=encoder), theirs, width=64)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "bilinear"])
def test_interpolations_of_the_top_down_path(imported, mode):
    theirs = peer(decoder_interpolation=mode)
    assert_equal_logits(imported(theirs, interpolation=mode), theirs)


def test_the_default_widths(imported):
    theirs = peer(decoder_pyramid_channels=256, decoder_segmentation_channels=128, classes=21)
    assert_equal_logits(imported(theirs), theirs)


@pytest.mark.parametrize(("depth", "height", "width"), [(5, 32, 32), (5, 64, 160), (4, 16, 48), (4, 80, 112)])
def test_sizes(imported, depth, height, width):
    theirs = peer(encoder_depth=depth, upsampling={5: 4, 4: 2}[depth], decoder_segmentation_channels=64)
    assert_equal_logits(imported(theirs), theirs, height=height, width=width)


def test_sizes_that_the_peer_rejects_are_padded_with_the_mean_colour(imported):
    theirs = peer().double()
    ours = imported(theirs).double()
    image = torch.rand(1, 3, 50, 70, dtype=torch.float64)
    with torch.inference_mode():
        normalized = ours.normalize(image)
        with pytest.raises(RuntimeError, match="divisible by 32"):
            theirs(normalized)
        expected = theirs(F.pad(normalized, (0, 26, 0, 14)))[..., :50, :70]
        torch.testing.assert_close(ours(image), expected, rtol=1e-9, atol=1e-9)


def test_at_depth_4_the_peers_masks_are_twice_the_image_and_ours_are_not(imported):
    theirs = peer(encoder_depth=4).double()  # upsampling is left at its default, 4
    ours = imported(theirs).double()
    image = torch.rand(1, 3, 48, 64, dtype=torch.float64)
    with torch.inference_mode():
        normalized = ours.normalize(image)
        assert theirs(normalized).shape[-2:] == (96, 128)
        assert ours(image).shape[-2:] == (48, 64)
        coarse = theirs.segmentation_head[0](theirs.decoder(theirs.encoder(normalized)))
        torch.testing.assert_close(ours.coarse_logits(image), coarse, rtol=1e-9, atol=1e-9)


def test_one_class_becomes_two_whose_softmax_is_its_sigmoid(imported):
    theirs = peer(classes=1, decoder_merge_policy="cat").double()
    ours = imported(theirs).double()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        logit = theirs(ours.normalize(image))
        background, foreground = ours(image).split(1, dim=1)
        assert not background.any()
        torch.testing.assert_close(foreground, logit, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours(image).softmax(1)[:, 1:], logit.sigmoid(), rtol=1e-9, atol=1e-9)
    assert ours.classes.names == ("background", "foreground")
