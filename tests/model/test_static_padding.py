import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from pyramidseg.model.inference import inference_copy, make_padding_static
from pyramidseg.model.segmenter import Segmenter


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, (3, 7)])
@pytest.mark.parametrize("stride", [1, 2, 4, (2, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_pads_as_timm_does_where_the_stride_divides_the_sides(kernel, stride, dilation):
    torch.manual_seed(0)
    model = nn.Sequential(Conv2dSame(4, 6, kernel, stride=stride, dilation=dilation, groups=2, bias=False))
    images = [torch.rand(1, 4, height, width) for height, width in ((4, 4), (8, 12), (20, 16))]
    expected = [model(image) for image in images]
    assert make_padding_static(model) == 1
    for image, result in zip(images, expected, strict=True):
        assert torch.equal(model(image), result)


@pytest.mark.parametrize("size", [(1, 1), (31, 65), (64, 96)])
def test_a_network_ported_from_tensorflow_predicts_the_same(size):
    torch.manual_seed(0)
    model = Segmenter(
        num_classes=3, encoder="tf_mobilenetv3_small_minimal_100", encoder_weights="none", pyramid_channels=16
    ).eval()
    copy = inference_copy(model)
    assert not any(isinstance(module, Conv2dSame) for module in copy.modules())
    assert any(isinstance(module, Conv2dSame) for module in model.modules())
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(copy(images), model(images), rtol=1e-4, atol=1e-6)
